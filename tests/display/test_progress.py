"""What the progress display shows."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import NamedTuple

import pytest

from cocoindex.display.progress import (
    PLAIN,
    ChangeRate,
    Phase,
    display,
    format_processor,
    format_stats,
    format_status,
)
from cocoindex.engine.stats import (
    ComponentStats,
    TargetStats,
    UpdateSnapshot,
    UpdateStats,
    UpdateStatus,
)


class Handle:
    """A run that goes through scripted snapshots; a ``None`` waits for :meth:`release`."""

    def __init__(self, *steps: UpdateSnapshot[None] | Exception | None) -> None:
        self._steps = steps
        self._last: UpdateStats | None = None
        self._gate = asyncio.Event()

    def stats(self) -> UpdateStats | None:
        return self._last

    def release(self) -> None:
        self._gate.set()

    async def watch(self) -> AsyncIterator[UpdateSnapshot[None]]:
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            if step is None:
                await self._gate.wait()
                continue
            self._last = step.stats
            yield step


def snapshot(
    status: UpdateStatus = UpdateStatus.RUNNING, **rows: ComponentStats
) -> UpdateSnapshot[None]:
    return UpdateSnapshot(UpdateStats(rows), status)


DONE = ComponentStats(3, 0, 2, 0, 0, 1)
BUSY = ComponentStats(3, 0, 2, 0, 0, 0)


class Screen(io.StringIO):
    """A terminal that is good enough to read the screen from what was written to it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        rows, at = [""], 0
        for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", self.getvalue()):
            if part == "\n":
                at += 1
                rows.extend([""] * (at + 1 - len(rows)))
            elif part.endswith("A") and part.startswith("\x1b"):
                at -= int(part[2:-1] or 1)
            elif part == "\x1b[2K":
                rows[at] = ""
            elif not part.startswith("\x1b") and part != "\r":
                rows[at] += part
        return [row for row in rows if row]


class SameScreen(io.StringIO):
    """Another stream of the same terminal."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self.write = screen.write  # type: ignore[method-assign]

    def isatty(self) -> bool:
        return True


class Elapsed(NamedTuple):
    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and re.fullmatch(self.text, other) is not None

    __hash__ = None  # type: ignore[assignment]


ELAPSED = Elapsed(r"⏳ Elapsed: \d+\.\ds")


def test_a_finished_processor_shows_its_parts_in_order() -> None:
    counts = ComponentStats(15, 1, 2, 3, 4, 5)
    assert format_processor("f", counts) == (
        "✅ f: 15 total | 2 added, 4 reprocessed, 3 deleted, 1 unchanged, 5 ⚠️ errors"
    )
    assert format_processor("process_file", DONE) == (
        "✅ process_file: 3 total | 2 added, 1 ⚠️ errors"
    )


def test_a_working_processor_shows_what_is_in_flight() -> None:
    assert format_processor("f", BUSY) == "⠋  f: 3 total, 1 in-flight | 2 added"
    assert format_processor("f", ComponentStats(1)) == "⠋  f: 1 total, 1 in-flight"


def test_plain_signs_are_ascii() -> None:
    lines = format_stats(UpdateStats({"f": DONE, "g": BUSY}), Phase(1.25), PLAIN, tick=1)
    assert lines == [
        "* f: 3 total | 2 added, 1 errors",
        "/  g: 3 total, 1 in-flight | 2 added",
        "Elapsed: 1.2s",
    ]


def test_a_target_tells_what_was_done_to_it() -> None:
    done = TargetStats(12_000, 5, 1_250_000, 3, 0, 0.5)
    stats = UpdateStats({"f": DONE}, {"postgres table docs": done, "other": TargetStats(retries=2)})
    assert format_stats(stats, Phase(1), PLAIN)[1:3] == [
        "-> postgres table docs: 12,000 written, 5 deleted | 1.2 MB, 3 statements, 0.5s",
        "-> other: nothing written | 0.0 MB, 0 statements, 2 retries, 0.0s",
    ]


def test_the_status_line_tells_how_far_a_live_run_is() -> None:
    assert format_status(Phase(1.2)) == "⏳ Elapsed: 1.2s"
    assert format_status(Phase(1.2, live=True)) == "⏳ Elapsed: 1.2s | Catching up..."
    ready = Phase(9, live=True, ready_after=1.0)
    assert format_status(ready) == "⏳ Ready (took 1.0s) | Watching for changes..."
    changing = ready._replace(changes_per_minute=12, last_change_age=75.0)
    assert format_status(changing).endswith("changes... | 12 changes/min, last 1m ago")


def test_changes_are_counted_over_the_last_minute() -> None:
    rate = ChangeRate()
    rate.observe(10, 0.0)
    assert (rate.per_minute(1.0), rate.age(1.0)) == (0, None)
    rate.observe(13, 5.0)
    rate.observe(14, 50.0)
    assert (rate.per_minute(55.0), rate.age(55.0)) == (4, 5.0)
    assert rate.per_minute(70.0) == 1


async def test_without_a_terminal_the_last_block_is_marked_and_followed_by_a_blank_line() -> None:
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    await display(Handle(snapshot(f=DONE)), title="load", stream=out)
    out.seek(0)
    lines = out.read().split("\n")
    assert lines == [
        "[Stats: load] (terminated)",
        "✅ f: 3 total | 2 added, 1 ⚠️ errors",
        ELAPSED,
        "",
        "",
    ]


async def test_without_a_terminal_a_block_comes_only_when_something_changed() -> None:
    out = io.StringIO()
    handle = Handle(snapshot(f=BUSY), None, snapshot(f=DONE))
    task = asyncio.create_task(
        display(handle, stream=out, refresh_interval=timedelta(milliseconds=1))
    )
    while out.getvalue().count("[Stats]") < 1:
        await asyncio.sleep(0)
    for _ in range(1000):
        await asyncio.sleep(0)
    handle.release()
    await task
    assert re.findall(r"^\[Stats\].*$", out.getvalue(), re.MULTILINE) == [
        "[Stats]",
        "[Stats] (terminated)",
    ]


async def test_the_error_of_the_run_comes_after_the_last_block() -> None:
    out = io.StringIO()
    with pytest.raises(ValueError, match="boom"):
        await display(Handle(snapshot(f=DONE), ValueError("boom")), stream=out)
    assert "(terminated)" in out.getvalue()


def test_nothing_of_rich_is_needed_without_a_terminal() -> None:
    code = (
        "import sys; sys.modules['rich'] = None\n"
        "import asyncio, io\n"
        "from cocoindex.display.progress import display\n"
        "class H:\n"
        "    def stats(self): return None\n"
        "    async def watch(self):\n"
        "        return\n"
        "        yield\n"
        "asyncio.run(display(H()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.startswith("[Stats] (terminated)")


async def test_a_terminal_keeps_one_block_and_prints_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", SameScreen(screen))
    log = logging.getLogger("test.above")
    log.propagate = False
    handler = logging.StreamHandler()
    stderr = handler.stream
    log.addHandler(handler)

    class Chatty(Handle):
        async def watch(self) -> AsyncIterator[UpdateSnapshot[None]]:
            print("from user code", "x" * 200)
            print("no newline", end="")
            log.warning("a warning [bold]")
            yield snapshot(f=BUSY)
            print(" ... now")
            self._last = UpdateStats({"f": DONE})
            yield snapshot(f=DONE)

    await display(Chatty(), stream=screen)
    assert screen.lines() == [
        f"from user code {'x' * 200}",
        "a warning [bold]",
        "no newline ... now",
        "[Stats] (terminated)",
        "✅ f: 3 total | 2 added, 1 ⚠️ errors",
        ELAPSED,
    ]
    assert sys.stdout is screen
    assert handler.stream is stderr
    log.removeHandler(handler)
    assert "\x1b[?25h" in screen.getvalue()


async def test_a_second_display_on_the_terminal_writes_plain_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)

    class Outer(Handle):
        async def watch(self) -> AsyncIterator[UpdateSnapshot[None]]:
            yield snapshot(f=BUSY)
            await display(Handle(snapshot(g=DONE)), title="inner")

    await display(Outer())
    heads = [line for line in screen.lines() if line.startswith("[Stats")]
    assert heads == ["[Stats: inner] (terminated)", "[Stats] (terminated)"]


async def test_lines_are_cut_to_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    await display(Handle(snapshot(**{"f" * 100: DONE})), stream=screen)
    assert all(len(line) <= 40 for line in screen.lines())


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
async def test_no_emoji_and_no_colour_where_they_are_unwelcome(
    variable: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    screen = Screen()
    await display(Handle(snapshot(f=DONE)), stream=screen)
    assert "* f: 3 total | 2 added, 1 errors" in screen.lines()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", screen.getvalue())
