"""Real processes killed at chosen moments: §E4.8, §B3.

``COCOINDEX_CRASH_ROUNDS=20`` makes the random ones twenty times as long.
"""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills and forks of POSIX")

CALLS = {
    "open": ("SIGKILL",),
    "write": ("SIGKILL", "half"),
    "sync": ("SIGKILL",),
    "replace": ("SIGKILL",),
    "mkdir": ("SIGKILL",),
    "remove": ("SIGKILL",),
}


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_fault_points_never_make_targets_diverge(
    make_world, forks, seed, rounds, tmp_path
):
    world = make_world(seed)
    world.edit(12)
    points = forks.run(world.home)["points"]
    assert points > 20
    for _ in range(8 * rounds):
        world.edit()
        for _ in range(world.rng.randint(1, 3)):
            point = world.rng.randint(1, points)
            killer = world.rng.choice(("SIGKILL", "SIGKILL", "SIGTERM"))
            world.check_died_or_ended(forks.run(world.home, point=point, signal=killer))
            if world.rng.random() < 0.3:
                world.edit(2)
        world.check_recovers(forks)
    fresh = world.twin(tmp_path / "fresh")
    fresh.check_converged(forks.run(fresh.home))
    assert fresh.outside() == world.outside()


def test_a_kill_at_each_fault_point_in_turn_is_survived(make_world, forks):
    world = make_world(100)
    world.edit(6)
    world.check_recovers(forks)
    point = 0
    died = True
    while died:
        point += 1
        world.edit(2)
        died = world.check_died_or_ended(forks.run(world.home, point=point))
        if died and point % 2 == 0:
            continue  # the next kill comes on top of this one
        world.check_recovers(forks)
    assert point > 20


@pytest.mark.parametrize(("call", "fault"), [(c, f) for c, faults in CALLS.items() for f in faults])
def test_a_kill_at_each_system_call_of_a_kind_is_survived(make_world, forks, rounds, call, fault):
    world = make_world(200)
    world.edit(6)
    name = "d0/one"
    world.write(name, "one 0")
    world.check_recovers(forks)
    at = 0
    died = True
    while died:
        at += 1 if at < 7 or rounds > 1 else 5
        world.write("deep/er/always", f"new {call} {fault} {at}")
        before, name = name, f"d{at}/one"
        world.write(name, f"one {at}")
        if before in world.texts:
            world.remove(before)
        world.edit(1)
        report = forks.run(world.home, call=call, at=at, fault=fault)
        died = world.check_died_or_ended(report)
        world.check_recovers(forks)
    assert at > 2


@pytest.mark.parametrize("names", [("x",), ("solo/x",), ("solo/x", "solo/y")], ids=str)
def test_half_written_files_go_even_if_nothing_is_written_there_again(make_world, forks, names):
    world = make_world(300)
    for name in names:
        world.write(name, "text 1")
    world.check_recovers(forks)
    world.write(names[0], "text 2")
    assert forks.run(world.home, call="sync", at=1, fault="SIGKILL")["status"] < 0
    assert list((world.home / "out").rglob(".cocoindex-*"))
    world.remove(names[0])
    world.check_recovers(forks)
