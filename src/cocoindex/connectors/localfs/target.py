"""Files and directories as a target."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Coroutine
from pathlib import Path, PurePath
from typing import Any, Final, Generic

import cocoindex as coco
from cocoindex.connectorkits.fingerprint import fingerprint_bytes
from cocoindex.connectors.localfs._entries import (
    DirSpec,
    FileSpec,
    OnConflict,
    RootKey,
    is_relative_without_base,
    make_options,
)
from cocoindex.connectors.localfs._handlers import EntryHandler, RootHandler
from cocoindex.connectors.localfs._names import normalize, unusable
from cocoindex.connectors.localfs.path import FilePath, to_file_path
from cocoindex.errors import UsageTypeError, UsageValueError
from cocoindex.resources._hints import kind_of

__all__ = [
    "DirTarget",
    "declare_dir_target",
    "declare_file",
    "dir_target",
    "mount_dir_target",
]

_root: Final = coco.register_root_target_states_provider("cocoindex/localfs", RootHandler())


class DirTarget(coco.ResolvesTo["DirTarget"], Generic[coco.MaybePendingS]):
    """A directory that declared files are kept in step with."""

    __slots__ = ("_provider",)

    def __init__(self, provider: Any) -> None:
        self._provider = provider

    def declare_file(
        self,
        filename: str | PurePath,
        content: bytes | str,
        *,
        create_parent_dirs: bool = False,
    ) -> None:
        """Declare one file.

        Args:
            filename: relative to this directory; may have several components.
            content: ``str`` is written as UTF-8.
            create_parent_dirs: make missing directories between this one and the file; they
                go again when they are left empty.

        Raises:
            ValueError: the name is absolute, empty, or leads out of the directory.
        """
        name = normalize(filename)
        parents = create_parent_dirs and "/" in name
        spec = _file_spec(content, parents)
        coco.declare_target_state(self._provider.target_state(name, spec))

    def declare_dir_target(
        self, path: str | PurePath, *, create_parent_dirs: bool = False
    ) -> DirTarget[coco.PendingS]:
        """Declare a directory below this one, written with the same options.

        Use it as ``await coco.use_mount(subpath, target.declare_dir_target, "name")``.

        Raises:
            ValueError: as :meth:`declare_file`.
        """
        state = self._provider.target_state(normalize(path), DirSpec(create_parent_dirs))
        return DirTarget(coco.declare_target_state_with_child(state))

    def __coco_memo_key__(self) -> object:
        return self._provider.memo_key


def dir_target(
    path: FilePath | Path | coco.ContextKey[Path],
    *,
    create_parent_dirs: bool = True,
    fsync: bool = True,
    mode: int | None = None,
    purge_foreign: bool = False,
    on_conflict: OnConflict = "overwrite",
) -> coco.TargetState[EntryHandler]:
    """A directory as a target state, for ``coco.mount_target``.

    Files are replaced in one step: a reader never sees half a file.

    Args:
        path: the directory; a context key stands for the directory it provides.
        create_parent_dirs: make missing parents of the directory.
        fsync: have content survive a power loss. Without it only atomicity remains.
        mode: permission bits of written files; None keeps those of an existing file.
        purge_foreign: when the directory is undeclared, remove files of others with it.
        on_conflict: what to do about a file of others under a name declared for the first
            time.

    Raises:
        ValueError: an option is out of range.
    """
    options = make_options(fsync, mode, purge_foreign, on_conflict)
    file_path = to_file_path(path)
    key, resolved = _root_key(file_path)
    state: coco.TargetState[EntryHandler] = _root.target_state(
        key, DirSpec(create_parent_dirs, options, resolved, _shown(file_path))
    )
    return state


def declare_dir_target(
    path: FilePath | Path | coco.ContextKey[Path],
    *,
    create_parent_dirs: bool = True,
    fsync: bool = True,
    mode: int | None = None,
    purge_foreign: bool = False,
    on_conflict: OnConflict = "overwrite",
) -> DirTarget[coco.PendingS]:
    """As :func:`dir_target`, declared in the current component, for ``coco.use_mount``."""
    state = dir_target(
        path,
        create_parent_dirs=create_parent_dirs,
        fsync=fsync,
        mode=mode,
        purge_foreign=purge_foreign,
        on_conflict=on_conflict,
    )
    return DirTarget(coco.declare_target_state_with_child(state))


def mount_dir_target(
    path: FilePath | Path | coco.ContextKey[Path],
    *,
    create_parent_dirs: bool = True,
    fsync: bool = True,
    mode: int | None = None,
    purge_foreign: bool = False,
    on_conflict: OnConflict = "overwrite",
) -> Coroutine[Any, Any, DirTarget[coco.ResolvedS]]:
    """As :func:`dir_target`, mounted and ready to declare files in, once it is awaited."""
    state = dir_target(
        path,
        create_parent_dirs=create_parent_dirs,
        fsync=fsync,
        mode=mode,
        purge_foreign=purge_foreign,
        on_conflict=on_conflict,
    )
    # Called here: the component notices a mount that it has forgotten to await. Else everything
    # in the directory would go, as if nobody mounted it any more.
    return _mounted(coco.mount_target(state))


async def _mounted(mount: Awaitable[Any]) -> DirTarget[coco.ResolvedS]:
    return DirTarget(await mount)


_mounted.__qualname__ = "mount_dir_target"  # Python warns of a forgotten await by this name


def declare_file(
    path: FilePath | Path | coco.ContextKey[Path],
    content: bytes | str,
    *,
    create_parent_dirs: bool = False,
) -> None:
    """Declare one file that belongs to no directory target.

    Args:
        path: where; relative paths without a base start at the current directory.
        content: ``str`` is written as UTF-8.
        create_parent_dirs: make missing parent directories.

    Raises:
        ValueError: the path names no file.
    """
    file_path = to_file_path(path)
    if file_path.name in ("", ".."):
        raise UsageValueError(f"declare_file: {file_path!r} names no file")
    key, resolved = _root_key(file_path)
    spec = _file_spec(content, create_parent_dirs, resolved)
    spec = spec._replace(shown=_shown(file_path))
    coco.declare_target_state(_root.target_state(key, spec))


def _root_key(path: FilePath) -> tuple[RootKey, str | None]:
    """The tracked key, and where it leads if that depends on the working directory."""
    text = path.as_posix()
    if why := unusable(text):
        raise UsageValueError(f"path {text!r} {why}")
    if path.base_dir is None:
        key = RootKey(None, text)
    else:
        key = RootKey(path.base_dir.key, text)
        _check_below_base(key, path.path)
    if not is_relative_without_base(key):
        return key, None
    return key, os.path.abspath(text).replace(os.sep, "/")


def _check_below_base(key: RootKey, path: PurePath) -> None:
    # The drive: a Windows path may have one without being absolute.
    if path.is_absolute() or path.drive or ".." in path.parts:
        raise UsageValueError(
            f"path {key.path!r} leads out of its base_dir, the value of context key {key.base!r}; "
            "provide the directory that it should be relative to under a key of its own"
        )


def _shown(path: FilePath) -> str:
    """Where a path with a base lies now, for people; empty where that can't be told.

    Not by ``use_context``: memos must not depend on where the tree is.
    """
    if path.base_dir is None:
        return ""
    try:
        run = coco.get_component_context().execution.run
        base = run.context_provider.get(path.base_dir.key)
        return Path(base, path.path).as_posix()
    except (RuntimeError, KeyError, TypeError):
        return ""  # what is wrong is said when the target is written


def _file_spec(content: bytes | str, create_parents: bool, root: str | None = None) -> FileSpec:
    if isinstance(content, str):
        data = content.encode("utf-8")
    elif isinstance(content, bytes | bytearray | memoryview):
        data = bytes(content)
    else:
        raise UsageTypeError(f"content must be bytes or str, not {kind_of(content)}")
    return FileSpec(data, fingerprint_bytes(data), create_parents, root)
