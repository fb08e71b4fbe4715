"""Keeps ./pages in step with a table of Postgres: one page for every product."""

import os
import pathlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal

import asyncpg

import cocoindex as coco
from cocoindex.connectors import localfs, postgres

HERE = pathlib.Path(__file__).parent
DB = coco.ContextKey[asyncpg.Pool]("db")


@dataclass
class Product:
    id: int
    name: str
    price: Decimal


@coco.lifespan
async def lifespan(builder: coco.EnvironmentBuilder) -> AsyncIterator[None]:
    builder.settings.db_path = HERE / ".state"
    async with asyncpg.create_pool(os.environ["POSTGRES_URL"], min_size=0) as pool:
        builder.provide(DB, pool)
        yield


@coco.fn(memo=True)
async def publish(product: Product, pages: localfs.DirTarget) -> None:
    pages.declare_file(f"{product.id}.txt", f"{product.name}: {product.price}\n")


async def app_main() -> None:
    pages = await localfs.mount_dir_target(HERE / "pages")
    products = postgres.PgTableSource(
        DB,
        table_name="products",
        where="price >= $1",
        params=[10],
        row_type=Product,
        ordinal_column="updated_at",
    )
    await coco.mount_each(publish, products.items(), pages)


app = coco.App("PagesFromPostgres", app_main)
