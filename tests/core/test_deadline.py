from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from cocoindex.core import deadline
from cocoindex.core.deadline import (
    check_cancellation,
    check_deadline,
    current_deadline,
    deadline_scope,
    has_deadline,
    is_expired,
    remaining_seconds,
    timeout,
    without_deadline,
)
from cocoindex.errors import DeadlineExceededError


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COCOINDEX_TESTING", "1")
    deadline.testing_reset_deadline_clock()
    yield
    monkeypatch.setenv("COCOINDEX_TESTING", "1")
    deadline.testing_disable_deadline_clock()


advance = deadline.testing_advance_deadline_clock


def test_without_a_deadline_nothing_expires() -> None:
    assert current_deadline() is None
    assert remaining_seconds() is None
    assert not has_deadline()
    advance(1e12)
    check_cancellation()


def test_a_deadline_expires_strictly_after_its_instant() -> None:
    with timeout(timedelta(seconds=1)):
        assert has_deadline()
        advance(1000)
        check_deadline()
        assert not is_expired()
        advance(1)
        assert is_expired()
        with pytest.raises(DeadlineExceededError, match="deadline exceeded") as caught:
            check_cancellation()
        assert isinstance(caught.value, TimeoutError)
        assert remaining_seconds() == 0.0
    check_cancellation()


def test_zero_expires_as_soon_as_the_clock_moves() -> None:
    with timeout(timedelta(0)):
        check_cancellation()
        advance(1)
        with pytest.raises(DeadlineExceededError):
            check_cancellation()


def test_nesting_takes_the_nearer_deadline_and_restores_exactly() -> None:
    with timeout(timedelta(seconds=10)):
        outer = current_deadline()
        with timeout(timedelta(seconds=99)):
            assert current_deadline() == outer
        with timeout(timedelta(seconds=1)):
            assert remaining_seconds() == pytest.approx(1)
            with without_deadline():
                assert not has_deadline()
                with deadline_scope(outer):
                    assert current_deadline() == outer
            assert remaining_seconds() == pytest.approx(1)
        assert current_deadline() == outer
    assert current_deadline() is None


def test_the_deadline_is_restored_after_an_error() -> None:
    with pytest.raises(KeyError), timeout(timedelta(seconds=1)):
        raise KeyError
    assert not has_deadline()


def test_the_duration_counts_from_entry() -> None:
    scope = timeout(timedelta(seconds=1))
    advance(5000)
    with scope:
        assert remaining_seconds() == pytest.approx(1)


async def test_tasks_have_their_own_deadlines() -> None:
    async def inner() -> float | None:
        with timeout(timedelta(seconds=1)):
            await asyncio.sleep(0)
            return remaining_seconds()

    with timeout(timedelta(seconds=5)):
        results = await asyncio.gather(inner(), asyncio.to_thread(remaining_seconds))
        assert results == [pytest.approx(1), pytest.approx(5)]


@pytest.mark.parametrize("wrong", [1, 1.5, "1", None])
def test_a_duration_is_a_timedelta(wrong: object) -> None:
    with pytest.raises(TypeError, match="timedelta"):
        timeout(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [timedelta(microseconds=-1), timedelta.max])
def test_a_duration_is_neither_negative_nor_endless(wrong: timedelta) -> None:
    with pytest.raises(ValueError, match="duration"):
        timeout(wrong)


def test_the_clock_can_be_set_in_tests_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COCOINDEX_TESTING")
    for call in (
        deadline.testing_reset_deadline_clock,
        deadline.testing_disable_deadline_clock,
        lambda: advance(1),
    ):
        with pytest.raises(RuntimeError, match="COCOINDEX_TESTING"):
            call()


def test_a_running_clock_cannot_be_advanced() -> None:
    deadline.testing_disable_deadline_clock()
    with pytest.raises(RuntimeError, match="not stopped"):
        advance(1)
