"""What a process costs before there is anything to do."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time

from benchmarks import floor, harness
from benchmarks.harness import COLD, UNCHANGED, Case, Expected, Figures, Scale, Size

IMPORT, FIRST_APP, NOTHING = "import", "import, make an app", "update, nothing to do"
COMPONENTS: dict[Scale, int] = {"full": 10_000, "quick": 500, "tiny": 20}
TIMED_IMPORT = """\
import time
start = time.perf_counter()
import cocoindex
print(time.perf_counter() - start)
"""
TIMED_APP = """\
import time
start = time.perf_counter()
import cocoindex as coco

@coco.fn(memo=True)
async def component(number: int) -> None: ...

@coco.fn
async def main() -> None:
    await coco.mount_each(component, ())

app = coco.App("bench_startup", main)
print(time.perf_counter() - start)
"""
APP = """\
import atexit, itertools, pathlib
import cocoindex as coco

HERE = pathlib.Path(__file__).parent
ran = itertools.count()
atexit.register(lambda: (HERE / "bodies.txt").write_text(str(next(ran))))


@coco.lifespan
def lifespan(builder):
    builder.settings.db_path = HERE / "store"
    yield


@coco.fn(memo=True)
async def component(number: int) -> None:
    next(ran)


@coco.fn
async def main(count: int) -> None:
    await coco.mount_each(component, ((number, number) for number in range(count)))


app = coco.App("bench_startup", main, {n})
"""


def cases(scale: Scale) -> list[Case]:
    n = COMPONENTS[scale]
    phases = (IMPORT, FIRST_APP, NOTHING)
    return [Case(f"{n:,} components", {"n": n}, 1, phases, reach={IMPORT: 5, NOTHING: 10})]


def expect(_phase: str, _size: Size) -> Expected:
    return Expected(0)


def measure(python: str, folder: pathlib.Path, phase: str, size: Size) -> Figures:
    if phase != NOTHING:
        code = TIMED_IMPORT if phase == IMPORT else TIMED_APP
        return {"seconds": float(_run(python, "-c", code))}
    app = folder / "bench_startup.py"
    app.write_text(APP.replace("{n}", str(size["n"])), encoding="utf-8")
    command = (str(pathlib.Path(python).parent / "cocoindex"), "update", str(app))
    _run(*command)
    start = time.perf_counter()
    _run(*command)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "bodies": int((folder / "bodies.txt").read_text("utf-8"))}


def _run(*command: str) -> str:
    done = subprocess.run(
        command, env=harness.environment(), check=True, capture_output=True, text=True
    )
    return done.stdout


def bare(folder: pathlib.Path, phase: str, size: Size) -> float | None:
    """An interpreter that does nothing, and the look at what is stored."""
    if phase != NOTHING:
        return None
    work = floor.Work(size["n"], 0, memo=True)
    floor.bare_loop(folder, COLD, work)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    interpreter = time.perf_counter() - start
    return interpreter + floor.bare_loop(folder, UNCHANGED, work)


WORKLOAD = harness.Workload(
    title="Start-up",
    about="In a fresh interpreter, without the interpreter's own start: `import cocoindex`, and "
    "the same with what two functions and an app load. And the whole process `cocoindex update` "
    "over memoized components that are all up to date.",
    unit="process",
    cases=cases,
    expect=expect,
    floor=bare,
    measure=measure,
)
