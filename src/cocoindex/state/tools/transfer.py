"""Moving rows into a section, so that a half-filled one is never taken for the whole.

A row that no app uses marks a section that is being filled. It is written with the first rows
and removed with the last ones; an update refuses a section that still has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from cocoindex.errors import MissingKeyError, StoreError, UsageValueError
from cocoindex.state.base import Section, Store

_MARK: Final = b"!filling"
_BATCH = 1 << 20
_PENDING = 1 << 24


class Moved(NamedTuple):
    """What was copied, exported or imported: names of the apps, number of rows."""

    apps: list[str]
    rows: int


def check_complete(section: Section) -> None:
    """Raise ``StoreError`` if an import or copy into ``section`` was interrupted."""
    if section.get(_MARK) is not None:
        raise StoreError(
            f"the state of app {section.name!r} is incomplete: an import or copy of it was "
            "interrupted. Repeat it with --force, or drop the app's state."
        )


def copy_store(
    source: Store, target: Store, apps: Iterable[str] | None = None, *, force: bool = False
) -> Moved:
    """Copy the state of apps from one store to another, of whatever kind.

    Args:
        source: read from one snapshot per app; updates may go on.
        target: where it goes, durable when this returns.
        apps: names; default all of them.
        force: replace state that ``target`` has under these names.

    Raises:
        MissingKeyError: ``source`` has no state of an app.
        UsageValueError: ``target`` has state of an app already, and ``force`` is not set.
        AlreadyRunningError: the app is being run on ``target``.
    """
    names = chosen(source, apps)
    check_free(target, names, force=force)
    count = sum(copy_section(source.section(n), target.section(n), target) for n in names)
    return Moved(names, count)


def copy_section(source: Section, target: Section, target_store: Store) -> int:
    """Replace the rows of ``target`` by those of ``source``; returns how many."""
    check_complete(source)
    with source.snapshot() as snapshot, filling(target, target_store) as put:
        count = 0
        for key, value in snapshot.scan(b""):
            put(key, value)
            count += 1
    return count


def chosen(store: Store, apps: Iterable[str] | None) -> list[str]:
    """``apps``, sorted and checked, or all that ``store`` has."""
    known = store.section_names()
    if apps is None:
        return known
    names = sorted(set(apps))
    for name in names:
        if name not in known:
            has = ", ".join(known) or "none"
            raise MissingKeyError(f"no app {name!r} has state in {store.location}; apps: {has}")
    return names


def check_free(target: Store, names: Iterable[str], *, force: bool) -> None:
    taken = [] if force else sorted(set(target.section_names()) & set(names))
    if taken:
        raise UsageValueError(
            f"the store at {target.location} has state of {', '.join(map(repr, taken))} already. "
            "Use --force to replace it; target states that only the old state knows of will "
            "then never be cleaned up."
        )


@contextmanager
def filling(section: Section, store: Store) -> Iterator[Callable[[bytes, bytes], None]]:
    """Empty a section and fill it row by row, with bounded memory; durable at the end."""
    with section.acquire_lease():
        section.clear()
        section.write([(_MARK, b"")])
        writer = _Writer(section, store)
        yield writer.put
        writer.batch.append((_MARK, None))
        writer.write()
        store.flush()


class _Writer:
    def __init__(self, section: Section, store: Store) -> None:
        self._section = section
        self._store = store
        self._size = 0
        self.batch: list[tuple[bytes, bytes | None]] = []

    def put(self, key: bytes, value: bytes) -> None:
        self.batch.append((key, value))
        self._size += len(key) + len(value) + 64
        if self._size >= _BATCH:
            self.write()

    def write(self) -> None:
        self._section.write(self.batch)
        self.batch, self._size = [], 0
        if self._section.pending_bytes >= _PENDING:
            self._store.flush()


__all__ = [
    "Moved",
    "check_complete",
    "check_free",
    "chosen",
    "copy_section",
    "copy_store",
    "filling",
]
