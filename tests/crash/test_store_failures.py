"""The disk under the state store fails or fills up, or the process dies while it writes to it."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks of POSIX")

FAULTS = [
    ("write", errno.ENOSPC),
    ("write", errno.EIO),
    ("sync", errno.EIO),
    ("sync", errno.ENOSPC),
]


def edited(make_world, forks, seed):
    world = make_world(seed)
    world.edit(8)
    world.check_recovers(forks)
    return world


@pytest.mark.parametrize(("call", "code"), FAULTS)
def test_a_failing_store_fails_the_update_and_harms_nothing(make_world, c_forks, call, code):
    world = edited(make_world, c_forks, 1)
    at, hit, failed = 0, True, 0
    while hit:
        at += 1
        world.edit(4)
        world.write("always", f"new {at}")
        report = c_forks.run(world.home, file="state.lmdb", call=call, at=at, errno=code)
        hit = report["calls"] >= at
        world.check_unharmed()
        if report["error"] is not None:
            failed += 1
            assert hit
            assert report["error"].startswith(("StoreError", "StoreFullError"))
            assert str(world.home / "store") in report["error"]
        world.check_recovers(c_forks)
    assert at > 2
    assert failed


@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_kill_at_each_write_to_the_store_is_survived(make_world, c_forks, call):
    world = edited(make_world, c_forks, 2)
    at, died = 0, True
    while died:
        at += 1
        world.edit(4)
        world.write("always", f"new {at}")
        died = world.check_died_or_ended(
            c_forks.run(world.home, file="state.lmdb", call=call, at=at, errno=0)
        )
        if at % 2:
            world.check_recovers(c_forks)
    assert at > 2


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MiB; needs the right to mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"no right to mount a file system: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_fails_updates_until_there_is_room_again(small_disk, make_world, forks):
    world = make_world(3, small_disk / "home")
    world.write("first", "text")
    world.check_recovers(forks)
    ballast = small_disk / "ballast"
    failed = 0
    for left in (800, 500, 300, 200, 120, 60, 20, 0):
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - (left << 10)))
        for number in range(200):
            try:
                world.write(f"many{left}/f{number}", f"text {left}")
            except OSError:
                (world.home / "source" / f"many{left}/f{number}").unlink(missing_ok=True)
                world.texts.pop(f"many{left}/f{number}", None)
                break
        report = forks.run(world.home)
        world.check_unharmed()
        if report["error"] is not None:
            failed += 1
            # SQLite says so of a database, and the other of its journal.
            reasons = ("no space left", "disk is full", "disk i/o error")
            assert any(reason in report["error"].lower() for reason in reasons), report
        ballast.unlink()
        for name in [name for name in world.texts if name.startswith("many")]:
            world.remove(name)
        world.check_recovers(forks)
    assert failed
