"""Paths of the local file system."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Self

import cocoindex as coco
from cocoindex.errors import UsageTypeError
from cocoindex.resources._hints import kind_of
from cocoindex.resources._paths import FilePath as BaseFilePath
from cocoindex.resources._paths import as_pure_path

__all__ = ["FilePath", "to_file_path"]


class FilePath(BaseFilePath[Path]):
    """A local path, optionally below a directory that is a context value.

    Args:
        path: the path below ``base_dir``; without a base, absolute or relative to the current
            directory.
        base_dir: context key of the directory. The tree can move without losing memos or
            tracking, as long as the key stays.
    """

    __slots__ = ()

    def __init__(
        self, path: str | PurePath = ".", *, base_dir: coco.ContextKey[Path] | None = None
    ) -> None:
        super().__init__(base_dir, as_pure_path(path))

    def resolve(self) -> Path:
        """The absolute path, links resolved. With a base it needs a running component."""
        if self._base_dir is None:
            return Path(self.path).resolve()
        base: Path = coco.use_context(self._base_dir)
        return (base / self.path).resolve()

    def _with_path(self, path: PurePath) -> Self:
        new = object.__new__(type(self))
        new._base_dir = self._base_dir
        new._path = path
        new._text = None
        return new


def to_file_path(path: FilePath | PurePath | str | coco.ContextKey[Path]) -> FilePath:
    """What a connector function takes as a path, as a :class:`FilePath`."""
    if isinstance(path, FilePath):
        return path
    if isinstance(path, coco.ContextKey):
        return FilePath(base_dir=path)
    if isinstance(path, str | PurePath):
        return FilePath(path)
    raise UsageTypeError(
        "a path must be a localfs.FilePath, a pathlib.Path, a str or a ContextKey, not "
        f"{kind_of(path)}"
    )
