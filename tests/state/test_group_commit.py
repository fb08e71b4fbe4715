import asyncio
import threading

import pytest

from cocoindex.errors import StoreError, StoreFullError
from cocoindex.state.memory import MemoryStore
from cocoindex.state.open import open_store


class Gate:
    """Holds the commits of a store back, and counts them."""

    def __init__(self, store):
        self._apply = store._apply
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.commits = []
        self.failure = None
        store._apply = self

    def __call__(self, work):
        self.commits.append(sorted((s.name, sorted(rows.rows)) for s, rows in work))
        self.entered.release()
        assert self.open.wait(30)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self._apply(work)

    async def reached(self):
        await asyncio.to_thread(self.entered.acquire)


@pytest.fixture
def store(tmp_path):
    store = open_store(tmp_path)
    yield store
    store.close()


async def put(section, key, value=b""):
    section.write([(key, value)])
    await section.flushed()


async def test_batches_of_one_turn_of_the_loop_share_a_commit():
    store = MemoryStore()
    await asyncio.gather(*(put(store.section(str(n % 3)), b"%d" % n) for n in range(100)))
    assert store.disk.commits == 1
    store.close()
    assert store.disk.commits == 1


async def test_batches_written_during_a_commit_share_the_next_one(store):
    gate = Gate(store)
    section = store.section("app")
    first = asyncio.create_task(put(section, b"1"))
    await gate.reached()
    others = [asyncio.create_task(put(section, b"%d" % n)) for n in range(2, 5)]
    await asyncio.sleep(0)
    assert section.scan_keys(b"") == [b"1", b"2", b"3", b"4"]
    gate.open.set()
    await asyncio.gather(first, *others)
    assert gate.commits == [[("app", [b"1"])], [("app", [b"2", b"3", b"4"])]]


async def test_a_value_overwritten_during_a_commit_stays(store):
    gate = Gate(store)
    section = store.section("app")
    first = asyncio.create_task(put(section, b"a", b"old"))
    await gate.reached()
    section.write([(b"a", b"new")])
    assert section.get(b"a") == b"new"
    gate.open.set()
    await first
    assert section.get(b"a") == b"new"
    assert section.pending_bytes == 4
    store.flush()
    assert section.get(b"a") == b"new"


async def test_a_clear_during_a_commit_hides_what_is_being_committed(store):
    gate = Gate(store)
    section = store.section("app")
    first = asyncio.create_task(put(section, b"a"))
    await gate.reached()
    section.clear()
    section.write([(b"b", b"")])
    assert (section.get(b"a"), section.scan_keys(b""), section.get_many([b"a"])) == (
        None,
        [b"b"],
        [None],
    )
    gate.open.set()
    await first
    assert section.scan_keys(b"") == [b"b"]
    store.flush()
    assert section.scan_keys(b"") == [b"b"]


async def test_waiting_covers_only_what_was_accepted_before(store):
    gate = Gate(store)
    gate.open.set()
    section = store.section("app")
    await put(section, b"a")
    section.write([(b"b", b"")])
    await store.section("other").flushed()
    assert len(gate.commits) == 1


async def test_a_snapshot_taken_during_a_commit_has_everything_accepted(store):
    gate = Gate(store)
    section = store.section("app")
    first = asyncio.create_task(put(section, b"a", b"1"))
    await gate.reached()
    section.write([(b"b", b"2")])
    with section.snapshot() as view:
        section.write([(b"b", b"3"), (b"a", None)])
        gate.open.set()
        await first
        store.flush()
        assert list(view.scan(b"")) == [(b"a", b"1"), (b"b", b"2")]


async def test_a_failed_flush_discards_also_what_came_later(store):
    gate = Gate(store)
    gate.open.set()
    section, other = store.section("app"), store.section("other")
    await asyncio.gather(put(section, b"a", b"1"), put(other, b"a", b"1"))
    gate.entered = threading.Semaphore(0)
    gate.open.clear()
    gate.failure = StoreFullError("the disk is full")
    first = asyncio.create_task(put(section, b"a", b"2"))
    await gate.reached()
    later = asyncio.create_task(put(section, b"b", b"2"))
    beside = asyncio.create_task(put(other, b"a", b"2"))
    await asyncio.sleep(0)
    gate.open.set()
    results = await asyncio.gather(first, later, beside, return_exceptions=True)
    assert [type(result) for result in results] == [StoreFullError, StoreFullError, type(None)]
    assert results[0] is not results[1]
    assert section.scan(b"") == [(b"a", b"1")]
    assert other.get(b"a") == b"2"
    assert section.pending_bytes == 0


async def test_a_failed_section_refuses_until_it_is_reset():
    store = MemoryStore()
    section = store.section("app")
    store.disk.failure = StoreError("broken")
    with pytest.raises(StoreError, match="broken"):
        await put(section, b"a")
    store.disk.failure = None
    for call in (lambda: section.write([]), section.clear):
        with pytest.raises(StoreError, match="broken"):
            call()
    with pytest.raises(StoreError, match="broken"):
        await section.flushed()
    assert section.get(b"a") is None
    section.reset_failure()
    await put(section, b"a")
    assert section.get(b"a") == b""


async def test_a_reset_does_not_hide_the_loss_from_a_waiter():
    store = MemoryStore()
    section = store.section("app")
    store.disk.failure = StoreError("broken")
    waiter = asyncio.create_task(put(section, b"a"))
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="broken"):
        store.flush()
    section.reset_failure()
    with pytest.raises(StoreError, match="broken"):
        await waiter


async def test_any_error_of_a_commit_reaches_the_waiter(store):
    gate = Gate(store)
    gate.open.set()
    gate.failure = ZeroDivisionError("a bug")
    with pytest.raises(StoreError, match="a bug") as caught:
        await put(store.section("app"), b"a")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    store.section("app").reset_failure()
    await put(store.section("app"), b"a")


def test_closing_tells_of_a_failed_flush_and_closes(tmp_path):
    store = open_store(tmp_path)
    gate = Gate(store)
    gate.open.set()
    gate.failure = StoreFullError("the disk is full")
    store.section("app").write([(b"a", b"")])
    with pytest.raises(StoreFullError):
        store.close()
    store.close()
    open_store(tmp_path).close()


async def test_a_loop_that_was_closed_disturbs_nobody(store):
    gate = Gate(store)
    section = store.section("app")
    loop = asyncio.new_event_loop()
    section.write([(b"a", b"")])
    waiter = section.flushed()

    def abandon() -> None:
        task = loop.create_task(waiter)
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False
        loop.close()

    await asyncio.to_thread(abandon)
    gate.open.set()
    await put(section, b"b")
    assert section.scan_keys(b"") == [b"a", b"b"]


async def test_a_crash_of_the_memory_store_loses_only_what_was_not_flushed():
    store = MemoryStore()
    section = store.section("app")
    await put(section, b"a")
    section.write([(b"b", b"")])
    again = store.crash()
    with pytest.raises(StoreError, match="closed"):
        section.get(b"a")
    assert again.section("app").scan_keys(b"") == [b"a"]


async def test_a_waiter_whose_batches_a_crash_lost_hears_of_it():
    store = MemoryStore()
    waiter = asyncio.create_task(put(store.section("app"), b"a"))
    await asyncio.sleep(0)
    store.crash()
    with pytest.raises(StoreError, match="closed"):
        await waiter
