"""The conformance suite of state stores. Every store passes it; a new one subclasses it.

```python
class TestMyStore(StoreConformance):
    def open_store(self, location):
        return MyStore(location)
```
"""

# ruff: noqa: D102 - the name of a test says what it is about
# ruff: noqa: S311 - seeded, so that a failure can be repeated

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cocoindex.errors import StoreError, UsageTypeError
from cocoindex.state.base import FORMAT_VERSION, Section, Store

__all__ = ["StoreConformance"]

T = TypeVar("T")

_LONG = b"k" * 600
_BIG = 300_000


def _run(main: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(main)


def _fill(section: Section, **values: str) -> None:
    section.write([(key.encode(), value.encode()) for key, value in values.items()])


def _rows(**values: str) -> list[tuple[bytes, bytes]]:
    return [(key.encode(), value.encode()) for key, value in values.items()]


class StoreConformance(ABC):
    """What :class:`cocoindex.state.base.Store` promises, one test per promise."""

    _opened: list[Store]

    @abstractmethod
    def open_store(self, location: Path) -> Store:
        """Open the store at ``location``, a directory of the test's own that may not exist yet.

        Opened again after a close, it must have what was flushed before.
        """

    @pytest.fixture
    def location(self, tmp_path: Path) -> Path:
        """Where the store of one test lives."""
        return tmp_path / "store"

    @pytest.fixture
    def store(self, location: Path) -> Iterator[Store]:
        """An open, empty store, closed after the test."""
        self._opened = [self.open_store(location)]
        yield self._opened[0]
        for store in self._opened:
            store.close()

    @pytest.fixture
    def section(self, store: Store) -> Section:
        """The section that most tests use."""
        return store.section("app")

    def reopen(self, store: Store, location: Path) -> Section:
        """Close ``store``, open it again, and return the section that most tests use."""
        store.close()
        self._opened.append(self.open_store(location))
        return self._opened[-1].section("app")

    # Reading what was written

    def test_a_written_value_is_read_at_once(self, section: Section) -> None:
        _fill(section, a="1")
        assert section.get(b"a") == b"1"
        assert section.get(b"b") is None

    def test_a_flushed_value_is_read(self, store: Store, section: Section) -> None:
        _fill(section, a="1")
        store.flush()
        assert section.get(b"a") == b"1"
        assert section.get(b"b") is None

    def test_a_later_batch_wins(self, store: Store, section: Section) -> None:
        for value in "123":
            _fill(section, a=value)
        assert section.get(b"a") == b"3"
        store.flush()
        assert section.get(b"a") == b"3"

    def test_a_later_row_of_one_batch_wins(self, store: Store, section: Section) -> None:
        section.write([(b"a", b"1"), (b"a", None), (b"b", None), (b"b", b"2")])
        store.flush()
        assert section.get_many([b"a", b"b"]) == [None, b"2"]

    def test_a_deleted_key_is_gone(self, store: Store, section: Section) -> None:
        _fill(section, a="1", b="2")
        store.flush()
        section.write([(b"a", None), (b"never", None)])
        assert section.scan(b"") == _rows(b="2")
        store.flush()
        assert section.scan(b"") == _rows(b="2")

    def test_empty_keys_and_values_are_ordinary(self, store: Store, section: Section) -> None:
        section.write([(b"", b""), (b"a", b"")])
        assert section.scan(b"") == [(b"", b""), (b"a", b"")]
        store.flush()
        assert section.scan(b"") == [(b"", b""), (b"a", b"")]
        assert section.get(b"") == b""

    @pytest.mark.parametrize("leased", [False, True])
    def test_rows_read_ahead_are_those_of_now(
        self, store: Store, section: Section, leased: bool
    ) -> None:
        keys = [b"row %04d" % number for number in range(300)]
        section.write([(key, b"old") for key in keys[:-1]])
        store.flush()
        with section.acquire_lease() if leased else contextlib.nullcontext():
            assert [section.get(key, ahead=True) for key in keys[:20]] == [b"old"] * 20
            section.write([(keys[20], b"new"), (keys[21], None), (keys[-1], b"new")])
            assert section.get(keys[20], ahead=True) == b"new"
            store.flush()
            found = [section.get(key, ahead=True) for key in keys[19:]]
            assert found == [b"old", b"new", None, *[b"old"] * 277, b"new"]
            section.clear()
            assert section.get(keys[0], ahead=True) is None
            store.flush()
            assert [section.get(key, ahead=True) for key in keys] == [None] * 300

    def test_get_many_keeps_the_order_of_the_keys(self, store: Store, section: Section) -> None:
        _fill(section, a="1", b="2", c="3")
        store.flush()
        section.write([(b"b", None), (b"d", b"4")])
        keys = [b"d", b"x", b"a", b"b", b"a"]
        assert section.get_many(keys) == [b"4", None, b"1", None, b"1"]
        assert section.get_many([]) == []

    def test_a_row_that_is_not_bytes_is_refused_with_its_batch(self, section: Section) -> None:
        bad: Any = [(b"a", b"1"), ("b", b"2")]
        with pytest.raises(UsageTypeError, match="'b'"):
            section.write(bad)
        assert section.scan(b"") == []

    # Ranges

    def test_a_scan_is_in_key_order(self, store: Store, section: Section) -> None:
        keys = [bytes([n]) for n in random.Random(7).sample(range(256), 256)]
        section.write([(key, key) for key in keys[:128]])
        store.flush()
        section.write([(key, key) for key in keys[128:]])
        assert section.scan(b"") == [(key, key) for key in sorted(keys)]
        assert section.scan_keys(b"") == sorted(keys)

    def test_a_scan_has_only_keys_with_the_prefix(self, store: Store, section: Section) -> None:
        keys = [b"a", b"a\x00", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff", b"\xff\xffa"]
        for flushed in (False, True):
            section.write([(key, b"") for key in keys])
            if flushed:
                store.flush()
            for prefix in [*keys, b"", b"a\xff\xff\xff", b"zz"]:
                expected = sorted(key for key in keys if key.startswith(prefix))
                assert section.scan_keys(prefix) == expected
                assert [key for key, _ in section.scan(prefix)] == expected

    def test_start_is_inclusive_and_stays_inside_the_prefix(
        self, store: Store, section: Section
    ) -> None:
        section.write([(key, b"") for key in (b"a", b"b1", b"b2", b"b3", b"c")])
        for _ in ("pending", "durable"):
            assert [key for key, _ in section.scan(b"b", start=b"b2")] == [b"b2", b"b3"]
            assert [key for key, _ in section.scan(b"b", start=b"b21")] == [b"b3"]
            assert len(section.scan(b"b", start=b"a")) == 3
            assert section.scan(b"b", start=b"c") == []
            store.flush()

    def test_a_limit_counts_rows_that_exist(self, store: Store, section: Section) -> None:
        section.write([(b"%03d" % n, b"") for n in range(100)])
        store.flush()
        section.write([(b"%03d" % n, None) for n in range(60)])
        section.write([(b"%03d!" % n, b"") for n in range(0, 100, 10)])
        everything = section.scan(b"")
        assert len(everything) == 50
        for limit in (0, 1, 5, 6, 7, 8, 49, 50, 51, 1000):
            assert section.scan(b"", limit=limit) == everything[:limit]

    def test_a_scan_can_be_continued_page_by_page(self, store: Store, section: Section) -> None:
        section.write([(b"%05d" % n, b"") for n in range(0, 3000, 2)])
        store.flush()
        section.write([(b"%05d" % n, b"") for n in range(1, 3000, 2)])
        found: list[bytes] = []
        while page := section.scan(b"", start=found[-1] + b"\0" if found else None, limit=700):
            found += [key for key, _ in page]
        assert found == [b"%05d" % n for n in range(3000)]

    # Long keys, large values

    def test_long_keys_are_ordinary(self, store: Store, location: Path, section: Section) -> None:
        keys = [_LONG[:n] + tail for n in (474, 475, 476, 506, 507, 600) for tail in (b"", b"a")]
        keys += [_LONG + b"z" + bytes([n]) * 5000 for n in range(3)]
        section.write([(key, key[::-1]) for key in keys])
        _check_long(section, keys)
        store.flush()
        _check_long(section, keys)
        _check_long(self.reopen(store, location), keys)

    def test_long_keys_can_be_replaced_and_deleted(self, store: Store, section: Section) -> None:
        section.write([(_LONG + b"1", b"old"), (_LONG + b"2", b"old")])
        store.flush()
        section.write([(_LONG + b"1", b"new"), (_LONG + b"2", None)])
        store.flush()
        assert section.scan(b"") == [(_LONG + b"1", b"new")]

    def test_large_values_are_ordinary(self, store: Store, location: Path) -> None:
        section = store.section("app")
        section.write([(b"a", b"x" * _BIG), (b"b", b"y" * _BIG), (b"c", b"small")])
        store.flush()
        section.write([(b"a", b"small"), (b"b", None), (b"c", b"z" * _BIG)])
        store.flush()
        section = self.reopen(store, location)
        assert section.scan(b"") == [(b"a", b"small"), (b"c", b"z" * _BIG)]

    # Sections

    def test_sections_do_not_see_each_other(self, store: Store) -> None:
        one, two = store.section("one"), store.section("two")
        _fill(one, a="1")
        _fill(two, a="2", b="2")
        store.flush()
        one.write([(b"a", None)])
        assert (one.get(b"a"), two.get(b"a")) == (None, b"2")
        assert one.scan(b"") == []

    def test_the_same_name_is_the_same_section(self, store: Store) -> None:
        assert store.section("app") is store.section("app")
        assert store.section("app").name == "app"

    def test_only_sections_with_data_are_listed(self, store: Store, location: Path) -> None:
        store.section("unused")
        for name in ("b", "a", "ä/" * 400):
            _fill(store.section(name), a="1")
        assert store.section_names() == ["a", "b", "ä/" * 400]
        store.flush()
        store.section("b").clear()
        assert store.section_names() == ["a", "ä/" * 400]
        store.close()
        again = self.open_store(location)
        assert again.section_names() == ["a", "ä/" * 400]
        again.close()

    def test_a_cleared_section_is_empty_at_once(self, store: Store, section: Section) -> None:
        _fill(section, a="1")
        store.flush()
        _fill(section, b="2")
        section.clear()
        assert (section.get(b"a"), section.get_many([b"b"])) == (None, [None])
        assert (section.scan(b""), section.scan_keys(b"")) == ([], [])

    def test_a_cleared_section_can_be_filled_again(
        self, store: Store, location: Path, section: Section
    ) -> None:
        _fill(section, a="1", b="1")
        store.flush()
        section.clear()
        _fill(section, b="2")
        assert section.scan(b"") == _rows(b="2")
        assert self.reopen(store, location).scan(b"") == _rows(b="2")

    def test_clearing_leaves_other_sections_alone(self, store: Store) -> None:
        names = ("one", "two", "three")
        for cleared in names:
            for name in names:
                _fill(store.section(name), a=name)
            store.flush()
            store.section(cleared).clear()
            store.flush()
            left = [name for name in names if store.section(name).get(b"a") is not None]
            assert left == [name for name in names if name != cleared]

    # Durability

    def test_flushed_batches_survive(self, store: Store, location: Path, section: Section) -> None:
        async def main() -> None:
            _fill(section, a="1")
            await section.flushed()

        _run(main())
        assert section.pending_bytes == 0
        assert self.reopen(store, location).get(b"a") == b"1"

    def test_closing_flushes(self, store: Store, location: Path, section: Section) -> None:
        _fill(section, a="1")
        assert self.reopen(store, location).get(b"a") == b"1"

    def test_waiting_for_nothing_returns(self, store: Store, section: Section) -> None:
        _run(section.flushed())
        store.flush()
        assert section.pending_bytes == 0

    def test_pending_bytes_count_what_is_not_durable(self, store: Store, section: Section) -> None:
        assert section.pending_bytes == 0
        section.write([(b"a", b"x" * 1000)])
        assert section.pending_bytes >= 1001
        store.flush()
        assert section.pending_bytes == 0

    def test_everybody_who_waits_is_woken(self, store: Store) -> None:
        async def one(number: int) -> None:
            section = store.section(str(number % 3))
            for step in range(3):
                section.write([(b"%d/%d" % (number, step), b"")])
                await section.flushed()

        async def main() -> None:
            await asyncio.gather(*(one(number) for number in range(300)))

        _run(main())
        assert sum(len(store.section(str(n)).scan(b"")) for n in range(3)) == 900
        assert sum(store.section(str(n)).pending_bytes for n in range(3)) == 0

    def test_a_cancelled_waiter_does_not_disturb_others(self, section: Section) -> None:
        async def wait() -> str:
            await section.flushed()
            return "durable"

        async def main() -> list[str | BaseException]:
            _fill(section, a="1")
            tasks = [asyncio.create_task(wait()) for _ in range(3)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        first, second, third = _run(main())
        assert (first, third) == ("durable", "durable")
        assert isinstance(second, asyncio.CancelledError)

    def test_several_loops_may_wait(self, store: Store) -> None:
        errors: list[BaseException] = []

        async def work(name: str) -> None:
            section = store.section(name)
            for step in range(20):
                section.write([(b"%d" % step, b"")])
                await section.flushed()

        def run(name: str) -> None:
            try:
                _run(work(name))
            except BaseException as error:  # noqa: BLE001 - shown by the assertion below
                errors.append(error)

        threads = [threading.Thread(target=run, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert [len(store.section(name).scan(b"")) for name in "abc"] == [20, 20, 20]

    # Snapshots

    def test_a_snapshot_has_pending_batches_but_no_later_ones(
        self, store: Store, section: Section
    ) -> None:
        _fill(section, a="1", b="1")
        store.flush()
        section.write([(b"a", None), (b"c", b"2")])
        with section.snapshot() as view:
            _fill(section, a="3", b="3", c="3", d="3")
            store.flush()
            section.clear()
            store.flush()
            assert list(view.scan(b"")) == _rows(b="1", c="2")
            assert [view.get(key) for key in (b"a", b"b", b"c", b"d")] == [None, b"1", b"2", None]

    def test_a_snapshot_of_an_unknown_section_stays_empty(
        self, store: Store, section: Section
    ) -> None:
        with section.snapshot() as view:
            _fill(section, a="1")
            store.flush()
            assert (list(view.scan(b"")), view.get(b"a")) == ([], None)

    def test_a_snapshot_streams_long_ranges(self, store: Store, section: Section) -> None:
        keys = [b"%05d" % n for n in range(2500)]
        section.write([(key, b"") for key in keys])
        store.flush()
        with section.snapshot() as view:
            found = []
            for key, _ in view.scan(b"0"):
                found.append(key)
                section.write([(key, None)])
                if len(found) % 1000 == 0:
                    store.flush()
            assert found == keys
            assert [key for key, _ in view.scan(b"02", start=b"02490")] == keys[2490:]

    def test_info_tells_of_the_size(self, store: Store, section: Section) -> None:
        section.write([(b"a", random.Random(0).randbytes(_BIG))])
        store.flush()
        info = store.info
        assert info.format_version == FORMAT_VERSION
        assert _BIG <= info.used_bytes <= info.mapped_bytes

    # Leases

    def test_a_lease_is_shared_within_the_process(self, section: Section) -> None:
        with section.acquire_lease(), section.acquire_lease():
            pass
        with section.acquire_lease(wait_seconds=0.1):
            pass

    # Closing

    def test_closing_twice_is_fine(self, store: Store) -> None:
        store.close()
        store.close()

    def test_a_closed_store_refuses_everything(self, store: Store, section: Section) -> None:
        _fill(section, a="1")
        store.flush()
        store.close()
        calls: list[Any] = [
            store.flush,
            store.section_names,
            section.clear,
            section.acquire_lease,
            lambda: store.section("app"),
            lambda: section.get(b"a"),
            lambda: section.get_many([b"a"]),
            lambda: section.scan(b""),
            lambda: section.scan_keys(b""),
            lambda: section.snapshot().__enter__(),
            lambda: section.write([(b"a", b"2")]),
            lambda: _run(section.flushed()),
        ]
        for call in calls:
            with pytest.raises(StoreError, match="closed"):
                call()
        assert store.location

    # Everything at once

    @pytest.mark.parametrize("seed", range(4))
    def test_it_behaves_like_a_sorted_dict(self, location: Path, seed: int) -> None:
        rng = random.Random(seed)
        store = self.open_store(location)
        model: dict[bytes, bytes] = {}
        for _ in range(400):
            match rng.randrange(12):
                case 0:
                    store.flush()
                case 1 if rng.random() < 0.2:
                    store.close()
                    store = self.open_store(location)
                case 2 if rng.random() < 0.1:
                    store.section("app").clear()
                    model.clear()
                case 3 | 4 | 5:
                    _check(store.section("app"), model, rng)
                case _:
                    _write(store.section("app"), model, rng)
        assert store.section("app").scan(b"") == sorted(model.items())
        store.close()


def _check_long(section: Section, keys: list[bytes]) -> None:
    expected = [(key, key[::-1]) for key in sorted(keys)]
    assert section.scan(b"") == expected
    assert section.scan_keys(b"") == [key for key, _ in expected]
    assert section.get_many(keys) == [key[::-1] for key in keys]
    assert [section.get(key) for key in keys] == [key[::-1] for key in keys]
    assert section.get(_LONG[:599]) is None
    for prefix in (_LONG[:475], _LONG[:490], _LONG[:507], _LONG, _LONG + b"z"):
        inside = [row for row in expected if row[0].startswith(prefix)]
        assert section.scan(prefix) == inside
        assert section.scan(prefix, start=inside[1][0], limit=2) == inside[1:3]


def _key(rng: random.Random) -> bytes:
    length = rng.choice([0, 1, 1, 2, 2, 2, 3, 480, 507, 520])
    stem = b"\xff" * 478 if length > 3 else b""
    return stem + bytes(rng.choice([0, 97, 98, 255]) for _ in range(length - len(stem)))


def _write(section: Section, model: dict[bytes, bytes], rng: random.Random) -> None:
    batch: dict[bytes, bytes | None] = {}
    for _ in range(rng.randrange(1, 12)):
        batch[_key(rng)] = None if rng.random() < 0.3 else rng.randbytes(rng.choice([0, 3, 3000]))
    section.write(list(batch.items()))
    for key, value in batch.items():
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value


def _check(section: Section, model: dict[bytes, bytes], rng: random.Random) -> None:
    prefix = _key(rng)[: rng.randrange(3)] if rng.random() < 0.7 else _key(rng)
    start = rng.choice([None, prefix + _key(rng)])
    limit = rng.choice([None, 0, 1, 2, 5, 50])
    inside = [row for row in sorted(model.items()) if row[0].startswith(prefix)]
    expected = [row for row in inside if start is None or row[0] >= start][:limit]
    assert section.scan(prefix, start=start, limit=limit) == expected
    assert section.scan_keys(prefix) == [key for key, _ in inside]
    keys = [_key(rng) for _ in range(5)]
    assert section.get_many(keys) == [model.get(key) for key in keys]
    assert [section.get(key) for key in keys] == [model.get(key) for key in keys]
