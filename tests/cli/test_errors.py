"""How failures are shown."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from types import ModuleType

import pytest

from cocoindex.cli import errors
from cocoindex.cli.logs import log_level
from cocoindex.cli.summary import failure_lines
from cocoindex.engine.run import Failure
from cocoindex.errors import UsageValueError


@pytest.fixture
def user_module(tmp_path: Path) -> ModuleType:
    path = tmp_path / "main.py"
    path.write_text(
        "from cocoindex.core.keys import normalize_key\n"
        "def fails():\n"
        "    raise KeyError('mine')\n"
        "def misuses():\n"
        "    normalize_key(1.5)\n"
        "def passes_on(call):\n"
        "    call()\n"
    )
    spec = importlib.util.spec_from_file_location("main_of_errors", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def caught(call: object) -> BaseException:
    with pytest.raises(Exception) as info:
        call()  # type: ignore[operator]
    # The frames of this test are the user's too; the traceback of interest starts below.
    error = info.value
    return error.with_traceback(error.__traceback__.tb_next) if error.__traceback__ else error


def test_a_traceback_starts_at_the_users_frame(user_module: ModuleType) -> None:
    shown = errors.user_traceback(caught(user_module.fails))
    assert shown is not None
    assert shown.count("File ") == 1
    assert shown.endswith("raise KeyError('mine')\nKeyError: 'mine'")


def test_frames_of_the_package_are_left_out(user_module: ModuleType) -> None:
    shown = errors.user_traceback(caught(user_module.misuses))
    assert shown is not None
    assert "normalize_key(1.5)" in shown
    assert "keys.py" not in shown


def test_an_error_without_frames_of_the_user_has_no_traceback() -> None:
    from cocoindex.core.keys import normalize_key

    error = caught(lambda: normalize_key(1.5))
    error.__traceback__ = error.__traceback__.tb_next if error.__traceback__ else None
    assert errors.user_traceback(error) is None


def test_an_error_is_one_line_and_others_than_ours_name_their_type() -> None:
    assert errors.one_line(UsageValueError("a\n b")) == "a b"
    assert errors.one_line(OSError(2, "gone")) == "FileNotFoundError: [Errno 2] gone"
    assert errors.one_line(ValueError("at postgres://u:pw@h/d")) == (
        "ValueError: at postgres://u:***@h/d"
    )


def test_the_summary_names_the_first_ten_failed_components() -> None:
    first = [Failure(f"/{n}", "f", "ValueError: boom") for n in range(10)]
    lines = failure_lines(12, first)
    assert lines[0] == "12 component(s) failed; see the log above."
    assert lines[1] == "  /0: ValueError: boom"
    assert lines[10:] == ["  /9: ValueError: boom", "  … and 2 more"]


def test_the_log_level_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert log_level() == logging.WARNING
    monkeypatch.setenv("COCOINDEX_LOG_LEVEL", "debug")
    assert log_level() == logging.DEBUG
    monkeypatch.setenv("COCOINDEX_LOG_LEVEL", "loud")
    with pytest.raises(errors.CliError, match=r"COCOINDEX_LOG_LEVEL.*'loud'.*WARNING"):
        log_level()


def test_what_lies_between_the_users_call_and_our_error_is_left_out(
    user_module: ModuleType,
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from cocoindex.core.keys import normalize_key

    def on_a_thread() -> None:
        with ThreadPoolExecutor() as pool:
            pool.submit(normalize_key, 1.5).result()

    shown = errors.user_traceback(caught(lambda: user_module.passes_on(on_a_thread)))
    assert shown is not None
    assert "call()" in shown
    assert "concurrent" not in shown


def test_frames_of_a_library_stay_where_the_library_raised(user_module: ModuleType) -> None:
    import json

    shown = errors.user_traceback(caught(lambda: user_module.passes_on(lambda: json.loads("{"))))
    assert shown is not None
    assert "json" in shown


def test_a_cause_that_adds_no_word_is_left_out(user_module: ModuleType) -> None:
    def fail() -> None:
        raise UsageValueError("result of f(): no such thing") from UsageValueError("no such thing")

    shown = errors.user_traceback(caught(lambda: user_module.passes_on(fail)))
    assert shown is not None
    assert shown.endswith("UsageValueError: result of f(): no such thing")
    assert "direct cause" not in shown


def test_a_cause_that_says_more_is_shown(user_module: ModuleType) -> None:
    def fail() -> None:
        raise UsageValueError("can't write") from OSError("disk full")

    shown = errors.user_traceback(caught(lambda: user_module.passes_on(fail)))
    assert shown is not None
    assert "OSError: disk full" in shown


def test_a_log_line_does_not_say_an_error_twice() -> None:
    from cocoindex.cli.logs import _Formatter

    error = UsageValueError("out of range")
    record = logging.LogRecord(
        "x", logging.ERROR, "f", 1, "item failed: %s", (error,), (type(error), error, None)
    )
    assert _Formatter().format(record).endswith("ERROR x: item failed: out of range")


def test_a_log_line_is_followed_by_the_users_traceback(user_module: ModuleType) -> None:
    from cocoindex.cli.logs import _Formatter

    error = caught(user_module.fails)
    record = logging.LogRecord(
        "x", logging.ERROR, "f", 1, "failed: %s", (error,), (KeyError, error, error.__traceback__)
    )
    lines = _Formatter().format(record).splitlines()
    assert lines[0].endswith("failed: 'mine'")
    assert (lines[1], lines[-1]) == ("Traceback (most recent call last):", "KeyError: 'mine'")


def test_generated_methods_are_not_the_users(user_module: ModuleType) -> None:
    from dataclasses import make_dataclass

    def refuse(_: object) -> None:
        raise UsageValueError("no")

    checked = make_dataclass("checked", [("x", int)], namespace={"__post_init__": refuse})
    shown = errors.user_traceback(caught(lambda: user_module.passes_on(lambda: checked(1))))
    assert shown is not None
    assert "<string>" not in shown
