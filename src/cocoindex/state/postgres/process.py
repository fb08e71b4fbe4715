"""Who this process is, so that others on the same machine can tell when it is gone."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

__all__ = ["identity", "is_gone"]

_UNKNOWN = "?"
_PROC = Path("/proc")


@cache
def _machine() -> str:
    """This boot of this machine, and the process ids that mean something here."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return _UNKNOWN  # not Linux: nobody is ever known to be gone


def _started(pid: int) -> str | None:
    """When ``pid`` started, in ticks since boot; ``None`` if it is not running."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return _UNKNOWN if _exists(pid) else None
    # The second field is the program's name, which may contain anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    """Also if the processes of other users are hidden from this one."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def identity() -> str:
    """This process, in a form for :func:`is_gone`."""
    pid = os.getpid()
    return f"{_machine()} {pid} {_started(pid)}"


def is_gone(process: str) -> bool:
    """Whether ``process`` is known to have ended: it ran on this machine and does no more."""
    try:
        machine, pid, started = process.split(" ")
        known = machine == _machine() != _UNKNOWN and started != _UNKNOWN
        return known and _started(int(pid)) not in {started, _UNKNOWN}
    except ValueError:
        return False
