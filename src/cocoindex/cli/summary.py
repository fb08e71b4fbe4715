"""What failed in a run, collected while it goes on, and said once more at its end."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cocoindex.cli.errors import one_line

MAX_NAMED = 10


class Failure(NamedTuple):
    """A component that failed."""

    path: str
    message: str


class FailureLog(logging.Handler):
    """Keeps the first failures that the engine logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.first: list[Failure] = []

    def emit(self, record: logging.LogRecord) -> None:
        failure = _failure_of(record)
        if failure is not None and len(self.first) < MAX_NAMED:
            self.first.append(failure)


def _failure_of(record: logging.LogRecord) -> Failure | None:
    """The failure that a record of the engine reports: its arguments are path, name, error."""
    args = record.args
    if not (isinstance(args, tuple) and len(args) == 3 and isinstance(args[2], BaseException)):
        return None
    path = args[0]
    return Failure(path, one_line(args[2])) if isinstance(path, str) else None


@contextlib.contextmanager
def collecting_failures() -> Iterator[FailureLog]:
    """Collect what the engine logs while the block runs."""
    logger = logging.getLogger("cocoindex.engine")
    log = FailureLog()
    logger.addHandler(log)
    try:
        yield log
    finally:
        logger.removeHandler(log)


def count_failures(stats: Any) -> int:
    """How many executions failed, by the final statistics of a run."""
    if stats is None:
        return 0
    return sum(row.num_errors for row in stats.by_component.values())


def failure_lines(number: int, first: Sequence[Failure]) -> list[str]:
    """The last words about a run with failures."""
    lines = [f"{number} component(s) failed; see the log above."]
    lines += [f"  {failure.path}: {failure.message}" for failure in first[:MAX_NAMED]]
    named = min(len(first), MAX_NAMED)
    if named and number > named:
        lines.append(f"  … and {number - named} more")
    return lines


def print_failures(number: int, first: Sequence[Failure]) -> None:
    """Write :func:`failure_lines` to stderr."""
    print("\n".join(failure_lines(number, first)), file=sys.stderr)
