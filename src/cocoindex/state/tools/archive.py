"""Exporting the state of apps to one portable file, and importing it into any store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO, Final

from cocoindex.errors import StoreError, StoreFormatError, UsageValueError
from cocoindex.state.base import FORMAT_VERSION, Store
from cocoindex.state.tools.frames import (
    EXPORT_FORMAT,
    LARGEST_FRAME,
    AppFrame,
    End,
    FrameReader,
    FrameWriter,
    Header,
    LongRow,
    RowsFrame,
)
from cocoindex.state.tools.transfer import Moved, check_complete, check_free, chosen, filling

LARGEST_ROW: Final = 1 << 26
"""Default limit for one row of an imported file, in bytes."""

_FRAME_TARGET = 1 << 18
_LONGEST_NAME = 1024
_LONGEST_KEY = 1 << 20


def export_store(
    store: Store,
    path: str | os.PathLike[str],
    apps: Iterable[str] | None = None,
    *,
    force: bool = False,
) -> Moved:
    """Write the state of apps to a file, which appears only when it is complete.

    Args:
        store: read from one snapshot per app; updates may go on.
        path: the file to write.
        apps: names; default all of them.
        force: replace an existing file.

    Raises:
        UsageValueError: the file exists, and ``force`` is not set.
        MissingKeyError: the store has no state of an app.
        StoreError: the file can't be written.
    """
    path = Path(path)
    if path.exists() and not force:
        raise UsageValueError(f"{path} exists already. Use --force to replace it.")
    names = chosen(store, apps)
    with _replacing(path) as file:
        writer = FrameWriter(file)
        writer.write(Header(EXPORT_FORMAT, FORMAT_VERSION, _release(), names))
        count = sum(_export_section(store, name, writer) for name in names)
        writer.finish(count)
    return Moved(names, count)


def _release() -> str:
    try:
        return version("cocoindex")
    except PackageNotFoundError:
        return "unknown"


def _export_section(store: Store, name: str, writer: FrameWriter) -> int:
    section = store.section(name)
    check_complete(section)
    writer.write(AppFrame(name))
    count = 0
    with section.snapshot() as snapshot:
        rows: list[tuple[bytes, bytes]] = []
        size = 0
        for key, value in snapshot.scan(b""):
            count += 1
            length = len(key) + len(value) + 16
            if rows and size + length > _FRAME_TARGET:
                writer.write(RowsFrame(rows))
                rows, size = [], 0
            if length >= LARGEST_FRAME:
                writer.write(LongRow(key, value))
                continue
            rows.append((key, value))
            size += length
        if rows:
            writer.write(RowsFrame(rows))
    return count


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file that becomes ``path`` at the end, and is removed after an error."""
    try:
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise StoreError(f"can't write to {path}: {error.strerror}") from error
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, StoreError):
            raise StoreError(f"can't write to {path}: {error}") from error
        raise


# --- import --------------------------------------------------------------------------------------


def import_archive(
    path: str | os.PathLike[str],
    store: Store,
    *,
    force: bool = False,
    largest_row: int = LARGEST_ROW,
) -> Moved:
    """Read the state of apps from a file that :func:`export_store` has written.

    The whole file is checked before anything is written.

    Args:
        path: the file.
        store: where the state goes, durable when this returns.
        force: replace state that the store has under the same names.
        largest_row: refuse rows of more bytes, as memory is needed for a whole row.

    Raises:
        StoreFormatError: the file is foreign, newer than this release, or damaged.
        UsageValueError: the store has state of an app already, and ``force`` is not set.
        AlreadyRunningError: an app is being run on the store.
        StoreError: the file can't be read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            names = _verify(FrameReader(file, str(path), largest_row))
            check_free(store, names, force=force)
            file.seek(0)
            return _load(FrameReader(file, str(path), largest_row), store, names)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"can't read {path}: {error.strerror or error}") from error


def _verify(reader: FrameReader) -> list[str]:
    """Read everything once; the names of the apps inside."""
    header = reader.header
    if header.state_format > FORMAT_VERSION:
        raise StoreFormatError(
            f"the exported state has format version {header.state_format}; this release of "
            f"cocoindex reads up to {FORMAT_VERSION}. Upgrade cocoindex."
        )
    names = header.apps
    if names != sorted(set(names)) or not all(0 < len(n) <= _LONGEST_NAME for n in names):
        raise reader.damaged("its list of apps is wrong")
    found: list[str] = []
    count = 0
    for event in _events(reader):
        if isinstance(event, str):
            found.append(event)
            if found != names[: len(found)]:
                raise reader.damaged("its apps are not those of its header")
        else:
            count += 1
    if found != names:
        raise reader.damaged("an app is missing")
    return names


def _events(reader: FrameReader) -> Iterator[str | tuple[bytes, bytes]]:
    """Names of apps and rows, in the order of the file, checked."""
    count = 0
    last: bytes | None = None
    named = False
    while not isinstance(frame := reader.read(), End):
        if isinstance(frame, AppFrame):
            last, named = None, True
            yield frame.name
            continue
        rows = [(frame.key, frame.value)] if isinstance(frame, LongRow) else frame.rows
        for key, value in rows:
            if not named or len(key) > _LONGEST_KEY or (last is not None and key <= last):
                raise reader.damaged("its rows are not in order")
            last = key
            count += 1
            yield key, value
    if frame.rows != count:
        raise reader.damaged("rows are missing")


def _load(reader: FrameReader, store: Store, names: list[str]) -> Moved:
    count = 0
    with ExitStack() as current:
        put = None
        for event in _events(reader):
            if isinstance(event, str):
                current.close()
                put = current.enter_context(filling(store.section(event), store))
            elif put is not None:
                put(*event)
                count += 1
    return Moved(names, count)
