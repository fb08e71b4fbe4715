"""Which paths of a tree a source takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Protocol, final, runtime_checkable

from cocoindex.errors import UsageTypeError
from cocoindex.resources._glob import Glob, any_of

__all__ = [
    "FilePathMatcher",
    "MatchAllFilePathMatcher",
    "PatternFilePathMatcher",
    "TextMatcher",
]


@runtime_checkable
class FilePathMatcher(Protocol):
    """Decides about paths relative to the root of a walk."""

    def is_dir_included(self, path: PurePath) -> bool:
        """Whether to descend into the directory ``path``."""
        ...

    def is_file_included(self, path: PurePath) -> bool:
        """Whether to take the file ``path``. Its parents are not looked at."""
        ...


@runtime_checkable
class TextMatcher(Protocol):
    """The same two questions about POSIX text, which spares a path object per file."""

    def includes_dir(self, path: str, /) -> bool: ...

    def includes_file(self, path: str, /) -> bool: ...


@final
class MatchAllFilePathMatcher:
    """Takes everything."""

    __slots__ = ()

    def is_dir_included(self, path: PurePath) -> bool:  # noqa: ARG002 - the protocol's name
        return True

    def is_file_included(self, path: PurePath) -> bool:  # noqa: ARG002 - as above
        return True

    def includes_dir(self, _path: str, /) -> bool:
        return True

    def includes_file(self, _path: str, /) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MatchAllFilePathMatcher)

    def __hash__(self) -> int:
        return hash(MatchAllFilePathMatcher)

    def __repr__(self) -> str:
        return "MatchAllFilePathMatcher()"

    def __coco_memo_key__(self) -> object:
        return ()


@final
class PatternFilePathMatcher:
    """Takes files by globs.

    A file is taken if some include pattern matches (or there is no include list) and it is
    not excluded: some ordinary exclude pattern matches and no pattern that starts with ``!``
    does. A directory is entered unless an ordinary exclude pattern matches it and no ``!``
    pattern could match it or something below it.

    Args:
        included_patterns: globs; None takes everything, an empty list nothing.
        excluded_patterns: globs, ``!glob`` for exceptions; the order does not matter.
        prune_by_included: don't enter directories below which no include pattern could match.

    Raises:
        ValueError: a pattern is malformed.
    """

    __slots__ = ("_below", "_exceptions", "_excluded", "_included", "_key", "_reopened")

    def __init__(
        self,
        included_patterns: Iterable[str] | None = None,
        excluded_patterns: Iterable[str] | None = None,
        *,
        prune_by_included: bool = True,
    ) -> None:
        included = _patterns(included_patterns, "included_patterns")
        excluded = _patterns(excluded_patterns, "excluded_patterns") or ()
        self._key = (included, excluded, prune_by_included)
        ordinary = [Glob(p) for p in excluded if not p.startswith("!")]
        exceptions = [Glob(p[1:]) for p in excluded if p.startswith("!")]
        globs = None if included is None else [Glob(p) for p in included]
        prunes = bool(globs) and prune_by_included
        self._included = None if globs is None else any_of(g.full for g in globs)
        self._below = any_of(g.below for g in globs) if globs and prunes else None
        self._excluded = any_of(g.full for g in ordinary) if ordinary else None
        self._exceptions = any_of(g.full for g in exceptions) if exceptions else None
        reopened = [r for g in exceptions if (r := g.below_anchored) is not None]
        self._reopened = any_of(reopened) if reopened else None

    def is_dir_included(self, path: PurePath) -> bool:
        return self.includes_dir(_posix(path))

    def is_file_included(self, path: PurePath) -> bool:
        return self.includes_file(_posix(path))

    def includes_dir(self, path: str) -> bool:
        """As :meth:`is_dir_included`, for a POSIX path."""
        if path == ".":
            return True
        if self._below is not None and self._below.fullmatch(path + "/") is None:
            return False
        if self._excluded is None or self._excluded.fullmatch(path) is None:
            return True
        if self._exceptions is not None and self._exceptions.fullmatch(path) is not None:
            return True
        return self._reopened is not None and self._reopened.fullmatch(path + "/") is not None

    def includes_file(self, path: str) -> bool:
        """As :meth:`is_file_included`, for a POSIX path."""
        if self._included is not None and self._included.fullmatch(path) is None:
            return False
        if self._excluded is None or self._excluded.fullmatch(path) is None:
            return True
        return self._exceptions is not None and self._exceptions.fullmatch(path) is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PatternFilePathMatcher):
            return NotImplemented
        return self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, self._key)

    def __repr__(self) -> str:
        included, excluded, prune = self._key
        shown = [f"included_patterns={list(included)!r}"] if included is not None else []
        if excluded:
            shown.append(f"excluded_patterns={list(excluded)!r}")
        if not prune:
            shown.append("prune_by_included=False")
        return f"PatternFilePathMatcher({', '.join(shown)})"

    def __coco_memo_key__(self) -> object:
        return self._key


def _rebuild(
    included: tuple[str, ...] | None, excluded: tuple[str, ...], prune: bool
) -> PatternFilePathMatcher:
    return PatternFilePathMatcher(included, excluded, prune_by_included=prune)


def _patterns(patterns: Iterable[str] | None, name: str) -> tuple[str, ...] | None:
    if patterns is None:
        return None
    if isinstance(patterns, str):
        raise UsageTypeError(f"{name} must be a list of patterns, not the string {patterns!r}")
    found = tuple(patterns)
    for pattern in found:
        if not isinstance(pattern, str):
            raise UsageTypeError(f"{name} must hold strings, not {type(pattern).__name__}")
    return found


def _posix(path: PurePath | str) -> str:
    return path if isinstance(path, str) else path.as_posix()
