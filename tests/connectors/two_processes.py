"""One of several programs that start at once; arguments: kind, database, state, number."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cocoindex as coco

DB = coco.ContextKey[Any]("two_processes")


@dataclass
class Row:
    id: int
    text: str


async def run(kind: str, database: str, state: str, number: int) -> None:
    if kind == "sqlite":
        from cocoindex.connectors import sqlite as connector

        client: Any = connector.connect(database)
        options = {}
    else:
        import asyncpg

        from cocoindex.connectors import postgres as connector  # type: ignore[no-redef]

        client = await asyncpg.create_pool(database, min_size=0, max_size=1)
        options = {"pg_schema_name": "kb"}

    async def main() -> None:
        schema = await connector.TableSchema.from_class(Row, ["id"])
        target = await connector.mount_table_target(DB, "t", schema, **options)  # type: ignore[arg-type]
        target.declare_index(columns=["text"])
        target.declare_row(row=Row(number, "x"))

    environment = coco.Environment(coco.Settings(db_path=Path(state)))
    environment.context_provider.provide(DB, client)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    await coco.App(coco.AppConfig("app", environment), main).update()
    environment.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
