"""Global options, exit status, loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cocoindex


def test_the_version_is_printed(here: Any) -> None:
    done = here("--version")
    assert done.stdout == f"cocoindex version {cocoindex.__version__}\n"
    assert here("-V").stdout == done.stdout


@pytest.mark.parametrize("command", [(), ("ls",), ("show",), ("update",), ("drop",), ("init",)])
def test_every_command_has_help(here: Any, command: tuple[str, ...]) -> None:
    done = here(*command, "--help")
    assert (done.returncode, done.stdout.startswith("Usage: cocoindex")) == (0, True)


def test_importing_the_package_loads_neither_click_nor_rich(run_python: Any) -> None:
    code = "import cocoindex, sys; print(sorted({'click', 'rich'} & set(sys.modules)))"
    assert run_python("-c", code).stdout == "[]\n"


@pytest.mark.parametrize("target", [":App", "main.py:App@"])
def test_a_malformed_target_is_a_usage_error(here: Any, target: str) -> None:
    done = here("update", target)
    assert done.returncode == 2
    assert "Invalid value for APP_TARGET: " in done.stderr


def test_a_missing_file_is_one_line(project: Any) -> None:
    done = project.run("update", "./x.py")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: Application file path not found: ./x.py\n"


def test_a_missing_module_is_one_line(here: Any) -> None:
    done = here("ls", "nope")
    assert done.returncode == 1
    assert done.stderr == "Error: Failed to load APP_TARGET 'nope': No module named 'nope'\n"


def test_what_the_program_raises_is_shown_from_the_users_frame_on(project: Any) -> None:
    project.write("main.py", "def f():\n    return 1 / 0\nf()\n")
    done = project.run("update", "main.py")
    assert done.returncode == 1
    first, *rest = done.stderr.splitlines()
    assert first == "Traceback (most recent call last):"
    assert rest[0].endswith('main.py", line 3, in <module>')
    assert "ZeroDivisionError: division by zero" in rest
    assert "importlib" not in done.stderr
    assert "During handling" not in done.stderr
    assert rest[-1] == (
        "Error: Failed to load APP_TARGET 'main.py': ZeroDivisionError: division by zero"
    )


def test_a_syntax_error_names_the_line(project: Any) -> None:
    project.write("main.py", "x = = 1\n")
    done = project.run("ls", "main.py")
    assert done.returncode == 1
    assert 'main.py", line 1' in done.stderr
    assert "SyntaxError" in done.stderr
    assert "importlib" not in done.stderr


def test_a_program_without_apps_says_how_to_make_one(project: Any) -> None:
    project.write("main.py", "")
    done = project.run("update", "main.py")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: No apps found after loading 'main.py'. Make sure the module creates a "
        "coco.App(...) instance.\n"
    )


def test_an_env_file_is_found_upwards_and_variables_already_set_win(project: Any) -> None:
    project.write(".env", "GREETING=hello\nTAKEN=file\n")
    project.write("sub/main.py", "import os; print(os.environ['GREETING'], os.environ['TAKEN'])")
    project.root = project.root / "sub"
    done = project.run("ls", "main.py", TAKEN="shell")
    assert done.stdout.startswith("hello shell\n")
    path = Path(project.root).parent / ".env"
    assert done.stderr == f"Loaded environment variables from: {path}\n\n"


def test_an_env_file_that_is_named_must_exist(here: Any) -> None:
    assert here("-e", "nope.env", "ls").returncode == 2


def test_modules_are_looked_up_in_the_app_folder(project: Any) -> None:
    project.write("apps/prog.py", "print('loaded')\n")
    assert project.run("ls", "prog").returncode == 1
    assert project.run("-d", "apps", "ls", "prog").stdout.startswith("loaded\n")


def test_a_wrong_log_level_is_one_line(project: Any) -> None:
    done = project.run("ls", "x.py", COCOINDEX_LOG_LEVEL="loud")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: COCOINDEX_LOG_LEVEL: unknown level 'loud'")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("updat", " Did you mean 'update'?"),
        ("main.py:App", " To run a program: cocoindex update main.py:App"),
        ("zzz", ""),
    ],
)
def test_a_misspelt_command_names_the_likeliest_one(here: Any, word: str, hint: str) -> None:
    done = here(word)
    assert done.returncode == 2
    assert done.stderr.endswith(f"Error: No such command '{word}'.{hint}\n")
