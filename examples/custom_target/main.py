"""Word counts of a few notes, kept in a SQLite table: `cocoindex update main.py`."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import cocoindex as coco
from cocoindex.connectors import localfs
from cocoindex.resources.file import FileLike
from table import Table, mount_table

HERE = pathlib.Path(__file__).parent
NOTES = HERE.parent / "hello/notes"


@coco.lifespan
def lifespan(builder: coco.EnvironmentBuilder) -> Iterator[None]:
    builder.settings.db_path = HERE / ".state/cocoindex.db"
    yield


@coco.fn(memo=True)
async def count_words(file: FileLike, table: Table) -> None:
    text = await file.read_text()
    table.declare_row(file.file_path.name, {"words": len(text.split()), "bytes": len(text)})


async def app_main() -> None:
    table = await mount_table(str(HERE / ".state/notes.sqlite"), "notes", ["words", "bytes"])
    await coco.mount_each(count_words, localfs.walk_dir(NOTES).items(), table)


app = coco.App("CustomTarget", app_main)
