"""Paths that keep their identity when the tree they belong to moves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from cocoindex.errors import UsageTypeError, UsageValueError
from cocoindex.resources._hints import kind_of

if TYPE_CHECKING:
    from cocoindex import ContextKey

__all__ = ["FilePath", "ResolvedPath"]

ResolvedPath = TypeVar("ResolvedPath")


class FilePath(ABC, Generic[ResolvedPath]):
    """A path relative to a base directory that is a context value.

    Two file paths are equal if the *name* of their base and their path are; where the base
    lies does not matter. So memos and tracking survive moving the tree.

    Args:
        base_dir: key of the base directory, or None.
        path: the path below it.
    """

    __slots__ = ("_base_dir", "_path", "_text")

    def __init__(self, base_dir: ContextKey[Any] | None, path: PurePath) -> None:
        self._base_dir = base_dir
        self._path: PurePath | None = path
        self._text: str | None = None

    @abstractmethod
    def resolve(self) -> ResolvedPath:
        """The path in the backend's own terms."""

    @abstractmethod
    def _with_path(self, path: PurePath) -> Self:
        """The same kind of path, with the same base."""

    def below(self, base_text: str, relative: str) -> Self:
        """``self / relative`` for normalised POSIX text; its path object is made on demand.

        ``base_text`` is ``self.as_posix()``, passed in so that a walk asks for it once.
        """
        new = object.__new__(type(self))
        new._base_dir = self._base_dir
        new._path = None
        new._text = relative if base_text == "." else f"{base_text.rstrip('/')}/{relative}"
        return new

    @property
    def base_dir(self) -> ContextKey[Any] | None:
        """Key of the base directory, or None."""
        return self._base_dir

    @property
    def path(self) -> PurePath:
        """The path below the base."""
        path = self._path
        if path is None:
            path = self._path = PurePath(self.as_posix())
        return path

    @property
    def parent(self) -> Self:
        return self._with_path(self.path.parent)

    @property
    def parents(self) -> tuple[Self, ...]:
        return tuple(self._with_path(p) for p in self.path.parents)

    @property
    def name(self) -> str:
        path = self._path
        return self.as_posix().rpartition("/")[2] if path is None else path.name

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def suffix(self) -> str:
        return self.path.suffix

    @property
    def suffixes(self) -> list[str]:
        return self.path.suffixes

    @property
    def parts(self) -> tuple[str, ...]:
        return self.path.parts

    def with_name(self, name: str) -> Self:
        return self._with_path(self.path.with_name(name))

    def with_stem(self, stem: str) -> Self:
        return self._with_path(self.path.with_stem(stem))

    def with_suffix(self, suffix: str) -> Self:
        return self._with_path(self.path.with_suffix(suffix))

    def with_segments(self, *segments: str | PurePath) -> Self:
        """A path made of ``segments`` alone, with this path's base."""
        return self._with_path(type(self.path)(*segments))

    def joinpath(self, *others: str | PurePath) -> Self:
        return self._with_path(self.path.joinpath(*others))

    def __truediv__(self, other: str | PurePath) -> Self:
        if not isinstance(other, str | PurePath):
            return NotImplemented
        return self._with_path(self.path / other)

    def __rtruediv__(self, other: str | PurePath) -> Self:
        if not isinstance(other, str | PurePath):
            return NotImplemented
        return self._with_path(other / self.path)

    def relative_to(self, other: str | PurePath | FilePath[Any]) -> PurePath:
        """This path seen from ``other``, as a plain path.

        Raises:
            ValueError: it does not lie below ``other``, or the two have different bases.
        """
        if isinstance(other, FilePath):
            if self.base_key != other.base_key:
                raise UsageValueError(f"{self!r} and {other!r} have different base directories")
            other = other.path
        return self.path.relative_to(other)

    def is_relative_to(self, other: str | PurePath | FilePath[Any]) -> bool:
        if isinstance(other, FilePath):
            return self.base_key == other.base_key and self.is_relative_to(other.path)
        return self.path.is_relative_to(other)

    def is_absolute(self) -> bool:
        return self.path.is_absolute()

    def match(self, glob: str) -> bool:
        """As :meth:`pathlib.PurePath.match`."""
        return self.path.match(glob)

    def as_posix(self) -> str:
        text = self._text
        if text is None:
            text = self._text = self.path.as_posix()
        return text

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        base = "" if self._base_dir is None else f", base_dir_key={self._base_dir.key!r}"
        return f"{type(self).__name__}({self.path!r}{base})"

    def __fspath__(self) -> str:
        return str(self.resolve())

    @property
    def base_key(self) -> str | None:
        """Name of the base directory's context key, or None."""
        return None if self._base_dir is None else self._base_dir.key

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FilePath):
            return NotImplemented
        return self.as_posix() == other.as_posix() and self.base_key == other.base_key

    def __hash__(self) -> int:
        return hash((self.base_key, self.as_posix()))

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, FilePath):
            return NotImplemented
        return _sort_key(self) < _sort_key(other)

    def __le__(self, other: object) -> bool:
        if not isinstance(other, FilePath):
            return NotImplemented
        return _sort_key(self) <= _sort_key(other)

    def __gt__(self, other: object) -> bool:
        if not isinstance(other, FilePath):
            return NotImplemented
        return _sort_key(self) > _sort_key(other)

    def __ge__(self, other: object) -> bool:
        if not isinstance(other, FilePath):
            return NotImplemented
        return _sort_key(self) >= _sort_key(other)

    def __coco_memo_key__(self) -> object:
        base = self._base_dir
        return self.as_posix() if base is None else (base.key, self.as_posix())


def _sort_key(path: FilePath[Any]) -> tuple[bool, str, PurePath]:
    base = path.base_key
    return (base is not None, base or "", path.path)


def as_pure_path(path: object) -> PurePath:
    """``path`` as a pure path of this platform. Raises ``TypeError`` for other types."""
    if isinstance(path, str | PurePath):
        return PurePath(path)
    raise UsageTypeError(f"a path must be a str or a pathlib path, not {kind_of(path)}")
