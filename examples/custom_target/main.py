"""Word counts of a few notes, in a database of one's own: `python main.py`."""

from __future__ import annotations

import tempfile

import cocoindex as coco
from memory_db import MemoryDb
from memory_target import Table, mount_table

DB = coco.ContextKey[MemoryDb]("db")

notes = {"rivers": "A river is a stream of water.", "trees": "A tree is tall."}


@coco.fn(memo=True)
async def count_words(text: str, name: str, table: Table) -> None:
    print(f"counting {name}")
    table.declare_row(row={"name": name, "words": len(text.split())})


@coco.fn
async def count_note(note: tuple[str, str], table: Table) -> None:
    await count_words(note[1], note[0], table)


async def app_main() -> None:
    table = await mount_table(DB, "notes", ["name", "words"], ["name"])
    table.declare_index(name="by_words", column="words")
    await coco.mount_each(count_note, [(name, (name, text)) for name, text in notes.items()], table)


def main() -> None:
    db = MemoryDb()
    with tempfile.TemporaryDirectory() as folder:
        environment = coco.Environment(coco.Settings(db_path=f"{folder}/state"))
        environment.context_provider.provide(DB, db)
        app = coco.App(coco.AppConfig("CustomTarget", environment), app_main)

        def update(what: str) -> None:
            before = db.requests
            app.update_blocking()
            rows = {key[0]: row["words"] for key, row in sorted(db.tables["notes"].rows.items())}
            print(f"{what}: {rows}, {db.requests - before} requests")

        update("first")
        update("nothing new")
        notes["trees"] = "A birch."
        update("one note changed")
        del notes["rivers"]
        update("one note gone")
        app.drop_blocking()
        print(f"dropped: {db.tables}")
        environment.close()


if __name__ == "__main__":
    main()
