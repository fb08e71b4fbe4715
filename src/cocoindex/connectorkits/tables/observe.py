"""Reading rows back, to compare the outside world with what is tracked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final

import cocoindex as coco
from cocoindex.connectorkits.rows import RowCodec
from cocoindex.connectorkits.tables.clients import client_of
from cocoindex.connectorkits.tables.dialect import Dialect
from cocoindex.connectorkits.tables.model import Key, Layout
from cocoindex.core.sentinels import NON_EXISTENCE, NonExistenceType

__all__ = ["observe_keys", "observe_pages"]

PAGE: Final = 10_000

Observed = dict[Key, bytes | NonExistenceType]


async def observe_keys(
    dialect: Dialect[Any, Any],
    context_provider: coco.ContextProvider,
    layout: Layout,
    codec: RowCodec,
    fingerprint: Callable[[tuple[Any, ...]], bytes],
    keys: Iterable[Key],
) -> Observed:
    """The record of each of ``keys`` as its row stands, or ``NON_EXISTENCE``."""
    client = client_of(dialect, context_provider, layout.table)
    wanted = list(keys)
    found: Observed = dict.fromkeys(wanted, NON_EXISTENCE)
    for start in range(0, len(wanted), PAGE):
        async with dialect.transaction(client, layout.table) as tx:
            rows = await dialect.read(tx, layout, wanted[start : start + PAGE], None, PAGE)
        found.update(_records(layout, codec, fingerprint, rows))
    return found


async def observe_pages(
    dialect: Dialect[Any, Any],
    context_provider: coco.ContextProvider,
    layout: Layout,
    codec: RowCodec,
    fingerprint: Callable[[tuple[Any, ...]], bytes],
) -> AsyncIterator[Mapping[Key, Any]]:
    """The records of all rows in the table, in pages."""
    client = client_of(dialect, context_provider, layout.table)
    after: Key | None = None
    while True:
        async with dialect.transaction(client, layout.table) as tx:
            rows = await dialect.read(tx, layout, None, after, PAGE)
        if not rows:
            return
        page = _records(layout, codec, fingerprint, rows)
        after = next(reversed(page))
        yield page


def _records(
    layout: Layout,
    codec: RowCodec,
    fingerprint: Callable[[tuple[Any, ...]], bytes],
    rows: Iterable[tuple[Any, ...]],
) -> dict[Key, bytes | NonExistenceType]:
    names = layout.names
    records: Observed = {}
    for row in rows:
        key, fields = codec.encode(dict(zip(names, row, strict=True)))
        records[key] = fingerprint(fields)
    return records
