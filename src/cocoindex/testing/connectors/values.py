"""Which values and names arrive unchanged, and which are refused before anything is sent."""

# ruff: noqa: D102 - the name of a test says what it is about

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import pytest

from cocoindex.testing.connectors.adapter import Container, World
from cocoindex.testing.connectors.evolution import record
from cocoindex.testing.connectors.rows import Item, SuiteBase, by_key, items

__all__ = ["HOSTILE_NAMES", "HOSTILE_TEXTS", "REFUSED", "Sample", "ValueConformance"]

REFUSED: Final = object()
"""In a sample: the value must raise ``ValueError`` or ``TypeError`` where it is declared."""

HOSTILE_TEXTS: Final[Mapping[str, str]] = {
    "empty": "",
    "quotes": "'\"`''\"\"",
    "backslash": "\\ \\n \\' \\\\",
    "comment": "'); DROP TABLE t; --",
    "newlines": "a\nb\r\nc\td\x0b\x0c",
    "control": "".join(map(chr, range(1, 32))) + "\x7f",
    "nul": "a\x00b",
    "four bytes": "🜚😀\U0010ffff",
    "combining": "e\u0301 \u200f \ufeff \u2028",
    "placeholders": "$1 ? :x %s %(x)s {} ${x}",
    "only spaces": "  \u00a0 ",
    "one MiB": "x" * (1 << 20),
    "surrogate": "a\ud800b",
}

HOSTILE_NAMES: Final = ("", "a b", 'a"b', "a'b", "a;b", "a-b", "1a", "ä", "a\x00b", "a.b")


class Sample(NamedTuple):
    """A value of a type, and what becomes of it.

    Attributes:
        type: as in a dataclass.
        value: what is declared.
        stored: what :meth:`TargetAdapter.read` gives for it, or :data:`REFUSED`.
    """

    type: Any
    value: Any
    stored: Any


class ValueConformance(SuiteBase):
    """Types, keys, hostile values and names."""

    samples: Sequence[Sample] = ()
    """Values of all types that the connector knows."""
    key_samples: Sequence[Sample] = ()
    """Values of all types that can be keys; ``stored`` as in a key that is read."""
    longest_name: int | None = None
    """Bytes of the longest name of a container."""
    nul_in_text: Any = "a\x00b"
    """What becomes of a NUL in a text: as it is, without it, or :data:`REFUSED`."""

    async def test_values_of_every_type(self, world: World) -> None:
        good = {f"c{i}": s for i, s in enumerate(self.samples) if s.stored is not REFUSED}
        cls = record(id=int, **{name: sample.type for name, sample in good.items()})
        rows = [{"id": 1, **{name: sample.value for name, sample in good.items()}}]
        world.containers["t"] = Container(cls, rows)
        await world.update()
        found = (await world.adapter.read("t") or {})[1,]
        for name, sample in good.items():
            assert found[name] == sample.stored, sample
            assert type(found[name]) is type(sample.stored), sample
        assert await world.update() == 0

    async def test_values_that_can_not_be_stored(self, world: World) -> None:
        for sample in self.samples:
            if sample.stored is not REFUSED:
                continue
            cls = record(id=int, c=sample.type)
            world.containers["t"] = Container(cls, [])
            await world.update()
            world.containers["t"].rows = [{"id": 1, "c": sample.value}]
            before = world.adapter.trips
            with pytest.raises((ValueError, TypeError), match="'c'"):
                await world.update()
            assert world.adapter.trips == before, sample
            assert not await world.adapter.read("t"), sample
            world.containers.clear()
            await world.update()

    async def test_keys_of_every_type(self, world: World) -> None:
        for sample in self.key_samples:
            cls = record(id=sample.type, text=str)
            world.containers["t"] = Container(cls, [{"id": sample.value, "text": "a"}])
            await world.update()
            assert list(await world.adapter.read("t") or ()) == [(sample.stored,)], sample
            assert await world.update() == 0, sample
            world.containers["t"].rows = [{"id": sample.value, "text": "b"}]
            await world.update()
            found = await world.adapter.read("t")
            assert found is not None
            assert [row["text"] for row in found.values()] == ["b"], sample
            world.containers["t"].rows = []
            await world.update()
            assert await world.adapter.read("t") == {}, sample
            world.containers.clear()
            await world.update()

    @pytest.mark.parametrize("name", HOSTILE_TEXTS)
    async def test_hostile_texts_arrive_or_are_refused(self, world: World, name: str) -> None:
        text = HOSTILE_TEXTS[name]
        world.containers["t"] = Container(Item, [])
        await world.update()
        world.containers["t"].rows = [{"id": 1, "text": text}]
        if name == "surrogate" or (name == "nul" and self.nul_in_text is REFUSED):
            before = world.adapter.trips
            with pytest.raises(ValueError):  # noqa: PT011 - any text that does not quote the value
                await world.update()
            assert world.adapter.trips == before
            return
        await world.update()
        stored = self.nul_in_text if name == "nul" else text
        assert await world.adapter.read("t") == by_key([{"id": 1, "text": stored}])

    async def test_hostile_texts_as_keys(self, world: World) -> None:
        texts = [
            text
            for name, text in HOSTILE_TEXTS.items()
            if name not in ("surrogate", "nul", "one MiB")
        ]
        cls = record(id=str, n=int)
        rows = [{"id": text, "n": i} for i, text in enumerate(texts)]
        world.containers["t"] = Container(cls, rows)
        await world.update()
        assert await world.adapter.read("t") == by_key(rows)
        gone = rows.pop(3)
        await world.update()
        found = await world.adapter.read("t")
        assert found is not None
        assert gone["id"] not in {key[0] for key in found}
        assert found == by_key(rows)

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    async def test_hostile_names_are_refused_where_they_are_declared(
        self, world: World, name: str
    ) -> None:
        world.containers[name] = Container(Item, items(1))
        before = world.adapter.trips
        with pytest.raises(ValueError, match="Invalid"):
            await world.update()
        assert world.adapter.trips == before

    async def test_hostile_names_arrive_if_they_may_be_quoted(self, world: World) -> None:
        """But for those with quotes and NUL, which no quoting makes safe."""
        for name in HOSTILE_NAMES:
            world.containers = {name: Container(Item, items(2), options={"quoted": True})}
            if not name or set(name) & set("\"'\0"):
                with pytest.raises(ValueError, match="Invalid"):
                    await world.update()
                continue
            await world.update()
            world.containers[name].rows = items(3, "changed")[1:]
            await world.update()
            assert await world.adapter.read(name) == by_key(items(3, "changed")[1:]), name
            world.containers = {}
            await world.update()
            assert await world.adapter.read(name) is None, name

    async def test_names_that_are_too_long_are_refused(self, world: World) -> None:
        if self.longest_name is None:
            return
        for name in ("n" * (self.longest_name + 1), "n" * 10_000):
            world.containers = {name: Container(Item, items(1))}
            with pytest.raises(ValueError, match="Invalid"):
                await world.update()
        name = "n" * self.longest_name
        world.containers = {name: Container(Item, items(1))}
        await world.update()
        assert await world.adapter.read(name) == by_key(items(1))

    async def test_a_row_without_key_is_refused(self, world: World) -> None:
        for bad in ({"text": "x"}, {"id": None, "text": "x"}):
            world.containers["t"] = Container(Item, [bad])
            with pytest.raises(ValueError, match="primary key column 'id'"):
                await world.update()
            assert not await world.adapter.read("t")

    async def test_columns_that_do_not_exist_are_told(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        rows = [{**row, "more": 1} for row in items(3)]
        world.containers["t"] = Container(Item, rows)
        await world.update()
        assert await world.adapter.read("t") == by_key(items(3))
        assert sum("more" in record.getMessage() for record in caplog.records) == 1
