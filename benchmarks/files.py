"""Many small Markdown files to a directory."""

from __future__ import annotations

import hashlib
import os
import pathlib
import random
import time
from typing import TYPE_CHECKING

from benchmarks import floor, harness
from benchmarks.harness import COLD, UNCHANGED, Case, Expected, Program, Scale, Size

if TYPE_CHECKING:
    from cocoindex.connectors import localfs
    from cocoindex.resources.file import FileLike

EDITED, DELETED = "1% edited", "10% deleted"
FILES: dict[Scale, int] = {"full": 10_000, "quick": 500, "tiny": 100}
WORDS = ("target", "source", "state", "path", "chunk", "vector", "memo", "sink", "store", "tree")


def cases(scale: Scale) -> list[Case]:
    n = FILES[scale]
    return [
        Case(
            f"{n:,} files",
            {"n": n},
            units=n,
            phases=(COLD, UNCHANGED, EDITED, DELETED),
            reach={COLD: 5.0, UNCHANGED: 15.0, EDITED: 12.0},
        )
    ]


def expect(phase: str, size: Size) -> Expected:
    return Expected({COLD: size["n"], EDITED: size["n"] // 100}.get(phase, 0))


def prepare(folder: pathlib.Path, phase: str, size: Size) -> None:
    """Make the files, edit some, delete some."""
    source = folder / "source"
    if phase == COLD:
        _make_files(source, size["n"])
    names = sorted(path.name for path in source.iterdir())
    random.Random(1).shuffle(names)
    if phase == EDITED:
        for name in names[: size["n"] // 100]:
            with (source / name).open("a", encoding="utf-8") as file:
                file.write("\nEdited: one more line.\n")
    if phase == DELETED:
        for name in names[: size["n"] // 10]:
            (source / name).unlink()


def _make_files(source: pathlib.Path, count: int) -> None:
    """Files as if they had been there for a while: fresh times would be distrusted."""
    source.mkdir()
    rng = random.Random(0)
    old = time.time() - 3600
    for number in range(count):
        lines = [" ".join(rng.choices(WORDS, k=12)) for _ in range(14)]
        path = source / f"doc_{number:06}.md"
        path.write_text(f"# Document {number}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
        os.utime(path, (old, old))


def verify(folder: pathlib.Path, _phase: str, _size: Size) -> None:
    """The target must hold exactly what the source has now, or the figures mean nothing."""
    source, out = folder / "source", folder / "out"
    paths = list(source.iterdir())
    for path in paths:
        if (out / path.name).read_text(encoding="utf-8") != render(path.read_text("utf-8")):
            raise AssertionError(f"{path.name}: the target does not hold what the source says")
    if len(list(out.iterdir())) != len(paths):
        raise AssertionError("the target holds files that have no source")


def render(text: str) -> str:
    """The work per file: small, so that what is measured is everything around it."""
    words = text.split()
    return f"{len(words)} words, {len(set(words))} different\n\n{text.upper()}"


def program(folder: pathlib.Path, _phase: str, _size: Size) -> Program:
    import cocoindex as coco
    from cocoindex.connectors import localfs

    tally = harness.Tally()

    @coco.fn(memo=True)
    async def convert(file: FileLike[str], out: localfs.DirTarget) -> None:
        tally.ran()
        out.declare_file(file.file_path.name, render(await file.read_text()))

    @coco.fn
    async def main() -> None:
        out = await localfs.mount_dir_target(folder / "out")
        await coco.mount_each(convert, localfs.walk_dir(folder / "source").items(), out)

    return Program(main, tally)


def bare(folder: pathlib.Path, phase: str, _size: Size) -> float:
    """List, and for each new size or time: read, convert, hash, write. One durable row per file."""
    source, out = folder / "source", folder / "out"
    out.mkdir(exist_ok=True)
    start = time.perf_counter()
    with floor.database(folder) as database:
        stored = {} if phase == COLD else dict(floor.rows(database))
        rows: list[floor.Row] = []
        for entry in os.scandir(source):
            stat = entry.stat()
            seen = f"{stat.st_mtime_ns} {stat.st_size} ".encode()
            if not stored.pop(entry.name.encode(), b"").startswith(seen):
                written = render(pathlib.Path(entry.path).read_text("utf-8")).encode()
                digest = hashlib.blake2b(written, digest_size=16).digest()
                (out / entry.name).write_bytes(written)
                rows.append((entry.name.encode(), seen + digest))
        for name in stored:
            (out / name.decode()).unlink()
        floor.write(database, rows, gone=list(stored))
    return time.perf_counter() - start


WORKLOAD = harness.Workload(
    title="Files to a directory",
    about="Markdown files of about 1 kB, each turned into one file of a directory target. By "
    "default this version flushes each file it writes to disk before renaming it into place; the "
    "release and the floor don't.",
    unit="file",
    cases=cases,
    expect=expect,
    program=program,
    floor=bare,
    prepare=prepare,
    verify=verify,
)
