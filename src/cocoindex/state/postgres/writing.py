"""Batches as statements: one, unless they are very large or empty a section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cocoindex.errors import StoreError
from cocoindex.state.postgres.arrays import ByteStrings, Numbers
from cocoindex.state.postgres.lease import Fence
from cocoindex.state.postgres.views import stored_key, stored_row
from cocoindex.state.rows import Rows

__all__ = ["Step", "Write", "steps_of"]

_CHUNK_BYTES = 1 << 25
_CHUNK_ROWS = 50_000
"""Bounds of one statement. A larger batch takes several of them, in one transaction."""

_LONGEST = 1_000_000_000
"""Bytes of a value: a message to the server holds a little more."""


class Write(NamedTuple):
    """Changed rows of one section."""

    fence: Fence
    rows: Rows


class Step(NamedTuple):
    """A statement by its name, its parameters, and how many sections it has to pass, if any."""

    statement: str
    values: dict[str, Any]
    fences: int | None


def steps_of(writes: Sequence[Write], lease: float) -> list[Step]:
    """Statements that write everything if nobody else may write. All in one transaction."""
    chunks = list(_chunks(writes))
    cleared = [each.fence.section for each in writes if each.rows.cleared]
    if cleared or not chunks:
        chunks.insert(0, _Chunk())
    fences = [each.fence for each in writes]
    steps = [_step(chunks[0], fences, lease), *(_step(chunk, (), lease) for chunk in chunks[1:])]
    if cleared:
        steps.insert(1, Step("clear", {"sections": cleared}, None))
    return steps


def _step(chunk: _Chunk, fences: Sequence[Fence], lease: float) -> Step:
    held = {
        "sections": [fence.section for fence in fences],
        "epochs": [fence.epoch for fence in fences],
        "seqs": [fence.seq + 1 for fence in fences],
        "lease": lease,
    }
    return Step("write", held | chunk.values(), len(fences))


class _Chunk:
    """Rows of one statement: deleted ones, and others, each section's in one piece."""

    def __init__(self) -> None:
        self.gone: list[bytes] = []
        self.keys: list[bytes] = []
        self.contents: list[bytes] = []
        self.size = 0
        self._begins: list[tuple[int, int, int]] = []

    def begin(self, section: int) -> None:
        self._begins.append((section, len(self.gone), len(self.keys)))

    def delete(self, key: bytes) -> None:
        self.gone.append(key)
        self.size += len(key)

    def put(self, key: bytes, content: bytes) -> None:
        if len(content) > _LONGEST:
            raise StoreError(f"a value of {len(content)} bytes is too long for Postgres")
        self.keys.append(key)
        self.contents.append(content)
        self.size += len(key) + len(content)

    @property
    def is_full(self) -> bool:
        return self.size >= _CHUNK_BYTES or len(self.gone) + len(self.keys) >= _CHUNK_ROWS

    def values(self) -> dict[str, Any]:
        ends = [*self._begins[1:], (0, len(self.gone), len(self.keys))]
        pieces = list(zip(self._begins, ends, strict=False))
        return {
            "gone_from": Numbers([(begin[0], end[1] - begin[1]) for begin, end in pieces]),
            "gone": ByteStrings(self.gone),
            "put_into": Numbers([(begin[0], end[2] - begin[2]) for begin, end in pieces]),
            "keys": ByteStrings(self.keys),
            "values": ByteStrings(self.contents),
        }


def _chunks(writes: Sequence[Write]) -> Iterator[_Chunk]:
    chunk = _Chunk()
    for fence, rows in writes:
        chunk.begin(fence.section)
        for key in sorted(rows.rows):
            value = rows.rows[key]
            if value is None:
                chunk.delete(stored_key(key))
            else:
                chunk.put(*stored_row(key, value))
            if chunk.is_full:
                yield chunk
                chunk = _Chunk()
                chunk.begin(fence.section)
    if chunk.keys or chunk.gone:
        yield chunk
