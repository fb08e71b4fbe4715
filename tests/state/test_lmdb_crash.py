"""Kills of a real process, and a disk that fills up."""

import subprocess
import sys

import pytest

from cocoindex.state.open import open_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and rlimits of POSIX")

WRITER = """
    import asyncio, itertools, sys
    from cocoindex.state.open import open_store

    async def main():
        section = open_store(sys.argv[1], map_size=1).section("app")
        for number in itertools.count():
            for step in range(3):
                batch = number * 3 + step
                section.write([(b"%06d/%d" % (batch, n), b"x" * 50 * n) for n in range(20)])
            await section.flushed()
            print(batch, flush=True)

    asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 20, 60])
def test_a_kill_loses_no_flushed_batch_and_leaves_no_partial_one(start, tmp_path, lines):
    program = start(WRITER, tmp_path)
    for _ in range(lines):
        flushed = int(program.stdout.readline())
    program.kill()
    program.wait()
    section = open_store(tmp_path).section("app")
    rows = section.scan(b"")
    batches = len(rows) // 20
    assert batches > flushed
    expected = [(b"%06d/%d" % (b, n), b"x" * 50 * n) for b in range(batches) for n in range(20)]
    assert rows == sorted(expected)
    section._store.close()


def test_an_exit_without_close_keeps_what_was_flushed(start, tmp_path):
    program = start(
        """
        import sys
        from cocoindex.state.open import open_store
        store = open_store(sys.argv[1])
        store.section("app").write([(b"a", b"1")])
        store.flush()
        store.section("app").write([(b"b", b"1")])
        """,
        tmp_path,
    )
    assert program.wait() == 0
    store = open_store(tmp_path)
    assert store.section("app").scan(b"") == [(b"a", b"1")]
    store.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "cocoindex-test", str(disk)]
    if not sys.platform.startswith("linux") or subprocess.run(command, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("kind", ["limit", "disk"])
def test_a_full_disk_fails_the_flush_and_keeps_the_last_durable_state(
    start, tmp_path, kind, request
):
    if kind == "disk":
        tmp_path = request.getfixturevalue("small_disk")
    program = start(
        """
        import asyncio, resource, sys
        from cocoindex.errors import StoreError, StoreFullError
        from cocoindex.state.open import open_store

        expected = StoreFullError if sys.argv[2] == "disk" else StoreError

        async def failure(section):
            try:
                await section.flushed()
            except StoreError as error:
                assert type(error) is expected, error
                assert sys.argv[1] in str(error), error
                return True
            return False

        async def main():
            store = open_store(sys.argv[1])
            one, two = store.section("one"), store.section("two")
            one.write([(b"a", b"1")])
            await one.flushed()
            if sys.argv[2] == "limit":
                resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, -1))
            one.write([(b"a", b"2")])
            one.write([(b"big", b"x" * (2 << 20))])
            waiting = [asyncio.create_task(failure(one)) for _ in range(3)]
            assert all(await asyncio.gather(*waiting))
            assert one.scan(b"") == [(b"a", b"1")]
            assert one.pending_bytes == 0
            for call in (lambda: one.write([]), one.clear):
                try:
                    call()
                except expected:
                    continue
                raise AssertionError
            assert await failure(one)

            two.write([(b"other", b"1")])
            await two.flushed()

            one.reset_failure()
            one.write([(b"a", b"3")])
            await one.flushed()
            one.write([(b"big", b"x" * (2 << 20))])
            assert await failure(one)
            store.close()

        asyncio.run(main())
        """,
        tmp_path,
        kind,
    )
    assert program.wait() == 0
    store = open_store(tmp_path)
    assert store.section("one").scan(b"") == [(b"a", b"3")]
    assert store.section("two").scan(b"") == [(b"other", b"1")]
    store.close()


def test_no_address_space_to_grow_is_a_full_store(start, tmp_path):
    program = start(
        """
        import resource, sys
        from cocoindex.errors import StoreFullError
        from cocoindex.state.open import open_store

        store = open_store(sys.argv[1], map_size=1 << 20)
        section = store.section("app")
        section.write([(b"a", b"1")])
        store.flush()
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), -1))
        section.write([(b"%d" % n, b"x" * 100_000) for n in range(100)])
        try:
            store.flush()
        except StoreFullError as error:
            assert "address space" in str(error), error
        else:
            raise AssertionError
        assert section.scan(b"") == [(b"a", b"1")]
        section.reset_failure()
        section.write([(b"a", b"2")])
        store.close()
        """,
        tmp_path,
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    assert program.wait() == 0
    store = open_store(tmp_path)
    assert store.section("app").scan(b"") == [(b"a", b"2")]
    store.close()


def test_a_store_opens_under_a_small_limit_of_address_space(start, tmp_path):
    program = start(
        """
        import resource, sys
        from cocoindex.state.open import open_store
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, -1))
        store = open_store(sys.argv[1], map_size=1 << 40)
        store.section("app").write([(b"a", b"1")])
        store.close()
        """,
        tmp_path,
    )
    assert program.wait() == 0
    store = open_store(tmp_path)
    assert store.section("app").get(b"a") == b"1"
    store.close()
