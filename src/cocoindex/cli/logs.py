"""Logging of the command line: one line per record on stderr, tracebacks in the user's terms."""

from __future__ import annotations

import logging
import os
import sys
from types import TracebackType
from typing import TextIO

from cocoindex.cli.errors import CliError, one_line, user_traceback

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _Formatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802  (logging's name)
        if ei[1] is None or logging.getLogger().isEnabledFor(logging.DEBUG):
            return super().formatException(ei)
        return user_traceback(ei[1]) or one_line(ei[1])

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        message, _, last = text.rpartition("\n")
        # An error that nobody's frames belong to may have been told in the message already.
        return message if record.exc_info and last and message.endswith(last) else text


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is now, so that a progress display can stand in for it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def log_level() -> int:
    """The level ``COCOINDEX_LOG_LEVEL`` asks for: a name or a number; WARNING by default."""
    text = os.environ.get("COCOINDEX_LOG_LEVEL", "").strip() or "WARNING"
    level = int(text) if text.isdecimal() else logging.getLevelNamesMapping().get(text.upper())
    if level is None:
        names = ", ".join(name for name in logging.getLevelNamesMapping() if name != "NOTSET")
        raise CliError(f"COCOINDEX_LOG_LEVEL: unknown level {text!r}; use one of {names}")
    return level


def configure_logging() -> None:
    """Send records of the level asked for to stderr; replaces an earlier call's handler."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _StderrHandler)]:
        root.removeHandler(handler)
    handler = _StderrHandler()
    handler.setFormatter(_Formatter())
    root.addHandler(handler)
    root.setLevel(log_level())
