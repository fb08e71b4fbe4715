"""Kills of a real process whose store is in Postgres."""

from contextlib import closing

import pytest

from cocoindex.state.open import open_store

WRITER = """
    import asyncio, itertools, sys
    from cocoindex.state.open import open_store

    async def main():
        section = open_store(sys.argv[1]).section("app")
        with section.acquire_lease():
            for number in itertools.count(int(sys.argv[2])):
                for step in range(3):
                    batch = number * 3 + step
                    section.write([(b"%06d/%02d" % (batch, n), b"x" * 50 * n) for n in range(20)])
                await section.flushed()
                print(batch, flush=True)

    asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 30])
def test_a_kill_loses_no_flushed_batch_and_leaves_no_partial_one(start, pg18, lines):
    begin = 0
    for _ in range(2):
        program = start(WRITER, pg18, begin)
        for _ in range(lines):
            flushed = int(program.stdout.readline())
        program.kill()
        program.wait()
        with closing(open_store(pg18)) as store:
            section = store.section("app")
            # The server may still be busy with the last batch; the lease waits for it.
            with section.acquire_lease():
                rows = section.scan(b"")
        batches = len(rows) // 20
        assert batches > flushed
        assert rows == [
            (b"%06d/%02d" % (b, n), b"x" * 50 * n) for b in range(batches) for n in range(20)
        ]
        begin = batches // 3


def test_an_exit_without_close_keeps_what_was_flushed_and_no_lease(start, pg18):
    program = start(
        """
        import sys
        from cocoindex.state.open import open_store
        store = open_store(sys.argv[1])
        section = store.section("app")
        lease = section.acquire_lease()
        section.write([(b"a", b"1")])
        store.flush()
        section.write([(b"b", b"1")])
        """,
        pg18,
    )
    assert program.wait() == 0
    with closing(open_store(pg18)) as store, store.section("app").acquire_lease():
        assert store.section("app").scan(b"") == [(b"a", b"1")]
