"""The program that wrote the golden store of format 1.

Never edit this file: its functions are part of what is stored. When the format changes, a new
folder with a program of its own is added, and this one stays for as long as the format is read.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import uuid

import cocoindex as coco
from cocoindex.resources.id import generate_id
from cocoindex.testing.targets import MemoryTarget, MemoryTree

ROWS = MemoryTarget("golden/rows", record=lambda value: value)
TREE = MemoryTree("golden/tree", attachments=("index",), record=lambda value: value)
STYLE = coco.ContextKey("golden/style", detect_change=True)

BODIES: list[str] = []
"""Memoized bodies that ran."""

ID = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
LIMIT = 3


class Kind(enum.Enum):
    NOTE = "note"
    MAIL = "mail"


@dataclasses.dataclass(frozen=True)
class Document:
    title: str
    size: int
    kind: Kind = Kind.NOTE
    tags: tuple[str, ...] = ()
    seen: dt.datetime = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


@dataclasses.dataclass
class Summary:
    text: str
    price: decimal.Decimal
    where: pathlib.PurePosixPath
    number: int


class Source:
    """An argument with a memo state."""

    def __init__(self, name: str, stamp: int) -> None:
        self.name = name
        self.stamp = stamp

    def __coco_memo_key__(self) -> str:
        return self.name

    def __coco_memo_state__(self, prev_state: object) -> coco.MemoStateOutcome:
        return coco.MemoStateOutcome(self.stamp, prev_state == self.stamp)


@coco.fn(memo=True)
async def words(text: str) -> list[str]:
    BODIES.append("words")
    return text.split()[:LIMIT]


@coco.fn(memo=True)
async def summarize(document: Document) -> Summary:
    BODIES.append("summarize")
    style = coco.use_context(STYLE)
    text = style.join(await words(document.title))
    ROWS.declare(("summary", document.title), text)
    number = await generate_id(document.title)
    return Summary(text, decimal.Decimal("1.50"), pathlib.PurePosixPath("a/b"), number)


@coco.fn(memo=True)
async def process(document: Document, source: Source) -> int:
    BODIES.append("process")
    summary = await summarize(document)
    ROWS.declare(document.title, f"{summary.number} {summary.text} {source.name}")
    return document.size


@coco.fn(memo=True)
async def tables(names: tuple[str, ...], generation: int) -> None:
    BODIES.append("tables")
    for name in names:
        if generation:
            TREE.invalidations[(name,)] = "destructive"
        table = await coco.mount_target(TREE.container(name, generation))
        for row in range(2):
            coco.declare_target_state(table.target_state(row, f"{name}{row}"))
        coco.declare_target_state(table.attachment("index").target_state("by name", 1))


async def counting(key: coco.StableKey) -> None:
    state = coco.use_state("limit", 7)
    ROWS.declare(("count", key), state.value)


DOCUMENTS = (
    Document("one two three four", 1),
    Document("five", 2, Kind.MAIL, ("x", "y")),
    Document("six \N{SNOWMAN}", 3),
)
KEYS: tuple[coco.StableKey, ...] = (None, True, -5, 2**40, "a/b", b"\0\x01", ID, (1, ("x", None)))


async def main(changed: str = "", generation: int = 1) -> list[int]:
    sizes = []
    for document in DOCUMENTS:
        title = document.title
        path = coco.component_subpath("documents", title.split()[0], title)
        stamp = 2 if title == changed else 1
        sizes.append(await coco.use_mount(path, process, document, Source(title, stamp)))
    await coco.mount(coco.component_subpath("tables"), tables, ("t", "u"), generation)
    long = "a long key " * 60
    for key in (*KEYS, long):
        await coco.mount(coco.component_subpath("count", key), counting, key)
    return sizes


async def interrupted(keys: tuple[str, ...]) -> None:
    """Main function of a second app, whose last update could not delete what it had to."""

    async def item(key: str) -> None:
        ROWS.declare(("interrupted", key), 1)

    await coco.mount_each(coco.component_subpath("items"), item, [(key, key) for key in keys])
