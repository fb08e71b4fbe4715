"""The page about Postgres is run."""

from __future__ import annotations

import ast
import re
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import asyncpg
import numpy as np
from numpy.typing import NDArray

import cocoindex as coco
from cocoindex.connectors import postgres
from cocoindex.resources.schema import VectorSchema

PAGE = Path(__file__).resolve().parents[3] / "docs/connectors/postgres.md"
_, WRITE, ATTACH, READ = re.findall(
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
        "Annotated": Annotated,
        "NDArray": NDArray,
        "VectorSchema": VectorSchema,
        "dataclass": dataclass,
        "np": np,
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


async def test_what_the_page_shows_about_reading_works(world):
    await world.execute(
        "CREATE TABLE products (id int PRIMARY KEY, price int, updated_at timestamptz);"
        "INSERT INTO products VALUES (1, 5, now()), (2, 15, now())"
    )
    found = []

    @dataclass
    class Product:
        id: int
        price: int

    async def index_product(product, _target):
        found.append(product)

    @coco.fn
    async def main():
        async with asyncpg.create_pool(world.url) as pool:
            names = {"coco": coco, "postgres": postgres, "pool": pool, "Product": Product}
            await run(READ, {**names, "index_product": index_product, "target": None})

    await world.update(main)
    assert found == [Product(2, 15)]
