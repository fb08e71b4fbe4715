"""Directories and the files in them: "Implementing container targets".

The code is the guide's; its ``...`` are filled in. Added: what marks a change of the directory
as destructive (another layout) or lossy (another encoding), and a log of reconcile calls.
"""

# ruff: noqa: UP035  (imports as the guide writes them)

import pathlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Collection, NamedTuple, cast

from cocoindex._internal.context_keys import ContextProvider

import cocoindex as coco
from cocoindex.connectorkits.fingerprint import fingerprint_bytes

seen: list[tuple[Any, Any, list[Any], bool]] = []
"""``(key, desired, previous records, may be missing)`` of every reconcile call."""


class _DirKey(NamedTuple):
    path: str


@dataclass
class _DirSpec:
    layout: int = 1
    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class _DirTrackingRecord:
    layout: int
    encoding: str


class _DirAction(NamedTuple):
    path: pathlib.Path
    should_delete: bool
    start_empty: bool = False


@dataclass
class _EntrySpec:
    content: bytes


@dataclass(frozen=True, slots=True)
class _EntryTrackingRecord:
    fingerprint: bytes


class _EntryAction(NamedTuple):
    path: pathlib.Path
    content: bytes | None


# -- Step 1: Define parent and child handlers, with "Child invalidation"


# Parent handler for directory
class _DirHandler(coco.TargetHandler[_DirKey, _DirSpec, _DirTrackingRecord]):
    def __init__(self) -> None:
        self._sink = coco.TargetActionSink.from_fn(_apply_dir_actions)

    def _is_destructive_change(
        self, desired_state: _DirSpec, prev_possible_states: Collection[_DirTrackingRecord]
    ) -> bool:
        return any(prev.layout != desired_state.layout for prev in prev_possible_states)

    def _is_lossy_change(
        self, desired_state: _DirSpec, prev_possible_states: Collection[_DirTrackingRecord]
    ) -> bool:
        return any(prev.encoding != desired_state.encoding for prev in prev_possible_states)

    def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
        # Reconcile the directory itself
        seen.append((key, desired_state, list(prev_possible_states), prev_may_be_missing))
        if coco.is_non_existence(desired_state):
            return coco.TargetReconcileOutput(
                action=_DirAction(path=pathlib.Path(key.path), should_delete=True),
                sink=self._sink,
                tracking_record=coco.NON_EXISTENCE,
            )
        # Detect if the container change is destructive or lossy
        invalidation = None
        if self._is_destructive_change(desired_state, prev_possible_states):
            invalidation = "destructive"
        elif self._is_lossy_change(desired_state, prev_possible_states):
            invalidation = "lossy"

        return coco.TargetReconcileOutput(
            action=_DirAction(
                path=pathlib.Path(key.path),
                should_delete=False,
                start_empty=invalidation == "destructive",
            ),
            sink=self._sink,
            tracking_record=_DirTrackingRecord(desired_state.layout, desired_state.encoding),
            child_invalidation=invalidation,
        )


# Child handler for entries within a directory
class _EntryHandler(coco.TargetHandler[str, _EntrySpec, _EntryTrackingRecord]):
    def __init__(self, base_path: pathlib.Path):
        self._base_path = base_path

    def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
        # Reconcile files/subdirs within the directory
        seen.append((key, desired_state, list(prev_possible_states), prev_may_be_missing))
        path = self._base_path / key
        if coco.is_non_existence(desired_state):
            return coco.TargetReconcileOutput(
                action=_EntryAction(path, None),
                sink=_entry_sink,
                tracking_record=coco.NON_EXISTENCE,
            )
        fp = fingerprint_bytes(desired_state.content)
        if not prev_may_be_missing and all(p.fingerprint == fp for p in prev_possible_states):
            return None
        return coco.TargetReconcileOutput(
            action=_EntryAction(path, desired_state.content),
            sink=_entry_sink,
            tracking_record=_EntryTrackingRecord(fp),
        )


def _apply_entry_actions(
    context_provider: ContextProvider, actions: Sequence[_EntryAction]
) -> None:
    for action in actions:
        if action.content is None:
            action.path.unlink(missing_ok=True)
        else:
            action.path.write_bytes(action.content)


_entry_sink = coco.TargetActionSink.from_fn(_apply_entry_actions)


# -- Step 2: Return child handlers from the sink


def _apply_dir_actions(
    context_provider: ContextProvider,
    actions: Sequence[_DirAction],
) -> list[coco.ChildTargetDef[_EntryHandler] | None]:
    outputs = []
    for action in actions:
        if action.start_empty:
            shutil.rmtree(action.path, ignore_errors=True)
        if action.should_delete:
            shutil.rmtree(action.path, ignore_errors=True)
            outputs.append(None)  # No child handler for deleted directories
        else:
            action.path.mkdir(parents=True, exist_ok=True)
            # Return child handler with the created path
            outputs.append(coco.ChildTargetDef(handler=_EntryHandler(action.path)))
    return outputs


_root_provider = coco.register_root_target_states_provider("mycompany.io/dir", _DirHandler())


# -- Step 3: Create user-facing API


class DirTarget:
    """User-facing API for declaring files in a directory."""

    def __init__(self, provider: coco.TargetStatesProvider[str, _EntrySpec, None]):
        self._provider = provider

    def declare_file(self, filename: str, content: bytes) -> None:
        spec = _EntrySpec(content=content)
        target_state = cast(
            coco.TargetState[None],
            self._provider.target_state(filename, spec),
        )
        coco.declare_target_state(target_state)


@coco.fn
def declare_dir_target(path: pathlib.Path) -> DirTarget:
    """Declare a directory target and return an API for declaring files."""
    parent_ts = _root_provider.target_state(
        key=_DirKey(path=str(path)),
        spec=_DirSpec(),
    )
    # Child provider is pending until parent sink runs
    child_provider = coco.declare_target_state_with_child(parent_ts)
    return DirTarget(child_provider)


# -- Programs that use it


async def keep_files(path: pathlib.Path, files: dict[str, bytes]) -> DirTarget:
    target = await coco.use_mount(coco.component_subpath("dir"), declare_dir_target, path)
    for name, content in files.items():
        target.declare_file(name, content)
    return target


async def keep_files_with(path: pathlib.Path, files: dict[str, bytes], spec: _DirSpec) -> None:
    state = _root_provider.target_state(key=_DirKey(path=str(path)), spec=spec)
    target = DirTarget(await coco.mount_target(state))
    for name, content in files.items():
        target.declare_file(name, content)
