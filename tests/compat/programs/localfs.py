"""The complete example of the guide, and a program around it that a test starts and kills.

Usage: localfs.py DB SOURCE_DIR TARGET_DIR MODE [CRASH]

Copies every file of SOURCE_DIR to TARGET_DIR, in capitals. MODE is ``root`` (one component) or
``files`` (one memoized component per file). With CRASH the process dies right after it wrote or
removed a file whose name contains that text: after the sink did its work, before the commit.
"""

# ruff: noqa: UP035  (imports as the guide writes them)

from __future__ import annotations

import os
import pathlib
import sys
from dataclasses import dataclass
from typing import Collection, NamedTuple, Sequence

from cocoindex._internal.context_keys import ContextProvider

import cocoindex as coco
from cocoindex.connectorkits.fingerprint import fingerprint_bytes

# Types
_FileName = str
_FileContent = bytes
_FileFingerprint = bytes


class _FileAction(NamedTuple):
    path: pathlib.Path
    content: _FileContent | None  # None = delete


@dataclass(frozen=True, slots=True)
class _FileTrackingRecord:
    fingerprint: _FileFingerprint


# Action execution
def _apply_actions(context_provider: ContextProvider, actions: Sequence[_FileAction]) -> None:
    for action in actions:
        if action.content is None:
            action.path.unlink(missing_ok=True)
        else:
            action.path.parent.mkdir(parents=True, exist_ok=True)
            action.path.write_bytes(action.content)


_file_sink = coco.TargetActionSink[_FileAction, None].from_fn(_apply_actions)


# Handler
class _FileHandler(coco.TargetHandler[_FileName, _FileContent, _FileTrackingRecord]):
    __slots__ = ("_base_path",)
    _base_path: pathlib.Path

    def __init__(self, base_path: pathlib.Path):
        self._base_path = base_path

    def reconcile(
        self,
        key: _FileName,
        desired_state: _FileContent | coco.NonExistenceType,
        prev_possible_states: Collection[_FileTrackingRecord],
        prev_may_be_missing: bool,
        /,
    ) -> coco.TargetReconcileOutput[_FileAction, _FileTrackingRecord] | None:
        path = self._base_path / key

        if coco.is_non_existence(desired_state):
            if not prev_possible_states and not prev_may_be_missing:
                return None
            return coco.TargetReconcileOutput(
                action=_FileAction(path=path, content=None),
                sink=_file_sink,
                tracking_record=coco.NON_EXISTENCE,
            )

        target_fp = fingerprint_bytes(desired_state)
        if not prev_may_be_missing and all(
            prev.fingerprint == target_fp for prev in prev_possible_states
        ):
            return None

        return coco.TargetReconcileOutput(
            action=_FileAction(path=path, content=desired_state),
            sink=_file_sink,
            tracking_record=_FileTrackingRecord(fingerprint=target_fp),
        )


# -- The program around the example


class _TargetPath(type(pathlib.Path())):  # type: ignore[misc]
    """A path that prints what is done to it, and kills the process where it is told to."""

    crash: str | None = None

    def write_bytes(self, data: bytes) -> int:
        written: int = super().write_bytes(data)
        self._did("write")
        return written

    def unlink(self, missing_ok: bool = False) -> None:
        super().unlink(missing_ok=missing_ok)
        self._did("unlink")

    def _did(self, what: str) -> None:
        print(what, self.name, flush=True)
        if self.crash is not None and self.crash in self.name:
            os._exit(7)


Provider = coco.TargetStatesProvider[_FileName, _FileContent, None]


@coco.fn(memo=True)
def process_file(name: str, content: bytes, provider: Provider) -> None:
    print(f"process {name}\n", end="", flush=True)  # one write: bodies run on several threads
    coco.declare_target_state(provider.target_state(name, content.upper()))


async def main(source: pathlib.Path, mode: str, provider: Provider) -> None:
    for path in sorted(source.iterdir()):
        content = path.read_bytes()
        if mode == "root":
            coco.declare_target_state(provider.target_state(path.name, content.upper()))
        else:
            where = coco.component_subpath("file", path.name)
            await coco.mount(where, process_file, path.name, content, provider)


def run(db: str, source: str, target: str, mode: str, crash: str | None = None) -> None:
    _TargetPath.crash = crash
    provider = coco.register_root_target_states_provider(
        "mycompany.io/localfs", _FileHandler(_TargetPath(target))
    )
    environment = coco.Environment(coco.Settings(db_path=pathlib.Path(db)))
    config = coco.AppConfig(name="localfs", environment=environment)
    coco.App(config, main, pathlib.Path(source), mode, provider).update_blocking()


if __name__ == "__main__":
    run(*sys.argv[1:])
