from __future__ import annotations

import asyncio
import contextvars
import pickle
import threading

import pytest

from cocoindex import RetryWithSmallerBatch, Runner, fn
from cocoindex.callables import runner


class Recorder:
    """Bodies that note their batches and wait until they may go on."""

    def __init__(self) -> None:
        self.batches: list[list[object]] = []
        self.gate = asyncio.Event()
        self.running = 0
        self.most = 0

    async def work(self, items):
        self.batches.append(list(items))
        self.running += 1
        self.most = max(self.most, self.running)
        await self.gate.wait()
        self.running -= 1
        return [f"<{item}>" for item in items]


@pytest.fixture
def recorder():
    return Recorder()


def start(*calls):
    return [asyncio.ensure_future(call) for call in calls]


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_single_call_is_a_batch_of_one():
    @fn(batching=True)
    async def double(items: list[int]) -> list[int]:
        return [2 * item for item in items]

    assert await double(4) == 8
    assert await double(items=5) == 10


async def test_calls_that_arrive_during_a_batch_form_the_next_one(recorder):
    @fn(batching=True)
    async def f(items: list[int]) -> list[str]:
        return await recorder.work(items)

    calls = start(f(0))
    await settle()
    calls += start(f(1), f(2), f(3))
    await settle()
    assert recorder.batches == [[0]]
    recorder.gate.set()
    assert await asyncio.gather(*calls) == ["<0>", "<1>", "<2>", "<3>"]
    assert recorder.batches == [[0], [1, 2, 3]]


async def test_a_full_batch_starts_at_once(recorder):
    @fn(batching=True, max_batch_size=2)
    async def f(items: list[int]) -> list[str]:
        return await recorder.work(items)

    calls = start(*(f(i) for i in range(6)))
    await settle()
    assert recorder.batches == [[0], [1, 2], [3, 4]]
    recorder.gate.set()
    await asyncio.gather(*calls)
    assert recorder.batches[3:] == [[5]]


async def test_calls_with_other_extra_arguments_go_separately(recorder):
    @fn(batching=True)
    async def f(items: list[int], scale, *, mode="m") -> list[str]:
        return await recorder.work([(item, scale, mode) for item in items])

    calls = start(f(1, 1), f(2, True), f(3, 1, mode="n"), f(4, 1), f(5, 1))
    await settle()
    assert recorder.batches == [[(1, 1, "m")], [(2, True, "m")], [(3, 1, "n")]]
    recorder.gate.set()
    await asyncio.gather(*calls)
    assert recorder.batches[3:] == [[(4, 1, "m"), (5, 1, "m")]]


async def test_unhashable_extra_arguments_group_by_identity(recorder):
    @fn(batching=True)
    async def f(items: list[int], options) -> list[str]:
        return await recorder.work(items)

    one, other = {"a": 1}, {"a": 1}
    calls = start(f(0, one), f(1, one), f(2, one), f(3, other))
    recorder.gate.set()
    await asyncio.gather(*calls)
    assert sorted(recorder.batches) == [[0], [1, 2], [3]]


async def test_instances_have_separate_batches(recorder):
    class Model:
        def __init__(self, name):
            self.name = name

        @fn(batching=True)
        async def embed(self, texts: list[str]) -> list[str]:
            return await recorder.work([self.name + text for text in texts])

    a, b = Model("a"), Model("b")
    calls = start(a.embed("1"), b.embed("1"), a.embed("2"), a.embed("3"), Model.embed(b, "2"))
    recorder.gate.set()
    assert await asyncio.gather(*calls) == ["<a1>", "<b1>", "<a2>", "<a3>", "<b2>"]
    assert sorted(recorder.batches) == [["a1"], ["a2", "a3"], ["b1"], ["b2"]]


async def test_sync_bodies_run_in_a_thread():
    @fn.as_async(batching=True)
    def f(items: list[int]) -> list[bool]:
        return [threading.current_thread() is threading.main_thread()] * len(items)

    assert await f(1) is False


async def test_the_body_is_detached_from_its_callers():
    variable = contextvars.ContextVar("variable", default="nobody")

    @fn(batching=True)
    async def f(items: list[int]) -> list[str]:
        return [variable.get()] * len(items)

    variable.set("caller")
    assert await f(1) == "nobody"


async def test_a_wrong_number_of_results_fails_every_caller():
    @fn(batching=True)
    async def f(items: list[int]) -> list[int]:
        return [1, 2, 3]

    with pytest.raises(ValueError, match="returned 3 results for a batch of 1 items"):
        await f(1)


async def test_a_result_that_is_no_list_fails():
    @fn(batching=True)
    async def f(items: list[int]) -> list[int]:
        return 5  # type: ignore[return-value]

    with pytest.raises(TypeError, match="must return a list"):
        await f(1)


async def test_an_exception_reaches_every_caller_with_its_type(recorder):
    @fn(batching=True)
    async def f(items: list[int]) -> list[str]:
        await recorder.work(items)
        raise LookupError(str(items))

    calls = start(f(0))
    await settle()
    calls += start(f(1), f(2))
    recorder.gate.set()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(e) for e in errors] == ["[0]", "[1, 2]", "[1, 2]"]
    assert {type(e) for e in errors} == {LookupError}


async def test_a_missing_item_is_an_error():
    @fn(batching=True)
    async def f(items: list[int]) -> list[int]:
        return items

    with pytest.raises(ValueError, match="one input item"):
        await f()


async def test_a_batch_that_nobody_wants_any_more_is_cancelled(recorder):
    cancelled = asyncio.Event()

    @fn(batching=True, max_batch_size=2)
    async def f(items: list[int]) -> list[str]:
        try:
            return await recorder.work(items)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    first, second, third = start(f(0), f(1), f(2))
    await settle()
    second.cancel()
    await settle()
    assert not cancelled.is_set()
    third.cancel()
    await cancelled.wait()
    recorder.gate.set()
    assert await first == "<0>"


async def test_a_cancelled_call_leaves_the_waiting_batch(recorder):
    @fn(batching=True)
    async def f(items: list[int]) -> list[str]:
        return await recorder.work(items)

    calls = start(f(0))
    await settle()
    calls += start(f(1), f(2))
    await settle()
    calls[1].cancel()
    recorder.gate.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert recorder.batches == [[0], [2]]


def test_one_function_works_on_several_loops():
    @fn(batching=True)
    async def f(items: list[int]) -> list[int]:
        return items

    assert [asyncio.run(f(1)), asyncio.run(f(2))] == [1, 2]


def test_results_of_batched_functions_are_single_items():
    @fn(batching=True, memo=True)
    async def f(items: list[int]) -> list[tuple[int, str]]:
        return [(item, "") for item in items]

    function = f.__coco_function__
    assert function.decode_result(function.encode_result((1, "a"))) == (1, "a")


# Splitting


@pytest.mark.parametrize("make", [fn, fn.as_async], ids=["async", "sync"])
async def test_a_poison_item_fails_alone(make):
    sizes: list[int] = []

    def body(items):
        sizes.append(len(items))
        try:
            if 5 in items:
                raise LookupError("poison")
        except LookupError as error:
            raise RetryWithSmallerBatch from error
        return [item * 10 for item in items]

    if make is fn:

        @fn(batching=True, max_batch_size=8)
        async def f(items: list[int]) -> list[int]:
            return body(items)
    else:

        @fn.as_async(batching=True, max_batch_size=8)
        def f(items: list[int]) -> list[int]:
            return body(items)

    first = asyncio.ensure_future(f(100))
    results = await asyncio.gather(*(f(i) for i in range(8)), return_exceptions=True)
    await first
    error = results.pop(5)
    assert results == [0, 10, 20, 30, 40, 60, 70]
    assert isinstance(error, LookupError)
    assert len(sizes) <= 1 + 2 * 8 - 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [("cause", LookupError), ("context", LookupError), ("bare", RetryWithSmallerBatch)],
)
async def test_a_single_item_fails_with_its_own_error(error, expected):
    @fn(batching=True)
    async def f(items: list[int]) -> list[int]:
        if error == "bare":
            raise RetryWithSmallerBatch
        try:
            raise LookupError
        except LookupError as cause:
            if error == "cause":
                raise RetryWithSmallerBatch from cause
            raise RetryWithSmallerBatch  # noqa: B904

    with pytest.raises(expected):
        await f(1)


async def test_after_a_split_an_ordinary_error_fails_only_its_part(recorder):
    @fn(batching=True)
    async def f(items: list[int]) -> list[int]:
        if len(items) == 4:
            raise RetryWithSmallerBatch
        if 1 in items:
            raise LookupError
        return items

    calls = start(f(0))
    calls += start(*(f(i) for i in (1, 2, 3, 4)))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(r) for r in results] == [int, LookupError, LookupError, int, int]


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError


def test_the_cause_survives_pickling_if_it_can():
    for cause, kept in ((LookupError("x"), LookupError), (Unpicklable(), type(None))):
        signal = RetryWithSmallerBatch()
        signal.__cause__ = cause
        assert type(pickle.loads(pickle.dumps(signal)).__cause__) is kept


# Runners


class Elsewhere(Runner):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, str]] = []

    async def run(self, fn, *args, **kwargs):
        self.calls.append(("run", fn.__name__))
        return await fn(*args, **kwargs)

    async def run_sync_fn(self, fn, *args, **kwargs):
        self.calls.append(("run_sync_fn", fn.__name__))
        return await asyncio.to_thread(fn, *args, **kwargs)


async def test_bodies_run_where_the_runner_says():
    runner = Elsewhere()

    @fn(runner=runner)
    async def one(x: int, *, y: int) -> int:
        return x + y

    @fn.as_async(runner=runner)
    def other(x: int) -> int:
        return -x

    assert (await one(1, y=2), await other(1)) == (3, -1)
    assert runner.calls == [("run", "one"), ("run_sync_fn", "other")]


async def test_functions_of_one_runner_share_a_queue_but_no_batches(recorder):
    runner = Elsewhere()

    class A:
        @fn(batching=True, runner=runner)
        async def f(self, items: list[int]) -> list[str]:
            return await recorder.work(items)

    class B:
        @fn(batching=True, runner=runner)
        async def f(self, items: list[int]) -> list[str]:
            return await recorder.work(items)

    a, b = A(), B()
    calls = start(a.f(1), b.f(10), a.f(2), b.f(20), a.f(3))
    await settle()
    assert recorder.batches == [[1]]
    recorder.gate.set()
    assert await asyncio.gather(*calls) == ["<1>", "<10>", "<2>", "<20>", "<3>"]
    assert recorder.batches == [[1], [10, 20], [2, 3]]
    assert recorder.most == 1


async def test_without_batching_the_runner_gets_every_call_at_once(recorder):
    @fn(runner=Elsewhere())
    async def f(item: int) -> list[str]:
        return await recorder.work([item])

    calls = start(f(1), f(2))
    await settle()
    assert recorder.most == 2
    recorder.gate.set()
    await asyncio.gather(*calls)


class Kept(Runner):
    """Keeps what it was given."""

    async def run(self, fn, *args, **kwargs):
        return pickle.dumps(fn)

    async def run_sync_fn(self, fn, *args, **kwargs):
        return pickle.dumps(fn)


@fn(runner=Kept())
async def picklable(x: int) -> object:
    return ("ran", x)


class Robot:
    def __init__(self, name):
        self.name = name

    @fn.as_async(runner=Kept())
    def act(self, x: int) -> object:
        return (self.name, x)


async def test_what_a_runner_gets_can_go_to_another_process():
    body = pickle.loads(await picklable(1))
    assert await body(5) == ("ran", 5)
    method = pickle.loads(await Robot("r").act(1))
    assert method.__self__.name == "r"
    assert method(5) == ("r", 5)


async def test_in_a_worker_process_functions_run_their_bare_bodies(monkeypatch):
    monkeypatch.setattr(runner.raw_bodies, "active", False)
    elsewhere = Elsewhere()

    @fn(runner=elsewhere)
    async def one(x: int) -> int:
        return x

    @fn.as_async(batching=True, runner=elsewhere)
    def many(items: list[int]) -> list[bool]:
        return [threading.current_thread() is threading.main_thread()] * len(items)

    runner.use_raw_bodies()
    assert (await one(1), await many(2)) == (1, True)
    assert elsewhere.calls == []


@pytest.mark.parametrize("turns", range(4))
async def test_a_batch_cancelled_as_it_starts_does_not_block_later_calls(turns):
    @fn(batching=True)
    async def increment(items: list[int]) -> list[int]:
        return [item + 1 for item in items]

    (call,) = start(increment(1))
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert await asyncio.wait_for(increment(2), 10) == 3
