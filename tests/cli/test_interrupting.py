"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pty = pytest.importorskip("pty")

SLEEPER = """
import asyncio, pathlib, sys, time
import cocoindex as coco

@coco.lifespan
def lifespan(builder):
    builder.settings.db_path = pathlib.Path("store")
    yield
    print("lifespan ended", flush=True)

@coco.fn
async def sleeper():
    print("sleeping", flush=True)
    if pathlib.Path("awake").exists():
        return
    await asyncio.Event().wait()

@coco.fn
def stuck():
    print("stuck", flush=True)
    while not pathlib.Path("awake").exists():
        time.sleep(0.01)
    print("returned", flush=True)

@coco.fn
async def main(kind):
    await coco.mount(coco.component_subpath("x"), {"sleeper": sleeper, "stuck": stuck}[kind])

sleeping = coco.App("sleeping", main, "sleeper")
blocked = coco.App("blocked", main, "stuck")
"""


@pytest.fixture
def running(project: Any) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start an app and wait until it says that it is where it is wanted."""
    project.write("main.py", SLEEPER)
    started: list[subprocess.Popen[str]] = []

    def start(marker: str, *args: str) -> subprocess.Popen[str]:
        process = project.start("update", *args)
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line == f"{marker}\n":
                return process
        raise AssertionError(process.stderr and process.stderr.read())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def patient(err: str) -> str:
    """``err`` without what a slow machine makes the command line say while it waits."""
    return "".join(line for line in err.splitlines(True) if not line.startswith("Waiting for "))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_cancels_all_work_and_stops_cleanly(
    running: Any, number: signal.Signals, status: int
) -> None:
    process = running("sleeping", "main.py:sleeping")
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, patient(err)) == (status, "")
    lines = out.splitlines()
    assert lines.index("Stopping...") < lines.index("[Stats] (terminated)")
    assert lines[-1] == "lifespan ended"


def test_a_quiet_run_is_interrupted_without_a_word(running: Any) -> None:
    process = running("sleeping", "main.py:sleeping", "-q")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert (out, patient(err)) == ("lifespan ended\n", "")
    assert process.returncode == 130


def test_the_next_run_continues_after_an_interruption(running: Any, project: Any) -> None:
    process = running("sleeping", "main.py:sleeping")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    done = project.run("show", "main.py:sleeping")
    assert done.returncode == 0
    again = running("sleeping", "main.py:sleeping")
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=300)
    assert again.returncode == 143


def test_the_second_signal_ends_the_process_at_once(running: Any) -> None:
    process = running("stuck", "main.py:blocked")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert "Stopping...\n" in iter(process.stdout.readline, "")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGINT


def test_a_synchronous_body_is_let_run_to_its_end(running: Any, project: Any) -> None:
    process = running("stuck", "main.py:blocked")
    process.send_signal(signal.SIGINT)
    project.write("awake", "")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, patient(err)) == (130, "")
    assert "returned\n" in out


@pytest.mark.slow
def test_a_body_that_does_not_return_is_named_after_a_while(running: Any) -> None:
    process = running("stuck", "main.py:blocked")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert (
        process.stderr.readline() == 'Waiting for stuck at /"x"… press Ctrl-C again to quit now.\n'
    )


def test_on_a_terminal_the_display_stays_whole_and_the_cursor_comes_back(project: Any) -> None:
    project.write("main.py", SLEEPER)
    main_end, program_end = pty.openpty()
    process = subprocess.Popen(
        [*project.command(), "update", "main.py:sleeping"],
        cwd=project.root,
        env=project.environ(TERM="xterm"),
        stdin=program_end,
        stdout=program_end,
        stderr=program_end,
    )
    os.close(program_end)
    screen = b""
    while b"in-flight" not in screen or b"sleeping\r\n" not in screen:
        screen += os.read(main_end, 4096)
    process.send_signal(signal.SIGINT)
    while True:
        try:
            screen += os.read(main_end, 4096)
        except OSError:  # the other end is closed
            break
    os.close(main_end)
    assert process.wait(timeout=300) == 130
    assert screen.count(b"sleeping\r\n") == 1
    assert screen.count(b"Stopping...\r\n") == 1
    assert b"(terminated)" in screen
    assert screen.rindex(b"\x1b[?25h") > screen.rindex(b"\x1b[?25l")


def test_a_question_can_be_interrupted(folders: Any) -> None:
    folders.run("update", "main.py", "-q")
    process = folders.start("drop", "main.py")
    assert process.stderr is not None
    asked = ""
    while not asked.endswith("target states: "):
        asked += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == 130
    assert folders.read("out/a.txt") == "ALPHA"


def test_a_second_process_is_told_who_runs_the_app(running: Any, project: Any) -> None:
    first = running("sleeping", "main.py:sleeping")
    done = project.run("update", "main.py:sleeping", "-q")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert str(first.pid) in done.stderr
    assert done.stderr.count("\n") == 1
    assert project.run("show", "main.py:sleeping").returncode == 0


def test_dropping_an_app_that_runs_says_so_and_nothing_else(running: Any, project: Any) -> None:
    project.write("awake", "")
    assert project.run("update", "main.py:sleeping").returncode == 0
    project.root.joinpath("awake").unlink()
    first = running("sleeping", "main.py:sleeping")
    done = project.run("drop", "main.py:sleeping", "-f", "-q")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert f"is being run by process {first.pid}" in done.stderr
    assert done.stderr.count("\n") == 1
