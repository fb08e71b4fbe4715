"""What failed in a run, said once more at its end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cocoindex.cli.redact import redact

if TYPE_CHECKING:
    from cocoindex.engine.run import Failure

MAX_NAMED = 10


def failure_lines(number: int, first: Sequence[Failure]) -> list[str]:
    """The last words about a run in which ``number`` components failed."""
    named = first[:MAX_NAMED]
    lines = [f"{number} component(s) failed; see the log above."]
    lines += [redact(f"  {failure.path}: {_in_one_line(failure.message)}") for failure in named]
    if named and number > len(named):
        lines.append(f"  … and {number - len(named)} more")
    return lines


def _in_one_line(message: str) -> str:
    return " ".join(message.split())


def print_failures(number: int, first: Sequence[Failure]) -> None:
    """Write :func:`failure_lines` to stderr."""
    print("\n".join(failure_lines(number, first)), file=sys.stderr)
