"""A store in which a directory stands below itself."""

from __future__ import annotations

import pytest

import cocoindex as coco
from cocoindex.engine import rows
from cocoindex.engine.rows import Node, NodeKind
from cocoindex.errors import StoreFormatError


@pytest.mark.parametrize("other", ["unmounted", "mounted"])
async def test_a_directory_below_itself_is_told_as_damage(bench, table, other):
    async def one():
        table.declare("k", 1)

    async def main(name):
        await coco.mount(coco.component_subpath(name, "a"), one)

    await bench.run(lambda: main("directory"))
    section = bench.env.store.section("bench")
    [(key, _)] = section.scan(rows.existence_prefix(rows.ROOT_ID))
    section.write([(key, Node(NodeKind.DIRECTORY, rows.ROOT_ID, True).encode())])

    with pytest.raises(StoreFormatError, match="existence row is damaged: 1 below 1"):
        await bench.run(lambda: main("directory" if other == "mounted" else "other"))
