"""The N-th system call of a kind fails, for N = 1, 2, 3 … until an update gets through."""

from __future__ import annotations

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks of POSIX")

FAULTS = {
    "open": ("EMFILE", "EACCES"),
    "write": ("ENOSPC", "EIO", "short"),
    "sync": ("EIO",),
    "replace": ("ENOSPC",),
    "mkdir": ("EACCES",),
    "remove": ("EACCES",),
    "list": ("EACCES", "EMFILE"),
}
MESSAGES = {
    "EMFILE": "Too many open files",
    "EACCES": "Permission denied",
    "ENOSPC": "No space left",
    "EIO": "Input/output error",
}


@pytest.mark.parametrize(
    ("call", "fault"), [(c, f) for c, faults in FAULTS.items() for f in faults]
)
def test_a_failing_call_is_reported_and_made_good_by_the_next_update(
    make_world, forks, rounds, call, fault
):
    world = make_world(1)
    for name in ("a", "b", "deep/er/c", "d0/one"):
        world.write(name, name)
    world.check_converged(forks.run(world.home))
    at, hit, name = 0, True, "d0/one"
    while hit:
        at += 1 if at < 7 or rounds > 1 else 5
        world.write("a", f"new {at}")
        world.write("deep/er/c", f"new {at}")
        before, name = name, f"d{at}/one"
        world.write(name, f"one {at}")
        world.remove(before)
        report = forks.run(world.home, call=call, at=at, fault=fault)
        hit = report["calls"] >= at
        world.check_unharmed()
        assert report["status"] == 0
        if report["error"] is None:
            world.check_recovers(forks)
            continue
        assert hit, report
        assert MESSAGES[fault] in report["error"]
        assert str(world.home) in report["error"], "the error names no place"
        world.check_recovers(forks)
    assert at > 1
