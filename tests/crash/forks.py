"""Runs updates in forked processes, many per second, and reports how each one ended.

Reads one JSON plan per line, answers with one JSON line:
``{"home": ..., "point": N, "signal": "SIGKILL"}`` dies at the N-th fault point,
``{"home": ..., "call": "write", "at": N, "fault": "ENOSPC"}`` has the N-th such call fail;
``{"home": ..., "file": "state.lmdb", "call": "sync", "at": N, "errno": 5}`` the same for calls that
the C code of a database makes on one file (see ``shim.c``); ``"url"``: where the table is.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import syscalls

syscalls.install()

import numpy as np  # noqa: E402, F401 - what every child would import for itself
import program  # noqa: E402 - after the traps are in place

import cocoindex.state.lmdb_store  # noqa: E402, F401 - this, too
from cocoindex.engine import faults  # noqa: E402


def carry_out(plan: dict[str, Any]) -> dict[str, Any]:
    countdown = program.Countdown(plan.get("point", 0), plan.get("signal", "SIGKILL"))
    faults.install(countdown)
    if "file" in plan:
        return in_trouble_with_file(plan)
    if "call" in plan:
        syscalls.trap.arm(plan["call"], plan["at"], plan["fault"])
    report = program.update(Path(plan["home"]), plan.get("url", ""))
    return {**report, "points": countdown.count, "calls": syscalls.trap.count}


def in_trouble_with_file(plan: dict[str, Any]) -> dict[str, Any]:
    """The N-th such call on one file fails with an errno, or kills (0)."""
    shim = ctypes.CDLL(None)
    program.synchronous = "normal"
    kind = {"write": 1, "sync": 2, "open": 3}[plan["call"]]
    shim.crash_arm(kind, plan["at"], plan["errno"], plan["file"].encode())
    report = program.update(Path(plan["home"]))
    count = shim.crash_count()
    shim.crash_arm(0, 0, 0, b"")
    return {**report, "calls": count}


def in_child(plan: dict[str, Any], answer: int) -> None:
    try:
        report = carry_out(plan)
        data = json.dumps(report).encode()
        syscalls.trap.arm("", 0, "")
        os.write(answer, data)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the child must end here, whatever happened
        traceback.print_exc()
        os._exit(1)


def run(plan: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        in_child(plan, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        answer = answers.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"status": status, **(json.loads(answer) if answer else {})}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
