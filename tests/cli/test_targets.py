"""Parsing APP_TARGET and choosing an app."""

from __future__ import annotations

import io
import os
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from cocoindex.cli import ask, targets
from cocoindex.cli.errors import CliError
from cocoindex.cli.targets import AppTarget, FoundApp, FoundEnv, choose, parse_app_target


def env(name: str, *apps: str) -> FoundEnv:
    handle = SimpleNamespace()
    found = tuple(FoundApp(app, name, handle, SimpleNamespace(name=app)) for app in apps)
    return FoundEnv(name, handle, found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("main.py", AppTarget("main.py")),
        ("pkg.mod:App", AppTarget("pkg.mod", "App")),
        ("main.py:", AppTarget("main.py")),
        ("main.py:my-app", AppTarget("main.py", "my-app")),
        ("main.py:A@alpha", AppTarget("main.py", "A", "alpha")),
        ("main.py:@alpha", AppTarget("main.py", None, "alpha")),
        ("C:\\x\\main.py:A", AppTarget("C:\\x\\main.py", "A")),
        ("C:/x/main.py", AppTarget("C:/x/main.py")),
    ],
)
def test_a_target_splits_into_module_app_and_environment(text: str, expected: AppTarget) -> None:
    assert parse_app_target(text) == expected


@pytest.mark.parametrize("text", [":App", "main.py:A@", "main.py:@", ""])
def test_a_target_without_module_or_with_an_empty_environment_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        parse_app_target(text)
    assert "Invalid value for APP_TARGET: " in caught.value.format_message()


def test_the_only_app_is_chosen_without_a_name() -> None:
    assert choose(AppTarget("m"), [env("default", "A")]).name == "A"


def test_several_apps_without_a_name_are_listed() -> None:
    with pytest.raises(CliError, match=r"Multiple apps found in 'm': A, B\. Please specify which "):
        choose(AppTarget("m"), [env("default", "A", "B")])


@pytest.mark.parametrize(("answer", "name"), [("2", "B"), ("A", "A")])
def test_at_a_terminal_one_of_several_apps_is_picked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, name: str
) -> None:
    monkeypatch.setattr(ask, "can_ask", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n"))
    assert choose(AppTarget("m"), [env("default", "A", "B")]).name == name
    assert capsys.readouterr().err == (
        "Several apps are in 'm':\n  1. A\n  2. B\nNumber or name [1-2]: "
    )


def test_an_answer_that_is_no_app_is_told_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "can_ask", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO("3\n"))
    with pytest.raises(CliError, match="Multiple apps found in 'm': A, B"):
        choose(AppTarget("m"), [env("default", "A", "B")])


def test_apps_of_one_name_are_told_apart_by_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ask, "can_ask", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO("A@beta\n"))
    assert choose(AppTarget("m"), [env("alpha", "A"), env("beta", "A")]).env_name == "beta"
    assert "1. A@alpha\n  2. A@beta\n" in capsys.readouterr().err


def test_no_app_at_all_says_how_to_make_one() -> None:
    with pytest.raises(CliError, match=r"No apps found after loading 'm'\. Make sure the module"):
        choose(AppTarget("m"), [])


def test_an_unknown_name_lists_the_closest_spelling_first() -> None:
    with pytest.raises(CliError, match=r"No app named 'Indx' found.*: Index, Alpha, Z"):
        choose(AppTarget("m", "Indx"), [env("default", "Z", "Index", "Alpha")])


def test_one_name_in_two_environments_asks_for_the_environment() -> None:
    envs = [env("a", "X"), env("b", "X")]
    with pytest.raises(CliError, match="in different environments: a, b"):
        choose(AppTarget("m", "X"), envs)
    assert choose(AppTarget("m", "X", "b"), envs).env_name == "b"


def test_an_environment_alone_chooses_its_only_app() -> None:
    assert choose(AppTarget("m", None, "b"), [env("a", "X"), env("b", "Y")]).name == "Y"


def test_an_unknown_environment_is_named() -> None:
    with pytest.raises(CliError, match="No environment named 'E' found after loading 'm'"):
        choose(AppTarget("m", "X", "E"), [env("a", "X")])


def test_any_registered_name_is_accepted_even_with_an_at_sign() -> None:
    assert choose(parse_app_target("m:a@b"), [env("default", "a@b", "c")]).name == "a@b"


def test_paths_below_the_working_directory_are_shown_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert targets.shown_path(tmp_path / "db" / "x.db") == f".{os.sep}db{os.sep}x.db"
    assert targets.shown_path("x.db") == f".{os.sep}x.db"
    assert targets.shown_path(tmp_path.parent) == str(tmp_path.parent)
    assert targets.shown_path(None) == "(unknown)"


def test_a_database_password_is_not_shown() -> None:
    assert targets.shown_path("postgresql://me:hush@h/db") == "postgresql://me:***@h/db"
