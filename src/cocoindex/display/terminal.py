"""Progress on a terminal: lines redrawn in place while everything else scrolls above them."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any, TextIO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from cocoindex.display.progress import FANCY, Follower, format_stats, glyphs_for, header

_FRAME = 0.1
"""Seconds between two frames while something is in flight."""

_IDLE_FRAME = 1.0

_BURST = 0.05
"""Lines printed within this many seconds after others wait for the next frame."""

_STYLES = {
    "added": "green",
    "reprocessed": "cyan",
    "deleted": "yellow",
    "unchanged": "dim",
    "errors": "bold red",
    "in-flight": "blue",
}
_COUNT = re.compile(rf"\d+ (?:\S+ )?(?P<kind>{'|'.join(_STYLES)})\b")


class TerminalView:
    """Shows one followed run in place on ``stream``.

    A thread of its own redraws, so that spinner and clock keep moving while user code blocks
    the event loop. Printing and logging go through stand-ins for stdout and stderr that put
    whole lines above the display, unwrapped and unstyled.
    """

    def __init__(self, follower: Follower, title: str | None, stream: TextIO) -> None:
        self._follower = follower
        self._title = title
        self._glyphs = glyphs_for(stream)
        self._tick = 0
        self._drawn = time.monotonic()
        self._console = Console(
            file=stream,
            force_terminal=True,
            no_color=self._glyphs is not FANCY or None,
            highlight=False,
            emoji=False,
        )
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._above = Above(self._console)
        self._redirect = _Redirect(self._above)
        self._redirect.start()
        self._live.start(refresh=True)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="cocoindex-display", daemon=True)
        self._thread.start()
        _active.add(self)

    def refresh(self) -> None:
        """Nothing to do: every frame shows the newest counters."""

    def close(self) -> None:
        """Leave the final lines on the screen and give stdout and stderr back."""
        _active.discard(self)
        self._closing.set()
        self._thread.join()
        self._redirect.stop()
        self._above.flush()
        self._live.stop()

    def release(self) -> None:
        """Show the cursor and hold no line back: the process may be killed any moment."""
        self._console.show_cursor(True)
        self._above.holds_bursts = False
        self._above.flush()

    def _draw(self) -> None:
        while not self._closing.wait(_FRAME):
            self._above.flush()
            pause = _FRAME if _is_busy(self._follower) else _IDLE_FRAME
            if time.monotonic() - self._drawn >= pause:
                self._live.refresh()

    def _render(self) -> Group:
        follower = self._follower
        self._tick += 1
        self._drawn = time.monotonic()
        head = Text(header(self._title, terminated=follower.ended), style="bold")
        lines = format_stats(follower.stats, follower.phase(), self._glyphs, self._tick)
        return Group(_one_row(head), *(_one_row(_styled(line)) for line in lines))


_active: weakref.WeakSet[TerminalView] = weakref.WeakSet()


def release_terminal() -> None:
    """Prepare every display for a process that may be killed any moment."""
    for view in list(_active):
        view.release()


def _is_busy(follower: Follower) -> bool:
    stats = follower.stats
    return stats is None or any(row.num_in_progress for row in stats.by_component.values())


def _one_row(text: Text) -> Text:
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


def _styled(line: str) -> Text:
    text = Text(line)
    tail = line.find(": ") + 1
    for match in _COUNT.finditer(line, tail):
        text.stylize(_STYLES[match["kind"]], *match.span())
    return text


# --- What others print meanwhile ---------------------------------------------------------


class Above:
    """Prints texts above a live display; those of a burst together, for each costs a redraw."""

    def __init__(self, console: Console) -> None:
        self.holds_bursts = True
        self._console = console
        self._lock = threading.RLock()
        self._held: list[str] = []
        self._printed = 0.0

    def print(self, text: str) -> None:
        with self._lock:
            self._held.append(text)
            if not self.holds_bursts or time.monotonic() - self._printed > _BURST:
                self.flush()

    def flush(self) -> None:
        with self._lock:
            if self._held:
                text, self._held = "\n".join(self._held), []
                self._console.out(text, highlight=False)
                self._printed = time.monotonic()


class _Redirect:
    """Puts stand-ins in place of stdout and stderr, also in handlers of ``logging``."""

    def __init__(self, above: Above) -> None:
        self._before = (sys.stdout, sys.stderr)
        self._stand_ins = tuple(
            cast("TextIO", LinesAbove(stream, above)) if _is_terminal(stream) else stream
            for stream in self._before
        )

    def start(self) -> None:
        self._swap(self._before, self._stand_ins)

    def stop(self) -> None:
        self._swap(self._stand_ins, self._before)
        for stream in self._stand_ins:
            if isinstance(stream, LinesAbove):
                stream.close_line()

    def _swap(self, old: tuple[TextIO, ...], new: tuple[TextIO, ...]) -> None:
        if sys.stdout is old[0]:
            sys.stdout = new[0]
        if sys.stderr is old[1]:
            sys.stderr = new[1]
        for handler in _stream_handlers():
            for before, after in zip(old, new, strict=True):
                if handler.stream is before and before is not after:
                    handler.setStream(after)


def _is_terminal(stream: Any) -> bool:
    return stream is not None and bool(getattr(stream, "isatty", lambda: False)())


def _stream_handlers() -> Iterator[logging.StreamHandler[Any]]:
    """Handlers of ``logging`` that keep a stream of their own."""
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):  # a placeholder has none
            if isinstance(handler, logging.StreamHandler) and "stream" in vars(handler):
                yield handler


class LinesAbove:
    """A text stream that puts whole lines, per thread, above a live display."""

    def __init__(self, stream: TextIO, above: Above) -> None:
        self._stream = stream
        self._above = above
        self._partial: dict[int, str] = {}

    def write(self, text: str) -> int:
        thread = threading.get_ident()
        whole, newline, rest = (self._partial.pop(thread, "") + text).rpartition("\n")
        if rest:
            self._partial[thread] = rest
        if newline:
            self._above.print(whole)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def close_line(self) -> None:
        """Print what was written without a newline at its end."""
        for thread in list(self._partial):
            self._above.print(self._partial.pop(thread))

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
