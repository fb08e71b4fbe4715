"""The page about Postgres is run."""

from __future__ import annotations

import ast
import re
import types
from pathlib import Path

import numpy as np

import cocoindex as coco
from cocoindex.connectors import postgres

PAGE = Path(__file__).resolve().parents[3] / "docs/connectors/postgres.md"
_, WRITE, ATTACH = re.findall(
    r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


async def run(text, names):
    code = compile(text, PAGE.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = types.FunctionType(code, names)()
    if result is not None:
        await result


async def test_what_the_page_shows_works(world):
    names = {
        "__name__": __name__,
        "postgres": postgres,
        "embedding": np.ones(384, np.float32),
        "DB": world.db,
    }

    @coco.fn
    async def main():
        await run(WRITE + ATTACH, names)

    await world.execute(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$"
    )
    await world.update(main)
    assert sorted(await world.indexes()) == [
        "docs__fts__body",
        "docs__index__title",
        "docs__vector__embedding",
    ]
    assert await world.value("SELECT title FROM kb.docs") == "Trees"
    await world.update(main)
    assert world.connections == 0
