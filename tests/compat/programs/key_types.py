"""The fragments of "Key data types" and "Shared action sinks", joined into a working connector.

An entry is a file; an entry that is a "directory" is a file too (its title page), and its
children are stored beside it as ``<entry>.<child>``.
"""

# ruff: noqa: UP035  (imports as the guide writes them)

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Collection, NamedTuple

from cocoindex._internal.context_keys import ContextProvider

import cocoindex as coco

# -- Tracking record (you define)


# Example: File tracking record
@dataclass(frozen=True, slots=True)
class _FileTrackingRecord:
    fingerprint: bytes  # Content hash for change detection


from cocoindex.connectorkits.fingerprint import (  # noqa: E402
    fingerprint_bytes,
    fingerprint_object,
    fingerprint_str,
)


def fingerprints(content: bytes, text: str, obj: object) -> tuple[bytes, bytes, bytes]:
    # For raw bytes
    fp = fingerprint_bytes(content)
    first = fp
    # For strings
    fp = fingerprint_str(text)
    second = fp
    # For arbitrary objects (uses memo key mechanism)
    fp = fingerprint_object(obj)
    return first, second, fp


# -- Action and TargetActionSink (you implement)


# Example: File action
class _FileAction(NamedTuple):
    path: pathlib.Path
    content: bytes | None  # None means delete
    is_directory: bool = False


class _IndexHandler:
    """An attachment handler without a base class."""

    def __init__(self, path: pathlib.Path):
        self._path = path

    def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
        path = pathlib.Path(f"{self._path}@{key}")
        if coco.is_non_existence(desired_state):
            action = _FileAction(path, None)
            return coco.TargetReconcileOutput(action, _leaf_sink, coco.NON_EXISTENCE)
        fp = fingerprint_str(desired_state)
        if not prev_may_be_missing and all(prev == fp for prev in prev_possible_states):
            return None
        return coco.TargetReconcileOutput(_FileAction(path, desired_state.encode()), _leaf_sink, fp)


class _ChildHandler(coco.TargetHandler[str, bytes, _FileTrackingRecord, None]):
    def __init__(self, path: pathlib.Path):
        self._path = path

    def reconcile(
        self,
        key: str,
        desired_state: bytes | coco.NonExistenceType,
        prev_possible_states: Collection[_FileTrackingRecord],
        prev_may_be_missing: bool,
        /,
    ) -> coco.TargetReconcileOutput[_FileAction, _FileTrackingRecord, None] | None:
        path = pathlib.Path(f"{self._path}.{key}")
        if coco.is_non_existence(desired_state):
            return coco.TargetReconcileOutput(
                _FileAction(path, None), _async_leaf_sink, coco.NON_EXISTENCE
            )
        fp = fingerprint_bytes(desired_state)
        if not prev_may_be_missing and all(p.fingerprint == fp for p in prev_possible_states):
            return None
        return coco.TargetReconcileOutput(
            _FileAction(path, desired_state), _async_leaf_sink, _FileTrackingRecord(fp)
        )

    # Optional: override to support attachment types (see "Implementing attachment providers")
    def attachment(self, att_type: str) -> coco.TargetHandler[Any] | None:
        if att_type == "vector_index":
            return _IndexHandler(self._path)
        return None  # Default: no attachments


def apply_actions(
    context_provider: ContextProvider,
    actions: Sequence[_FileAction],
) -> list[coco.ChildTargetDef[_ChildHandler] | None]:
    outputs: list[coco.ChildTargetDef[_ChildHandler] | None] = []
    for action in actions:
        if action.content is None:
            action.path.unlink(missing_ok=True)
            outputs.append(None)
        else:
            action.path.write_bytes(action.content)
            # Return child handler for directories
            if action.is_directory:
                outputs.append(coco.ChildTargetDef(handler=_ChildHandler(action.path)))
            else:
                outputs.append(None)
    return outputs


async def apply_actions_async(
    context_provider: ContextProvider, actions: Sequence[_FileAction]
) -> None:
    apply_actions(context_provider, actions)


# Sync sink
sink = coco.TargetActionSink.from_fn(apply_actions)

# Async sink
_async_leaf_sink = coco.TargetActionSink.from_async_fn(apply_actions_async)


# -- Shared action sinks


def _apply_actions(context_provider: ContextProvider, actions: Sequence[_FileAction]) -> None:
    apply_actions(context_provider, actions)


# Module-level shared sink
_leaf_sink = coco.TargetActionSink.from_fn(_apply_actions)


class _Entry(NamedTuple):
    content: bytes
    is_directory: bool


class _EntryHandler(coco.TargetHandler[str, _Entry, _FileTrackingRecord, _ChildHandler]):
    base: pathlib.Path

    def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
        assert all(isinstance(prev, _FileTrackingRecord) for prev in prev_possible_states)
        path = self.base / key
        if coco.is_non_existence(desired_state):
            return coco.TargetReconcileOutput(_FileAction(path, None), sink, coco.NON_EXISTENCE)
        return coco.TargetReconcileOutput(
            action=_FileAction(path, desired_state.content, desired_state.is_directory),
            sink=sink,
            tracking_record=_FileTrackingRecord(fingerprint_bytes(desired_state.content)),
        )


handler = _EntryHandler()

# -- TargetStatesProvider (CocoIndex provides)

# You get a provider from registration
provider: coco.TargetStatesProvider[str, _Entry, _ChildHandler] = (
    coco.register_root_target_states_provider("my.target", handler)
)


@coco.fn
def declare_entry(key: str, content: bytes) -> Any:
    parent_target_state = provider.target_state(key, _Entry(content, is_directory=True))
    # Or from declaring a parent target state
    child_provider = coco.declare_target_state_with_child(parent_target_state)
    return child_provider


async def book(title: str, chapters: dict[str, bytes], indexes: dict[str, str]) -> Any:
    child_provider = await coco.use_mount(declare_entry, "book", title.encode())
    for name, text in chapters.items():
        coco.declare_target_state(child_provider.target_state(name, text))
    if indexes:
        # Or from an attachment on a resolved child provider
        att_provider = child_provider.attachment("vector_index")
        for name, spec in indexes.items():
            # Create a target state
            target_state = att_provider.target_state(name, spec)
            # Declare it for reconciliation
            coco.declare_target_state(target_state)
    return child_provider


def leaflet(text: bytes) -> None:
    key, spec = "leaflet", _Entry(text, is_directory=False)
    # Create a target state
    target_state = provider.target_state(key, spec)
    # Declare it for reconciliation
    coco.declare_target_state(target_state)
