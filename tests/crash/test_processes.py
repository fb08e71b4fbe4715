"""Whole programs: killed by the clock, stopped and continued, and two of them at once (§E21)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

PROGRAM = Path(__file__).parent / "program.py"


def start(world, *options):
    """The program, from the moment its update begins."""
    program = subprocess.Popen(
        [sys.executable, PROGRAM, world.home, *map(str, options)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout.readline() == "started\n"
    return program


def report_of(program):
    output, _ = program.communicate(timeout=600)
    return {"status": program.returncode, **(json.loads(output) if output else {})}


def command(world, name, **environment):
    return [sys.executable, "-m", "cocoindex", name, str(PROGRAM)], {
        **os.environ,
        "CRASH_HOME": str(world.home),
        **environment,
    }


def cli(world, name):
    line, environment = command(world, name)
    return subprocess.run(
        line, env=environment, cwd=world.home, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip


def edited(make_world, forks, seed):
    world = make_world(seed)
    world.edit(10)
    world.write("always", "text")
    world.check_recovers(forks)
    world.write("always", "another text")
    return world


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_kills_by_the_clock_are_survived(make_world, forks, rounds, name):
    world = make_world(1)
    for number in range(60):
        world.write(f"many/f{number}", "text 0")
    for number in range(3 * rounds):
        world.edit(30)
        program = start(world)
        time.sleep(world.rng.uniform(0, 0.15))
        program.send_signal(getattr(signal, name))
        report_of(program)
        world.check_unharmed()
        if number % 3 == 2:
            world.check_recovers(forks)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_the_command_line_may_be_killed_too(make_world, forks, name):
    world = make_world(2)
    for number in range(60):
        world.write(f"many/f{number}", "text 0")
    line, environment = command(world, "update", STOP_AFTER_SINK="150")
    program = subprocess.Popen(
        line, env=environment, cwd=world.home,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    os.waitpid(program.pid, os.WUNTRACED)
    logged = world.logged()
    program.send_signal(getattr(signal, name))
    program.send_signal(signal.SIGCONT)
    output, _ = program.communicate(timeout=600)
    assert logged
    assert program.returncode != 0
    assert "Traceback" not in output
    world.check_unharmed()
    done = cli(world, "update")
    assert done.returncode == 0, done.stderr
    world.check_recovers(forks)


@pytest.mark.parametrize("point", [3, 8, 15])
def test_a_stopped_update_keeps_its_lease_and_goes_on_unharmed(make_world, forks, point):
    world = edited(make_world, forks, 3)
    program = start(world, point, "SIGSTOP")
    os.waitpid(program.pid, os.WUNTRACED)
    second = forks.run(world.home)
    assert second["error"].startswith("AlreadyRunningError")
    assert second["ran"] == []
    assert str(program.pid) in second["error"]
    assert "'crash'" in second["error"]
    refused = cli(world, "update")
    assert refused.returncode != 0
    assert str(program.pid) in refused.stderr
    world.check_unharmed()
    program.send_signal(signal.SIGCONT)
    world.check_converged(report_of(program))
    world.check_recovers(forks)


@pytest.mark.parametrize("point", [3, 8, 15])
def test_the_lease_of_a_killed_process_is_free_at_once(make_world, forks, point):
    world = edited(make_world, forks, 4)
    program = start(world, point, "SIGSTOP")
    os.waitpid(program.pid, os.WUNTRACED)
    program.kill()
    program.communicate()
    world.check_recovers(forks)  # it does not wait for the lease of another


def test_readers_work_at_any_point_of_an_update(make_world, forks):
    world = edited(make_world, forks, 5)
    program = start(world, 8, "SIGSTOP")
    os.waitpid(program.pid, os.WUNTRACED)
    for name in ("ls", "show"):
        done = cli(world, name)
        assert done.returncode == 0, done.stderr
        assert "crash" in done.stdout or "always" in done.stdout
    program.send_signal(signal.SIGCONT)
    world.check_converged(report_of(program))


READER = """
    import asyncio, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import program
    from cocoindex import inspect

    app = program.open_app(Path(sys.argv[2]))[1]

    async def look():
        paths = await inspect.list_stable_paths(app)
        details = [detail async for detail in inspect.iter_stable_path_details(app)]
        owned = [entry async for entry in inspect.iter_target_states(app)]
        return len(paths), len(details), len(owned)

    print("ready", flush=True)
    for _ in sys.stdin:
        print(*asyncio.run(look()), flush=True)
"""


def test_a_reader_that_stays_open_never_fails_while_updates_come_and_go(
    make_world, forks, tmp_path
):
    world = edited(make_world, forks, 6)
    script = tmp_path / "reader.py"
    script.write_text(textwrap.dedent(READER))
    with subprocess.Popen(
        [sys.executable, script, PROGRAM.parent, world.home],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as reader:  # fmt: skip
        assert reader.stdout.readline() == "ready\n"
        for number in range(12):
            world.edit(20)
            for more in range(20):  # the store has to grow meanwhile
                world.write(f"grow{number}/f{more}", f"text {number}")
            point = 20 if number % 3 == 0 else 0
            world.check_died_or_ended(forks.run(world.home, point=point))
            reader.stdin.write("look\n")
            reader.stdin.flush()
            assert min(map(int, reader.stdout.readline().split())) > 1
    assert reader.returncode == 0
    world.check_recovers(forks)
