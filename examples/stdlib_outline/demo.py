"""Outline the standard library, change it, kill an update half-way, and look at what happened.

Every update below runs in a process of its own, so nothing is carried over in memory. The
program ends with status 1 if anything is not as it says.
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass

HERE = pathlib.Path(__file__).resolve().parent
STATE = HERE / ".state"
STDLIB = pathlib.Path(sysconfig.get_path("stdlib"))
COPIED = "asyncio collections concurrent email http importlib json logging unittest urllib xml"

Snapshot = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Place:
    """One index: what it reads, what it writes, and where it remembers."""

    source: pathlib.Path
    home: pathlib.Path

    @property
    def out(self) -> pathlib.Path:
        return self.home / "outlines"

    def environment(self) -> dict[str, str]:
        own = {
            "OUTLINE_SOURCE": str(self.source),
            "OUTLINE_OUT": str(self.out),
            "COCOINDEX_DB": str(self.home / "cocoindex.db"),
        }
        return {**os.environ, **own}

    def pages(self) -> dict[str, bytes]:
        """Content of everything the index has written (hidden temporary files left out)."""
        return {name: (self.out / name).read_bytes() for name in self.snapshot()}

    def snapshot(self) -> Snapshot:
        """Which file stands where: a page written again, even with equal bytes, differs."""
        found = (path for path in self.out.rglob("*.md") if path.is_file())
        stats = ((path, path.stat()) for path in found)
        return {p.relative_to(self.out).as_posix(): (s.st_ino, s.st_mtime_ns) for p, s in stats}


@dataclass(frozen=True, slots=True)
class Update:
    """What one finished update did."""

    seconds: float
    modules: dict[str, int]
    written: set[str]
    removed: set[str]


def main() -> None:
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir()
    stdlib = Place(STDLIB, STATE / "stdlib")
    print(f"Python {sys.version.split()[0]}, standard library at {STDLIB}")

    chapter("Cold: every module is outlined")
    cold = report(update(stdlib))
    count = cold.modules["added"]
    check(len(cold.written) == count + 1, "one page per module, and the index")
    show_sample(stdlib)

    chapter("Again, nothing changed")
    again = report(update(stdlib))
    check(again.modules == {"unchanged": count}, "no module is outlined")
    check(not again.written and not again.removed, "no page is touched")
    print(f"   {cold.seconds / again.seconds:.0f} times faster than the cold run")

    change_a_copy()
    kill_and_recover()
    print(f"\nEverything is as it should be. The pages: {os.path.relpath(stdlib.out)}/index.md")


def change_a_copy() -> None:
    chapter("A working copy of part of the library")
    place = Place(make_copy(STATE / "copy/source"), STATE / "copy")
    total = report(update(place)).modules["added"]

    chapter("Three files edited, one touched, one added, two deleted")
    edit(place.source / "json/decoder.py", "def edited_in_demo():\n    '''New here.'''\n")
    edit(place.source / "asyncio/queues.py", "class EditedInDemo:\n    '''New here.'''\n")
    edit(place.source / "logging/config.py", "# only a comment: parsed again, same outline\n")
    (place.source / "email/charset.py").touch()
    (place.source / "demo_module.py").write_text('"""Added by the demo."""\n')
    (place.source / "http/cookies.py").unlink()
    (place.source / "xml/sax/saxutils.py").unlink()
    done = report(update(place))
    check(
        done.modules == {"added": 1, "reprocessed": 3, "deleted": 2, "unchanged": total - 5},
        "only what changed is worked on; a touched file is not a change",
    )
    changed = {"json.decoder", "asyncio.queues", "demo_module"}
    check(
        done.written == {f"modules/{name}.md" for name in changed} | {"index.md"},
        "written: two changed outlines, the new one and the index",
    )
    gone = {"modules/http.cookies.md", "modules/xml.sax.saxutils.md"}
    check(done.removed == gone, "removed: the pages of the deleted files")


def kill_and_recover() -> None:
    chapter("Every file of the copy changes, and three updates in a row are killed half-way")
    place = Place(STATE / "copy/source", STATE / "copy")
    for path in place.source.rglob("*.py"):
        edit(path, "def changed_everywhere():\n    '''Added to every module.'''\n")
    old = place.pages()
    fresh = Place(place.source, STATE / "fresh")
    update(fresh)
    new = fresh.pages()

    for part in (0.2, 0.3, 0.4):
        seconds = update_and_kill(place, max(1, int(part * len(new))))
        found = place.pages()
        done = sum(found.get(name) == page for name, page in new.items())
        print(f"   SIGKILL after {seconds:.2f} s: {done} of {len(new)} pages are new")
        whole = all(page in (old.get(name), new.get(name)) for name, page in found.items())
        check(whole, "each page is the old one or the new one, whole")

    chapter("The next update recovers")
    report(update(place))
    check(place.pages() == new, "byte for byte what a build from nothing gives")
    check(not report(update(place)).written, "and one more finds nothing to do")


# --- running updates -----------------------------------------------------------------------


def update(place: Place) -> Update:
    """Run one update to its end in a process of its own."""
    before = place.snapshot()
    done = subprocess.run(
        [sys.executable, __file__, "--update"],
        env=place.environment(),
        stdout=subprocess.PIPE,
        check=True,
    )
    after = place.snapshot()
    said = json.loads(done.stdout.splitlines()[-1])
    written = {name for name, mark in after.items() if before.get(name) != mark}
    return Update(said["seconds"], said["modules"], written, before.keys() - after.keys())


def update_and_kill(place: Place, pages: int) -> float:
    """Start an update and kill it once it has written that many more pages."""
    before = place.snapshot()
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, __file__, "--update"], env=place.environment(), stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            now = place.snapshot()
            if sum(before.get(name) != mark for name, mark in now.items()) >= pages:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        check(process.wait() == -signal.SIGKILL, "the update was killed while it ran")
    return time.perf_counter() - start


def run_update() -> None:
    """In the process that updates: run the app once and say what it did, as JSON."""
    from main import app

    async def run() -> dict[str, object]:
        start = time.perf_counter()
        handle = app.update()
        await handle.result()
        seconds = time.perf_counter() - start
        stats = handle.stats()
        counts = stats.by_component["outline_module"] if stats else None
        named = {
            "added": counts.num_adds if counts else 0,
            "reprocessed": counts.num_reprocesses if counts else 0,
            "deleted": counts.num_deletes if counts else 0,
            "unchanged": counts.num_unchanged if counts else 0,
            "failed": counts.num_errors if counts else 0,
        }
        return {"seconds": seconds, "modules": {k: v for k, v in named.items() if v}}

    print(json.dumps(asyncio.run(run())))


# --- changing sources ----------------------------------------------------------------------


def make_copy(to: pathlib.Path) -> pathlib.Path:
    skip = shutil.ignore_patterns("__pycache__", "test", "tests")
    for name in COPIED.split():
        shutil.copytree(STDLIB / name, to / name, ignore=skip)
    for path in STDLIB.glob("[a-z]*.py"):
        shutil.copy2(path, to / path.name)
    return to


def edit(path: pathlib.Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write("\n\n" + text)


# --- telling -------------------------------------------------------------------------------


def chapter(title: str) -> None:
    print(f"\n{title}")


def report(done: Update) -> Update:
    modules = ", ".join(f"{count} {what}" for what, count in done.modules.items())
    pages = f"{len(done.written)} pages written"
    if done.removed:
        pages += f", {len(done.removed)} removed"
    print(f"   {done.seconds:6.2f} s   modules: {modules}; {pages}")
    return done


def show_sample(place: Place) -> None:
    page = (place.out / "modules/json.encoder.md").read_text(encoding="utf-8")
    print("   One of them, modules/json.encoder.md:")
    for line in page.splitlines()[:8]:
        print("     |", line if len(line) < 90 else line[:87] + "...")


def check(fine: bool, claim: str) -> None:
    print(f"   {'ok ' if fine else 'NOT'} {claim}")
    if not fine:
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:] == ["--update"]:
        run_update()
    else:
        main()
