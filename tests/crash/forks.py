"""Runs updates in forked processes, many per second, and reports how each one ended.

Reads one JSON plan per line, answers with one JSON line:
``{"home": ..., "point": N, "signal": "SIGKILL"}`` dies at the N-th fault point,
``{"home": ..., "call": "write", "at": N, "fault": "ENOSPC"}`` has the N-th such call fail.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import syscalls

syscalls.install()

import program  # noqa: E402 - after the traps are in place

from cocoindex.engine import faults  # noqa: E402


class Countdown:
    """Ends the process at the N-th fault point."""

    def __init__(self, at: int, name: str) -> None:
        self.count = 0
        self._at = at
        self._name = name

    def __call__(self, _point: faults.FaultPoint, _where: str) -> None:
        self.count += 1
        if self.count == self._at:
            os.kill(os.getpid(), getattr(signal, self._name))
            signal.pause()


def carry_out(plan: dict[str, Any]) -> dict[str, Any]:
    countdown = Countdown(plan.get("point", 0), plan.get("signal", "SIGKILL"))
    faults.install(countdown)
    if "call" in plan:
        syscalls.trap.arm(plan["call"], plan["at"], plan["fault"])
    report = program.update(Path(plan["home"]))
    return {**report, "points": countdown.count, "calls": syscalls.trap.count}


def in_child(plan: dict[str, Any], answer: int) -> None:
    try:
        report = carry_out(plan)
        data = json.dumps(report).encode()
        syscalls.trap.arm("", 0, "")
        os.write(answer, data)
        os._exit(0)
    except BaseException:  # the child must end here, whatever happened
        traceback.print_exc()
        os._exit(1)


def run(plan: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        in_child(plan, writer)
    os.close(writer)
    with open(reader, "rb") as answers:
        answer = answers.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"status": status, **(json.loads(answer) if answer else {})}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
