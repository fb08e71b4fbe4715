"""Many small Markdown files to a directory: cold, unchanged, 1% edited, 10% deleted.

    python benchmarks/bench_files.py [--peer PYTHON] [--rounds N] [--files N]

The worker uses documented names only and runs unchanged on both sides.
"""

from __future__ import annotations

import asyncio
import pathlib
import random
import sys
import time
from typing import TYPE_CHECKING

import harness

if TYPE_CHECKING:
    from cocoindex.connectors import localfs
    from cocoindex.resources.file import FileLike

WORDS = ("target", "source", "state", "path", "chunk", "vector", "memo", "sink", "store", "tree")
COLUMNS = (
    harness.Column("update", "update", unit=" s"),
    harness.Column("per_file", "per file", scale=1e6, unit=" µs"),
    harness.Column("memory", "peak memory", scale=1 / 2**20, unit=" MiB"),
    harness.Column("store", "store", scale=1 / 2**20, unit=" MiB"),
)


def main() -> None:
    parser = harness.arguments(__doc__ or "", rounds=5)
    parser.add_argument("--files", type=int, default=5_000)
    options = parser.parse_args()
    if options.worker:
        worker(pathlib.Path(options.worker[0]))
        return

    def one_round(python: str, folder: pathlib.Path) -> dict[str, harness.Figures]:
        return phases(python, folder, options.files)

    results = harness.interleave(harness.interpreters(options), options.rounds, one_round)
    text = f"""\
{options.files:,} Markdown files of about 1 kB, each turned into one file of a directory target;
medians of {options.rounds} rounds. Every update runs in a fresh process; its start-up and imports
are not counted. {harness.machine()}

{harness.table(results, COLUMNS)}"""
    harness.publish("files", text, write=options.write)


def phases(python: str, folder: pathlib.Path, files: int) -> dict[str, harness.Figures]:
    """Make the files and run the four updates one after the other."""
    source = folder / "source"
    make_files(source, files)
    names = sorted(path.name for path in source.iterdir())
    shuffled = random.Random(1).sample(names, len(names))
    edited, deleted = shuffled[: files // 100], shuffled[-files // 10 :]

    done = {"cold": measure(python, folder)}
    done["unchanged"] = measure(python, folder)
    for name in edited:
        with (source / name).open("a", encoding="utf-8") as file:
            file.write("\nEdited: one more line.\n")
    done["1% edited"] = measure(python, folder)
    for name in deleted:
        (source / name).unlink()
    done["10% deleted"] = measure(python, folder)
    verify(folder)
    return done


def make_files(source: pathlib.Path, count: int) -> None:
    """Files as if they had been there for a while: fresh times would be distrusted."""
    import os

    source.mkdir(parents=True)
    rng = random.Random(0)
    old = time.time() - 3600
    for number in range(count):
        lines = [" ".join(rng.choices(WORDS, k=12)) for _ in range(14)]
        path = source / f"doc_{number:06}.md"
        path.write_text(f"# Document {number}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
        os.utime(path, (old, old))


def measure(python: str, folder: pathlib.Path) -> harness.Figures:
    figures = harness.call(python, __file__, str(folder))
    figures["store"] = harness.disk_use(folder / "state")
    return figures


def verify(folder: pathlib.Path) -> None:
    """The target must hold exactly what the source has now, or the figures mean nothing."""
    for path in (folder / "source").iterdir():
        written = (folder / "out" / path.name).read_text(encoding="utf-8")
        if written != render(path.read_text(encoding="utf-8")):
            sys.exit(f"{path.name}: the target does not hold what the source says")
    if len(list((folder / "out").iterdir())) != len(list((folder / "source").iterdir())):
        sys.exit("the target holds files that have no source")


def render(text: str) -> str:
    """The work per file: small, so that what is measured is everything around it."""
    words = text.split()
    return f"{len(words)} words, {len(set(words))} different\n\n{text.upper()}"


def worker(folder: pathlib.Path) -> None:
    import cocoindex as coco
    from cocoindex.connectors import localfs

    @coco.fn(memo=True)
    async def convert(file: FileLike, out: localfs.DirTarget) -> None:
        out.declare_file(file.file_path.name, render(await file.read_text()))

    @coco.fn
    async def app_main() -> None:
        out = await localfs.mount_dir_target(folder / "out")
        await coco.mount_each(convert, localfs.walk_dir(folder / "source").items(), out)

    async def update() -> tuple[float, int]:
        environment = coco.Environment(coco.Settings(db_path=folder / "state"))
        app = coco.App(coco.AppConfig("bench_files", environment=environment), app_main)
        start = time.perf_counter()
        handle = app.update()
        await handle.result()
        seconds = time.perf_counter() - start
        stats = handle.stats()
        return seconds, stats.total.num_processed if stats else 0

    seconds, processed = asyncio.run(update())
    harness.tell(update=seconds, per_file=seconds / processed, memory=harness.peak_memory())


if __name__ == "__main__":
    main()
