"""Handlers as authors of connectors write them, for the tests of the authoring contract.

Deliberately without ``from __future__ import annotations``: authors' annotations are evaluated.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

import cocoindex as coco
from cocoindex._internal.context_keys import ContextProvider


@dataclass(frozen=True, slots=True)
class SlottedRecord:
    fingerprint: bytes


class TupleRecord(NamedTuple):
    name: str
    teardown: str


class StructRecord(msgspec.Struct, frozen=True):
    fingerprint: bytes


class DirKey(NamedTuple):
    path: str


class Recorder:
    """Base of the test handlers: logs reconciles and actions, upserts what differs."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Any, list[Any], bool]] = []
        self.applied: list[list[Any]] = []
        self.sink = coco.TargetActionSink.from_fn(self.apply)

    def apply(self, context_provider: ContextProvider, actions: Sequence[Any]) -> None:
        self.applied.append(list(actions))

    def record(self, desired: Any) -> Any:
        return desired

    def decide(self, key: Any, desired: Any, prev: Collection[Any], missing: bool) -> Any:
        self.seen.append((key, desired, list(prev), missing))
        if coco.is_non_existence(desired):
            return coco.TargetReconcileOutput(
                action=("delete", key), sink=self.sink, tracking_record=coco.NON_EXISTENCE
            )
        if not missing and all(one == self.record(desired) for one in prev):
            return None
        return coco.TargetReconcileOutput(
            action=("upsert", key), sink=self.sink, tracking_record=self.record(desired)
        )

    def actions(self) -> list[Any]:
        """Actions since the last call."""
        flat = [action for batch in self.applied for action in batch]
        self.applied.clear()
        return flat


class Annotated(Recorder):
    def reconcile(self, key: str, desired: Any, prev: Collection[bytes], missing: bool, /) -> Any:
        return self.decide(key, desired, prev, missing)


def declare(provider: Any, states: dict[Any, Any]) -> None:
    for key, value in states.items():
        coco.declare_target_state(provider.target_state(key, value))


class Container(Recorder):
    """A container whose children go to ``children``."""

    def __init__(self, children: Any) -> None:
        super().__init__()
        self.children = children
        self.sink = coco.TargetActionSink.from_fn(self.hand_out)
        self.invalidation: Any = None

    def hand_out(
        self, context_provider: ContextProvider, actions: Sequence[Any]
    ) -> list[coco.ChildTargetDef[Any] | None]:
        self.applied.append(list(actions))
        return [
            None if verb == "delete" else coco.ChildTargetDef(handler=self.children)
            for verb, _ in actions
        ]

    def reconcile(
        self, key: DirKey, desired: Any, prev: Collection[bytes], missing: bool, /
    ) -> coco.TargetReconcileOutput[Any, bytes, Any]:
        self.seen.append((key, desired, list(prev), missing))
        if coco.is_non_existence(desired):
            return coco.TargetReconcileOutput(("delete", key), self.sink, coco.NON_EXISTENCE)
        return coco.TargetReconcileOutput(
            action=("ensure", key),
            sink=self.sink,
            tracking_record=b"dir",
            child_invalidation=self.invalidation,
        )


async def fill(provider: Any, path: str, states: dict[str, bytes]) -> None:
    declare(await coco.mount_target(provider.target_state(DirKey(path), None)), states)
