"""How failures are shown: one readable block, and the user's traceback only if it is theirs."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from cocoindex.cli.redact import redact
from cocoindex.errors import CocoIndexError
from cocoindex.user_app_loader import Error as LoadError

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_WITHHELD = 3


class CliError(Exception):
    """A failure that one line explains. ``exit_code`` becomes the status of the process."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILURE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class QuietExit(Exception):
    """Leave with ``exit_code``; everything there is to say has been said."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


_GENERATED = "<string>"
"""The file of methods that dataclasses and NamedTuples generate: there is no line to show."""


@cache
def _foreign_roots() -> tuple[str, ...]:
    """Folders whose code is not the user's: ours, the standard library, installed packages."""
    import sysconfig

    package = str(Path(__file__).resolve().parents[1])
    paths = sysconfig.get_paths()
    installed = (paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return (package, *installed, "<frozen ", _GENERATED)


@cache
def _own_root() -> str:
    return str(Path(__file__).resolve().parents[1])


def is_user_file(filename: str) -> bool:
    """Whether a frame of ``filename`` belongs to the user's program."""
    return not filename.startswith(_foreign_roots())


def _trim(shown: traceback.TracebackException, seen: set[int]) -> bool:
    """Start at the user's first frame and leave ours out, in the whole chain of causes.

    Returns whether any frame of the user is left.
    """
    if id(shown) in seen:
        return False
    seen.add(id(shown))
    shown.stack = traceback.StackSummary.from_list(_kept(shown.stack))
    # A syntax error in the user's module has no frame of theirs, but names their line.
    found = bool(shown.stack) or issubclass(shown.exc_type or object, SyntaxError)
    for other in (shown.__cause__, shown.__context__, *(shown.exceptions or ())):
        found |= other is not None and _trim(other, seen)
    cause = shown.__cause__
    if cause is not None and not cause.stack and str(cause) in str(shown):
        # It says nothing that its consequence doesn't say.
        shown.__cause__, shown.__suppress_context__ = cause.__cause__, True
    return found


def _kept(frames: Sequence[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    """The frames worth showing: from the user's first one to theirs, or to a library's, last."""
    users = [at for at, frame in enumerate(frames) if is_user_file(frame.filename)]
    if not users:
        return []
    ours = frames[-1].filename.startswith(_own_root())
    # Where we raise, what stands between the user's call and us is our way of doing it.
    shown = frames[users[0] : users[-1] + 1 if ours else None]
    hidden = (_own_root(), _GENERATED)
    return [frame for frame in shown if not frame.filename.startswith(hidden)]


def user_traceback(error: BaseException) -> str | None:
    """The traceback of ``error`` from the user's first frame on, without frames of this package.

    None if no code of the user took part.
    """
    shown = traceback.TracebackException.from_exception(error)
    if not _trim(shown, set()):
        return None
    return redact("".join(shown.format()).rstrip("\n"))


def one_line(error: BaseException) -> str:
    """``error`` in one line: our own errors speak for themselves, others get their type."""
    text = " ".join(str(error).split())
    if isinstance(error, (CocoIndexError, CliError)) and text:
        return redact(text)
    return redact(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def print_error(message: str) -> None:
    """Write ``Error: message`` to stderr."""
    print(f"Error: {message}", file=sys.stderr)


def report(error: BaseException, summary: str | None = None) -> None:
    """Show ``error`` on stderr.

    Args:
        error: what was raised.
        summary: the last line if a traceback of the user's code precedes it; by default the
            error itself, in one line.
    """
    if isinstance(error, LoadError):
        cause, summary = error.__cause__ or error, one_line(error)
    else:
        cause = error
    shown = user_traceback(cause)
    if shown is not None:
        print(shown, file=sys.stderr)
    last = one_line(error) if shown is None else summary
    if last is not None:
        print_error(last)
