"""Rows of a database whose disk fails, and of one whose client dies."""

from __future__ import annotations

import errno
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks of POSIX")

FAULTS = [
    ("write", errno.ENOSPC),
    ("write", errno.EIO),
    ("sync", errno.EIO),
    ("open", errno.EMFILE),
    ("open", errno.EACCES),
]
FILES = ("db.sqlite", "db.sqlite-wal")


def edited(make_world, forks, seed):
    world = make_world(seed)
    world.edit(8)
    world.check_recovers(forks)
    return world


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("call", "code"), FAULTS)
def test_a_failing_call_for_the_table_is_made_good_by_the_next_update(
    make_world, c_forks, file, call, code
):
    world = edited(make_world, c_forks, 1)
    at, hit = 0, True
    while hit:
        at += 1
        world.edit(4)
        world.write("always", f"new {at}")
        report = world.update(c_forks, file=file, call=call, at=at, errno=code)
        hit = report["calls"] >= at
        world.check_unharmed()
        assert report["status"] == 0
        if report["error"] is not None:
            assert hit, report
            places = ("sqlite table notes", str(world.home / "db.sqlite"))
            assert any(place in report["error"] for place in places), report
        world.check_recovers(c_forks)
    assert at > 1


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_kill_at_each_call_for_the_table_is_survived(make_world, c_forks, file, call):
    world = edited(make_world, c_forks, 2)
    at, died = 0, True
    while died:
        at += 1
        world.edit(4)
        world.write("always", f"new {at}")
        report = world.update(c_forks, file=file, call=call, at=at, errno=0)
        died = world.check_died_or_ended(report)
        if at % 2 or not died:
            world.check_recovers(c_forks)
    assert at > 1


def test_kills_never_make_a_table_on_a_server_diverge(make_world, forks, pg18, rounds):
    world = make_world(3, url=pg18)
    world.edit(12)
    points = world.update(forks)["points"]
    assert points > 10
    killed = 0
    for _ in range(8 * rounds):
        for _ in range(world.rng.randint(1, 3)):
            world.edit()
            point = world.rng.randint(1, points)
            killer = world.rng.choice(("SIGKILL", "SIGKILL", "SIGTERM"))
            killed += world.check_died_or_ended(world.update(forks, point=point, signal=killer))
        world.check_recovers(forks)
    assert killed > 5
