"""Batching, retries, blocking clients, clients per loop."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoindex.connectorkits.batching import chunks
from cocoindex.connectorkits.per_loop import ClientCache
from cocoindex.connectorkits.retry import retrying
from cocoindex.connectorkits.threads import BlockingClient
from cocoindex.errors import TransientError

# --- chunks --------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 50)), st.integers(1, 7), st.integers(1, 60))
def test_chunks_keep_everything_within_their_limits(sizes, rows, most):
    parts = list(chunks(sizes, rows=rows, bytes=most, sizes=sizes))
    assert [size for part in parts for size in part] == sizes
    assert all(parts)
    for part in parts:
        assert len(part) <= rows
        assert sum(part) <= most or len(part) == 1


def test_chunks_are_as_large_as_they_may_be():
    assert [*chunks(range(5), rows=2)] == [[0, 1], [2, 3], [4]]
    assert [*chunks([3, 3, 9, 1], rows=9, bytes=6, sizes=[3, 3, 9, 1])] == [[3, 3], [9], [1]]


# --- retrying ------------------------------------------------------------------------------


class Lost(Exception):
    pass


def no_wait():
    return lambda _attempt: 0.0


async def attempts(failures, **options):
    made = 0

    async def attempt():
        nonlocal made
        made += 1
        if failures:
            raise failures.pop(0)
        return "done"

    try:
        result = await retrying(
            attempt,
            is_transient=lambda error: isinstance(error, Lost),
            what="writing",
            backoff=no_wait,
            **options,
        )
    except Exception as error:  # noqa: BLE001 - looked at by the test
        result = error
    return made, result


async def test_what_passes_is_tried_again():
    assert await attempts([Lost(), Lost()]) == (3, "done")


async def test_what_does_not_pass_is_raised_at_once():
    failure = ValueError("no")
    assert await attempts([failure]) == (1, failure)


async def test_it_gives_up_and_says_so_without_quoting_the_error():
    made, error = await attempts(
        [Lost("a value")] * 9, attempts=3, describe=lambda _error: "connection lost"
    )
    assert made == 3
    assert isinstance(error, TransientError)
    assert str(error) == "writing: connection lost (gave up after 3 attempts)"
    assert isinstance(error.orig, Lost)
    assert error.__cause__ is None
    assert error.__suppress_context__


# --- blocking clients ----------------------------------------------------------------------


async def test_calls_run_on_a_thread_in_order():
    calls = []
    client = BlockingClient(calls)

    def note(client, value):
        client.append((value, threading.current_thread().name))
        return value

    assert await asyncio.gather(*(client.call(note, i) for i in range(5))) == [*range(5)]
    assert [value for value, _ in calls] == [*range(5)]
    assert {name for _, name in calls} == {"cocoindex-client_0"}
    client.close()
    assert await client.call(note, 9) == 9
    client.close()


async def test_an_error_comes_back():
    client = BlockingClient(None)

    def fail(_client):
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await client.call(fail)
    client.close()


async def test_a_cancelled_call_is_interrupted_and_waited_for():
    started, stop, ended = threading.Event(), threading.Event(), threading.Event()
    client = BlockingClient("client", interrupt=lambda _client: stop.set())

    def work(_client):
        started.set()
        stop.wait(10)
        ended.set()

    task = asyncio.create_task(client.call(work))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    client.close()


async def test_a_call_that_has_not_begun_is_not_made():
    started, stop = threading.Event(), threading.Event()
    client = BlockingClient("client")
    calls = []

    def block(_client):
        started.set()
        stop.wait(10)

    first = asyncio.create_task(client.call(block))
    second = asyncio.create_task(client.call(lambda _client: calls.append(1)))
    await asyncio.to_thread(started.wait, 10)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    stop.set()
    await first
    client.close()
    assert calls == []


# --- one client per loop -------------------------------------------------------------------


class Client:
    closed = False


def cache():
    opened = []

    async def open_client():
        await asyncio.sleep(0)
        opened.append(Client())
        return opened[-1]

    async def close_client(client):
        client.closed = True

    return ClientCache(open_client, close_client, name="test client"), opened


async def test_all_tasks_of_a_loop_share_one_client():
    clients, opened = cache()
    got = await asyncio.gather(*(clients.acquire() for _ in range(4)))
    assert set(got) == {*opened}
    assert len(opened) == 1
    await clients.close()
    assert opened[0].closed
    assert await clients.acquire() is not opened[0]


def test_every_loop_has_its_own_and_closed_loops_are_forgotten(caplog):
    clients, opened = cache()
    asyncio.run(clients.acquire())
    asyncio.run(clients.acquire())
    assert len(opened) == 2
    asyncio.run(clients.close())
    assert caplog.messages == []


async def test_clients_of_other_loops_are_warned_of(caplog):
    clients, _ = cache()
    other = asyncio.new_event_loop()
    await asyncio.to_thread(other.run_until_complete, clients.acquire())
    await clients.acquire()
    with caplog.at_level(logging.WARNING):
        await clients.close()
    assert "1 clients of other event loops stay open" in caplog.text
    other.close()


async def test_a_failed_opening_is_tried_again():
    fail = True

    async def open_client():
        if fail:
            raise OSError("down")
        return "client"

    async def close_client(_client):
        pass

    clients = ClientCache(open_client, close_client)
    with pytest.raises(OSError, match="down"):
        await clients.acquire()
    fail = False
    assert await clients.acquire() == "client"
