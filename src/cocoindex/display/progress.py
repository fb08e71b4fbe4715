"""The progress of a run: what the lines say, and plain blocks where nothing redraws.

``display`` follows an update, a drop or a stats group until it ends. On a terminal the lines are
redrawn in place (``cocoindex.display.terminal``, which needs rich); everywhere else a block is
written when something changed. Everything here needs the standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TextIO

__all__ = [
    "FANCY",
    "PLAIN",
    "ChangeRate",
    "Glyphs",
    "Phase",
    "Watchable",
    "can_redraw",
    "display",
    "format_stats",
    "format_status",
    "glyphs_for",
]

DEFAULT_INTERVAL = timedelta(seconds=1)


class Watchable(Protocol):
    """What can be displayed: ``UpdateHandle``, ``DropHandle``, ``StatsGroupHandle``."""

    def stats(self) -> Any: ...

    def watch(self) -> AsyncIterator[Any]: ...


class Glyphs(NamedTuple):
    """The signs of a display."""

    done: str
    working: str
    warning: str
    clock: str


FANCY = Glyphs("✅", "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "⚠️ ", "⏳ ")
PLAIN = Glyphs("*", "|/-\\", "", "")


def glyphs_for(stream: TextIO) -> Glyphs:
    """Emoji, unless ``NO_COLOR`` is set, the terminal is dumb or the encoding can't show them."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return PLAIN
    try:
        "".join(FANCY).encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return FANCY


# --- Lines -------------------------------------------------------------------------------


class Phase(NamedTuple):
    """Where a run stands, in seconds since it began."""

    elapsed: float
    live: bool = False
    ready_after: float | None = None
    changes_per_minute: int = 0
    last_change_age: float | None = None
    ended: bool = False


def format_stats(stats: Any, phase: Phase, glyphs: Glyphs = FANCY, tick: int = 0) -> list[str]:
    """A line for each processor, in order of first appearance, and each target that reports what
    is done to it; then the status line.

    Args:
        stats: an ``UpdateStats``, or None if nothing has been counted yet.
        phase: where the run stands.
        glyphs: which signs to use.
        tick: frame of the spinner.
    """
    rows = stats.by_component.items() if stats is not None else ()
    lines = [format_processor(name, counts, glyphs, tick) for name, counts in rows]
    targets = stats.by_target.items() if stats is not None else ()
    lines += [format_target(name, done) for name, done in targets]
    return [*lines, format_status(phase, glyphs)]


def format_target(name: str, done: Any) -> str:
    """``-> postgres table docs: 1,000 written, 5 deleted | 1.2 MB, 3 statements, 0.5s``."""
    rows = [
        f"{number:,} {what}"
        for number, what in ((done.rows_upserted, "written"), (done.rows_deleted, "deleted"))
        if number
    ]
    cost = [
        f"{done.bytes / 1e6:.1f} MB",
        f"{done.statements:,} statements",
        *([f"{done.retries} retries"] if done.retries else []),
        f"{done.seconds:.1f}s",
    ]
    return f"-> {name}: {', '.join(rows) or 'nothing written'} | {', '.join(cost)}"


def format_processor(name: str, counts: Any, glyphs: Glyphs = FANCY, tick: int = 0) -> str:
    """``✅ process_file: 3 total | 2 added, 1 ⚠️ errors``."""
    total = f"{counts.num_execution_starts} total"
    in_flight = counts.num_in_progress
    if in_flight:
        mark = f"{glyphs.working[tick % len(glyphs.working)]} "
        total = f"{total}, {in_flight} in-flight"
    else:
        mark = glyphs.done
    parts = _parts(counts, glyphs)
    tail = f" | {', '.join(parts)}" if parts else ""
    return f"{mark} {name}: {total}{tail}"


def _parts(counts: Any, glyphs: Glyphs) -> list[str]:
    named = (
        (counts.num_adds, "added"),
        (counts.num_reprocesses, "reprocessed"),
        (counts.num_deletes, "deleted"),
        (counts.num_unchanged, "unchanged"),
        (counts.num_errors, f"{glyphs.warning}errors"),
    )
    return [f"{number} {name}" for number, name in named if number]


def format_status(phase: Phase, glyphs: Glyphs = FANCY) -> str:
    """``⏳ Elapsed: 1.2s``, and in live mode how far it is."""
    if not phase.live or phase.ended:
        return f"{glyphs.clock}Elapsed: {phase.elapsed:.1f}s"
    if phase.ready_after is None:
        return f"{glyphs.clock}Elapsed: {phase.elapsed:.1f}s | Catching up..."
    ready = f"{glyphs.clock}Ready (took {phase.ready_after:.1f}s) | Watching for changes..."
    if phase.last_change_age is None:
        return ready
    age = _age_text(phase.last_change_age)
    return f"{ready} | {phase.changes_per_minute} changes/min, last {age} ago"


def _age_text(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f}s"
    if seconds < 3600:
        return f"{seconds // 60:.0f}m"
    return f"{seconds // 3600:.0f}h{seconds % 3600 // 60:02.0f}m"


def header(title: str | None, *, terminated: bool = False) -> str:
    """``[Stats]``, ``[Stats: title]``, and the same of a run that has ended."""
    name = f"[Stats: {title}]" if title else "[Stats]"
    return f"{name} (terminated)" if terminated else name


# --- Following a run ---------------------------------------------------------------------


class ChangeRate:
    """How many changes the last minute saw, and when the last one came."""

    _WINDOW = 60.0

    def __init__(self) -> None:
        self._total: int | None = None
        self._steps: deque[tuple[float, int]] = deque()
        self._last: float | None = None

    def observe(self, changes: int, now: float) -> None:
        """Note that ``changes`` have happened in all. The first call sets the base."""
        if self._total is not None and changes > self._total:
            self._steps.append((now, changes - self._total))
            self._last = now
        self._total = changes

    def per_minute(self, now: float) -> int:
        while self._steps and self._steps[0][0] <= now - self._WINDOW:
            self._steps.popleft()
        return sum(step for _, step in self._steps)

    def age(self, now: float) -> float | None:
        """Seconds since the last change, or None before the first."""
        return None if self._last is None else now - self._last


def _changes(stats: Any) -> int:
    """Executions that changed something, or failed to."""
    if stats is None:
        return 0
    return sum(row.num_finished - row.num_unchanged for row in stats.by_component.values())


class Follower:
    """The state of one displayed run: its latest statistics and its times."""

    def __init__(self, handle: Watchable, *, live: bool) -> None:
        self._handle = handle
        self._live = live
        self._start = time.monotonic()
        self._ready_after: float | None = None
        self._rate = ChangeRate()
        self.stats: Any = handle.stats()
        self.ended = False

    def observe(self, snapshot: Any) -> None:
        """Take over one element of ``watch()``."""
        now = time.monotonic()
        self.stats = snapshot.stats
        if self._ready_after is None and snapshot.status == "ready":
            self._ready_after = now - self._start
        if self._ready_after is not None:
            self._rate.observe(_changes(self.stats), now)

    def end(self) -> None:
        """The run is over: its counters are final."""
        self.stats = self._handle.stats()
        self.ended = True

    def phase(self) -> Phase:
        now = time.monotonic()
        return Phase(
            elapsed=now - self._start,
            live=self._live,
            ready_after=self._ready_after,
            changes_per_minute=self._rate.per_minute(now),
            last_change_age=self._rate.age(now),
            ended=self.ended,
        )


class View(Protocol):
    """Something that shows one followed run."""

    def refresh(self) -> None: ...

    def close(self) -> None: ...


class PlainView:
    """Writes a block whenever the counters or the readiness changed."""

    def __init__(self, follower: Follower, title: str | None, stream: TextIO | None) -> None:
        self._follower = follower
        self._title = title
        self._stream = stream
        self._shown: object = None

    def refresh(self) -> None:
        """Write a block if it would differ from the last one."""
        follower, phase = self._follower, self._follower.phase()
        state = (follower.stats, phase.ready_after if phase.live else None)
        if follower.stats is not None and state != self._shown:
            self._shown = state
            self._write(phase)

    def close(self) -> None:
        """Write the last block."""
        self._write(self._follower.phase())

    def _write(self, phase: Phase) -> None:
        stream = self._stream if self._stream is not None else sys.stdout
        head = header(self._title, terminated=phase.ended)
        lines = [head, *format_stats(self._follower.stats, phase, glyphs_for(stream))]
        # One write, so that lines of other threads stay outside the block.
        stream.write("\n".join(lines) + "\n\n")
        stream.flush()


def can_redraw(stream: TextIO) -> bool:
    """Whether lines on ``stream`` can be redrawn in place."""
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and isatty() and os.environ.get("TERM") != "dumb"


_in_place = False
"""Whether a display of this process redraws in place: there can be one only."""


@contextlib.contextmanager
def _view(follower: Follower, title: str | None, stream: TextIO | None) -> Iterator[View]:
    """The best view for ``stream`` (None: whatever ``sys.stdout`` is at each moment)."""
    global _in_place  # noqa: PLW0603  (one screen per process)
    out = stream if stream is not None else sys.stdout
    if _in_place or not can_redraw(out):
        yield PlainView(follower, title, stream)
        return
    from cocoindex.display.terminal import TerminalView

    _in_place = True
    try:
        yield TerminalView(follower, title, out)
    finally:
        _in_place = False


async def display(
    handle: Watchable,
    *,
    title: str | None = None,
    refresh_interval: timedelta | None = None,
    stream: TextIO | None = None,
    live: bool = False,
) -> None:
    """Start ``handle`` if need be, and show its progress until it ends.

    Only one display per process redraws in place; others that run meanwhile write plain blocks.

    Args:
        handle: an update, a drop or a stats group.
        title: shown as ``[Stats: title]``.
        refresh_interval: the shortest time between plain blocks, and the longest between two
            redraws; one second by default.
        stream: where to write; ``sys.stdout`` by default.
        live: whether the run watches for changes once it is ready.

    Raises:
        Exception: what the run raises, after the last block was shown.
    """
    seconds = (refresh_interval or DEFAULT_INTERVAL).total_seconds()
    follower = Follower(handle, live=live)
    with _view(follower, title, stream) as view:
        drawing = asyncio.create_task(_draw(view, seconds))
        try:
            async for snapshot in handle.watch():
                follower.observe(snapshot)
        finally:
            drawing.cancel()
            follower.end()
            view.close()


async def _draw(view: View, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        view.refresh()
