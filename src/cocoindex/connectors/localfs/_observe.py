"""What really stands in a directory target."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Hashable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, TypeVar

from cocoindex.connectors.localfs._dirs import READ_FILE, AnyDir, enter, regular
from cocoindex.connectors.localfs._entries import (
    DEFAULTS,
    EntryRecord,
    Options,
    RootKey,
    Tree,
    file_place,
    is_relative_without_base,
)
from cocoindex.connectors.localfs._names import parent_of
from cocoindex.connectors.localfs._places import Context, locate
from cocoindex.connectors.localfs._temp import PREFIX
from cocoindex.core.fingerprint import FINGERPRINT_SIZE
from cocoindex.core.sentinels import NON_EXISTENCE

__all__ = ["observe_entries", "observe_roots", "page_entries"]

K = TypeVar("K", bound=Hashable)

_BLOCK: Final = 1 << 20
_PAGE: Final = 500


async def observe_entries(
    context_provider: Context, places: Mapping[K, tuple[Tree, str]], options: Options
) -> dict[K, Any]:
    """Existence, kind and content of each place as the record it would have."""
    roots = {tree: locate(context_provider, tree) for tree, _ in places.values()}

    def look() -> dict[K, Any]:
        return {key: _observe(roots[tree], path, options) for key, (tree, path) in places.items()}

    return await asyncio.to_thread(look)


async def observe_roots(context_provider: Context, keys: Sequence[RootKey]) -> dict[RootKey, Any]:
    """The same for directory targets and single files. A directory may be reached by links."""
    places = {key: _root_places(context_provider, key) for key in keys}

    def look() -> dict[RootKey, Any]:
        return {key: _observe_root(*place) for key, place in places.items()}

    return await asyncio.to_thread(look)


def _root_places(context_provider: Context, key: RootKey) -> tuple[str, str, str, str | None]:
    """As a directory; as a file: root and name; and where a relative path leads now."""
    resolved = os.path.abspath(key.path) if is_relative_without_base(key) else None
    tree, name, _ = file_place(key, resolved)
    directory = locate(context_provider, Tree(key.base, resolved or key.path))
    return directory, locate(context_provider, tree), name, resolved


def _observe_root(directory: str, root: str, name: str, resolved: str | None) -> Any:
    if os.path.isdir(directory):
        return EntryRecord(root=resolved)
    record = _observe(root, name, DEFAULTS)
    return EntryRecord(record.fingerprint, resolved) if record is not NON_EXISTENCE else record


async def page_entries(
    context_provider: Context, tree: Tree, path: str, options: Options
) -> AsyncIterator[Mapping[str, Any]]:
    """Everything that stands directly in one directory, in pages."""
    root = locate(context_provider, tree)
    names = await asyncio.to_thread(_names, root, path)
    for start in range(0, len(names), _PAGE):
        places = {
            name: (tree, f"{path}/{name}" if path else name)
            for name in names[start : start + _PAGE]
        }
        page = await observe_entries(context_provider, places, options)
        yield {name: record for name, record in page.items() if record is not NON_EXISTENCE}


def _names(root: str, path: str) -> list[str]:
    try:
        with enter(root, path) as directory:
            return sorted(n for n in directory.names() if not n.startswith(PREFIX))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _observe(root: str, path: str, options: Options) -> Any:
    name = path.rpartition("/")[2]
    try:
        with enter(root, parent_of(path)) as directory:
            status = directory.lstat(name)
            if status is None:
                return NON_EXISTENCE
            if stat.S_ISDIR(status.st_mode):
                return _record(None, path, options)
            if not stat.S_ISREG(status.st_mode):
                return NON_EXISTENCE  # a link or device is nothing that we wrote
            mode = None if options.mode is None else status.st_mode & 0o777
            return _record(_hash(directory, name), path, options, mode)
    except (FileNotFoundError, NotADirectoryError):
        return NON_EXISTENCE


def _record(
    fingerprint: bytes | None, path: str, options: Options, mode: int | None = None
) -> EntryRecord:
    purge = options.purge_foreign and fingerprint is None
    return EntryRecord(fingerprint, None, mode, "/" in path, purge=purge)


def _hash(directory: AnyDir, name: str) -> bytes:
    digest = blake2b(digest_size=FINGERPRINT_SIZE)
    fd = regular(directory.open_file(name, READ_FILE), f"{directory.path}/{name}")
    with open(fd, "rb", buffering=0) as file:
        for block in _blocks(file.read):
            digest.update(block)
    return digest.digest()


def _blocks(read: Any) -> Iterator[bytes]:
    while block := read(_BLOCK):
        yield block
