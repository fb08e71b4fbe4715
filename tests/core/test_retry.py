from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from cocoindex.core import deadline
from cocoindex.core.deadline import timeout
from cocoindex.core.retry import exponential_backoff, retry_transient
from cocoindex.errors import DeadlineExceededError


class Flaky(Exception):
    pass


class Script:
    """Attempts that fail or succeed by script; a number moves the deadline clock, in ms."""

    def __init__(self, *steps: Any) -> None:
        self.steps = iter(steps)
        self.made = 0

    async def __call__(self) -> Any:
        self.made += 1
        step = next(self.steps)
        if isinstance(step, tuple):
            deadline.testing_advance_deadline_clock(step[0])
            step = step[1]
        if isinstance(step, BaseException):
            raise step
        return step


@pytest.fixture(autouse=True)
def sleeps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    monkeypatch.setenv("COCOINDEX_TESTING", "1")
    deadline.testing_reset_deadline_clock()
    slept: list[float] = []

    async def sleep(delay: float) -> None:
        slept.append(delay)
        deadline.testing_advance_deadline_clock(delay * 1000)

    monkeypatch.setattr("cocoindex.core.retry.asyncio.sleep", sleep)
    yield slept
    deadline.testing_disable_deadline_clock()


async def test_the_first_success_is_the_result(sleeps: list[float]) -> None:
    fn = Script(Flaky(), Flaky(), "done")
    assert await retry_transient(fn, retry_on=Flaky) == "done"
    assert fn.made == 3
    assert sleeps == [1.0, 2.0]


async def test_other_errors_propagate_at_once() -> None:
    for error in (KeyError(), asyncio.CancelledError(), KeyboardInterrupt()):
        fn = Script(error)
        with pytest.raises(type(error)):
            await retry_transient(fn, retry_on=(Flaky,))
        assert fn.made == 1


async def test_a_predicate_may_choose() -> None:
    fn = Script(ValueError("again"), ValueError("stop"))
    with pytest.raises(ValueError, match="stop"):
        await retry_transient(fn, retry_on=lambda error: "again" in str(error))


async def test_attempts_used_up_give_the_last_error(sleeps: list[float]) -> None:
    fn = Script(Flaky("1"), Flaky("2"))
    with pytest.raises(Flaky, match="2"):
        await retry_transient(fn, retry_on=Flaky, max_attempts=2)
    assert sleeps == [1.0]


async def test_a_deadline_error_is_never_retried() -> None:
    fn = Script(DeadlineExceededError())
    with pytest.raises(DeadlineExceededError):
        await retry_transient(fn, retry_on=Exception)
    assert fn.made == 1


async def test_sleeps_are_cut_at_the_deadline(sleeps: list[float]) -> None:
    fn = Script(Flaky(), Flaky(), Flaky())
    with pytest.raises(DeadlineExceededError) as caught:
        await retry_transient(fn, retry_on=Flaky, timeout=timedelta(seconds=2.5))
    assert sleeps == [1.0, 1.5]
    assert fn.made == 2
    assert isinstance(caught.value.__cause__, Flaky)


async def test_the_callers_deadline_counts_too(sleeps: list[float]) -> None:
    with timeout(timedelta(seconds=1)):
        fn = Script(Flaky(), Flaky())
        with pytest.raises(DeadlineExceededError):
            await retry_transient(fn, retry_on=Flaky, timeout=timedelta(seconds=60))
        assert not deadline.is_expired()
    assert sum(sleeps) <= 1


async def test_no_attempt_starts_past_the_deadline() -> None:
    fn = Script("never")
    with timeout(timedelta(seconds=1)):
        deadline.testing_advance_deadline_clock(1001)
        with pytest.raises(DeadlineExceededError):
            await retry_transient(fn, retry_on=Flaky)
    assert fn.made == 0


async def test_no_result_is_accepted_past_the_deadline() -> None:
    fn = Script((2000, "late"))
    with pytest.raises(DeadlineExceededError):
        await retry_transient(fn, retry_on=Flaky, timeout=timedelta(seconds=1))


async def test_a_failure_past_the_deadline_ends_it() -> None:
    fn = Script((2000, Flaky()))
    with pytest.raises(DeadlineExceededError):
        await retry_transient(fn, retry_on=Flaky, timeout=timedelta(seconds=1))


async def test_a_bounded_attempt_is_cancelled_at_the_deadline() -> None:
    cancelled = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(DeadlineExceededError):
        await retry_transient(
            hang, retry_on=Flaky, timeout=timedelta(milliseconds=1), bound_attempt=True
        )
    assert cancelled == [True]


async def test_a_timeout_of_the_operation_itself_passes_unchanged() -> None:
    own = TimeoutError("server said so")
    with pytest.raises(TimeoutError) as caught:
        await retry_transient(
            Script(own), retry_on=Flaky, timeout=timedelta(seconds=9), bound_attempt=True
        )
    assert caught.value is own


async def test_each_retry_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        await retry_transient(Script(Flaky("boom"), 1), retry_on=Flaky, operation_name="op")
    (message,) = caplog.messages
    assert message == "op failed with transient error on attempt 1; retrying in 1.00 s: boom"


@pytest.mark.parametrize(
    "wrong", [{"max_attempts": 0}, {"timeout": timedelta(0)}, {"timeout": timedelta(seconds=-1)}]
)
async def test_limits_must_make_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        await retry_transient(Script(1), retry_on=Flaky, **wrong)


async def test_the_backoff_may_be_given(sleeps: list[float]) -> None:
    seen: list[int] = []

    def backoff(attempt: int) -> float:
        seen.append(attempt)
        return 0.25

    await retry_transient(Script(Flaky(), Flaky(), 1), retry_on=Flaky, backoff=backoff)
    assert seen == [0, 1]
    assert sleeps == [0.25, 0.25]


def delays(backoff: Callable[[int], float], count: int) -> list[float]:
    return [backoff(attempt) for attempt in range(count)]


def test_the_backoff_grows_to_its_limit() -> None:
    assert delays(exponential_backoff(), 7) == [1, 2, 4, 8, 16, 30, 30]
    assert delays(exponential_backoff(0.5, 3, 2), 4) == [0.5, 1.5, 2, 2]


def test_jitter_varies_the_delay_by_its_share() -> None:
    for delay in delays(exponential_backoff(multiplier=1, jitter=0.5), 200):
        assert 0.5 <= delay <= 1.5


@pytest.mark.parametrize(
    "wrong", [{"initial": -1}, {"multiplier": 0.5}, {"max_delay": -1}, {"jitter": 2}]
)
def test_a_backoff_must_make_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="exponential_backoff"):
        exponential_backoff(**wrong)
