"""Run the same worker on two interpreters, turn about, and compare medians.

A *worker* is the benchmark's own file started with ``--worker PHASE``: it does the timed work in
a fresh process, with whatever ``cocoindex`` that interpreter has, and prints one JSON object.
Only the standard library is used here, so that the figures of memory belong to the worker.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
WORK = HERE / ".work"
PEER_VENV = HERE / ".venv-peer"
PEER = "cocoindex==1.0.26"
REPORT = HERE.parent / "docs/benchmarks.md"

Figures = dict[str, float]
Results = dict[str, list[Figures]]
"""Phase -> one set of figures per round."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of the table: where to find it, how to print it."""

    key: str
    title: str
    scale: float = 1.0
    unit: str = ""

    def show(self, value: float | None) -> str:
        if value is None:
            return "–"
        scaled = value * self.scale
        digits = 0 if scaled >= 100 else 1 if scaled >= 10 else 2
        return f"{scaled:,.{digits}f}{self.unit}"


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """The options every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds per side")
    parser.add_argument("--peer", help=f"interpreter with {PEER}; made when not given")
    parser.add_argument("--no-peer", action="store_true", help="measure this side only")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    parser.add_argument("--worker", nargs="*", help=argparse.SUPPRESS)
    return parser


def interpreters(options: argparse.Namespace) -> dict[str, str]:
    """Label -> interpreter: this one, and the one with the release to compare with."""
    sides = {"this": sys.executable}
    if not options.no_peer:
        sides["1.0.26"] = options.peer or peer_interpreter()
    return sides


def peer_interpreter() -> str:
    """Make the peer's own environment, once."""
    python = PEER_VENV / "bin/python"
    if not python.exists():
        print(f"making {PEER_VENV} with {PEER} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", PEER_VENV], check=True)
    probe = subprocess.run([python, "-c", "import cocoindex"], capture_output=True, check=False)
    if probe.returncode:
        subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], check=True)
    return str(python)


def call(python: str, script: str, *args: str) -> Figures:
    """Run one worker to its end and return its figures, with the wall time of the process."""
    env = {
        **os.environ,
        "COCOINDEX_DISABLE_USAGE_TRACKING": "1",
        "PYTHONDONTWRITEBYTECODE": "",
        "RUST_LOG": "error",
    }
    env.pop("PYTHONPATH", None)
    start = time.perf_counter()
    done = subprocess.run(
        [python, script, "--worker", *args], env=env, stdout=subprocess.PIPE, check=True
    )
    wall = time.perf_counter() - start
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return {**figures, "process": wall}


def interleave(
    sides: Mapping[str, str],
    rounds: int,
    one_round: Callable[[str, pathlib.Path], dict[str, Figures]],
) -> dict[str, Results]:
    """Let each side do each round in a fresh folder, in turns, the first mover alternating."""
    results: dict[str, Results] = {side: {} for side in sides}
    for number in range(rounds):
        order = list(sides)
        for side in order if number % 2 == 0 else order[::-1]:
            folder = WORK / side
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for phase, figures in one_round(sides[side], folder).items():
                results[side].setdefault(phase, []).append(figures)
            print(f"round {number + 1} of {rounds}: {side} done", file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)
    return results


def table(results: Mapping[str, Results], columns: Sequence[Column]) -> str:
    """A Markdown table: phases down, for each figure both sides and their ratio across."""
    sides = list(results)
    compared = len(sides) == 2
    head = ["phase"]
    for column in columns:
        head += [f"{column.title}, {side}" for side in sides]
        head += ["ratio"] if compared else []
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for phase in results[sides[0]]:
        row = [phase]
        for column in columns:
            values = [_median(results[side].get(phase, []), column.key) for side in sides]
            row += [column.show(value) for value in values]
            row += [_ratio(values)] if compared else []
        lines.append(row)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _median(rounds: Sequence[Figures], key: str) -> float | None:
    values = [figures[key] for figures in rounds if key in figures]
    return statistics.median(values) if values else None


def _ratio(values: Sequence[float | None]) -> str:
    ours, theirs = values
    return f"**{theirs / ours:.1f}×**" if ours and theirs else "–"


def machine() -> str:
    """One sentence on where the figures come from."""
    return (
        f"Measured on {time.strftime('%Y-%m-%d')}: {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, CPython {platform.python_version()}."
    )


def publish(section: str, text: str, *, write: bool) -> None:
    """Print a section and, if asked, put it between its marks in the documentation."""
    print(text)
    if not write:
        return
    first, last = f"<!-- bench:{section} -->", f"<!-- /bench:{section} -->"
    page = REPORT.read_text(encoding="utf-8")
    before, _, rest = page.partition(first)
    _, mark, after = rest.partition(last)
    if not mark:
        sys.exit(f"{REPORT}: no section between {first} and {last}")
    REPORT.write_text(f"{before}{first}\n{text}\n{last}{after}", encoding="utf-8")


# --- for workers ---------------------------------------------------------------------------


def peak_memory() -> float:
    """Largest resident size of this process, in bytes.

    On Linux from /proc: ``ru_maxrss`` there starts at the size of the parent.
    """
    try:
        status = pathlib.Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        import resource

        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(size if sys.platform == "darwin" else size * 1024)
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return float(line.split()[1]) * 1024


def disk_use(folder: pathlib.Path) -> float:
    """Bytes that the files below ``folder`` occupy on disk (sparse parts don't count)."""
    return float(sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file()))


def tell(**figures: float) -> None:
    """The last thing a worker prints."""
    print(json.dumps(figures))
