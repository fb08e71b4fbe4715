"""Questions."""

from __future__ import annotations

import io
import sys

import click
import pytest

from cocoindex.cli.ask import ask_yes_no, confirm
from cocoindex.cli.errors import CliError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answering(monkeypatch: pytest.MonkeyPatch, stdin: io.StringIO) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)


@pytest.mark.parametrize(
    ("answer", "agreed"), [("yes", True), (" YES ", True), ("y", False), ("", False)]
)
def test_only_yes_in_any_case_agrees(
    monkeypatch: pytest.MonkeyPatch, answer: str, agreed: bool
) -> None:
    answering(monkeypatch, io.StringIO(f"{answer}\n"))
    assert confirm("Sure? ") is agreed


def test_a_name_has_to_be_typed_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, io.StringIO("App\napp\n"))
    assert confirm("Name: ", "App") is True
    assert confirm("Name: ", "App") is False


def test_a_short_yes_is_enough_for_a_small_question(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, io.StringIO("y\nno\n"))
    assert ask_yes_no("Go on? [y/N] ") is True
    assert ask_yes_no("Go on? [y/N] ") is False


def test_questions_go_to_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, io.StringIO("yes\n"))
    confirm("Sure? ")
    assert capsys.readouterr() == ("", "Sure? ")


def test_the_end_of_input_at_a_terminal_aborts(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, Terminal())
    with pytest.raises(click.Abort):
        confirm("Sure? ")


def test_without_a_terminal_and_an_answer_the_option_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, io.StringIO())
    with pytest.raises(CliError, match="use -f"):
        confirm("Sure? ")
    assert capsys.readouterr().err.endswith("Aborted!\n")
