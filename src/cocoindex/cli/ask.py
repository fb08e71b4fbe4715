"""Questions on the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from cocoindex.cli.errors import CliError


def confirm(question: str, word: str = "yes") -> bool:
    """Ask on stderr and read one line; True if it is ``word`` (any case for ``yes``).

    Raises:
        click.Abort: somebody at a terminal ended the input.
        CliError: there was no terminal and no answer either.
    """
    answer = _answer(question)
    return answer.lower() == word if word == "yes" else answer == word


def _answer(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer:
        print(file=sys.stderr)
        _no_answer()
    return answer.strip()


def _no_answer() -> NoReturn:
    if sys.stdin is not None and sys.stdin.isatty():
        raise click.Abort
    print("Aborted!", file=sys.stderr)
    raise CliError("there is no terminal to ask on; use -f to go on without the question.")


def can_ask() -> bool:
    """Whether somebody sits at a terminal."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def pick(question: str, options: Sequence[str]) -> int | None:
    """Ask on stderr which of ``options`` is meant; its index, or None if the answer is none.

    Raises like :func:`confirm`.
    """
    listed = (f"  {number}. {option}" for number, option in enumerate(options, 1))
    print("\n".join([question, *listed]), file=sys.stderr)
    answer = _answer(f"Number or name [1-{len(options)}]: ")
    if answer in options:
        return options.index(answer)
    number = int(answer) if answer.isdecimal() else 0
    return number - 1 if 1 <= number <= len(options) else None


def ask_yes_no(question: str) -> bool:
    """Ask on stderr; True for ``y`` or ``yes``. Raises like :func:`confirm`."""
    return _answer(question).lower() in {"y", "yes"}
