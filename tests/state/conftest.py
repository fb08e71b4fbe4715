import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cocoindex.errors

SOURCES = str(Path(cocoindex.errors.__file__).parents[1])
Program = subprocess.Popen[str]


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Start a program text in another process; talk to it through its stdin and stdout."""
    running: list[Program] = []

    def run(code: str, *args: object) -> Program:
        program = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )
        running.append(program)
        return program

    yield run
    for program in running:
        program.kill()
        program.communicate()
