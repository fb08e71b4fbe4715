"""Loading the user's program."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cocoindex.errors import CocoIndexError
from cocoindex.user_app_loader import Error, load_user_app


@pytest.fixture(autouse=True)
def _modules_as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = dict(sys.modules)
    yield
    ours = {name: sys.modules[name] for name in sys.modules if name.startswith("cocoindex.")}
    sys.modules.clear()
    sys.modules.update(before | ours)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_is_loaded_under_its_stem_without_its_main_block(tmp_path: Path) -> None:
    path = write(
        tmp_path / "sub" / "prog_a.py",
        "import beside_a\nname = __name__\nif __name__ == '__main__':\n    raise SystemExit(1)\n",
    )
    write(tmp_path / "sub" / "beside_a.py", "")
    module = load_user_app(str(path))
    assert module.name == "prog_a"
    assert sys.modules["prog_a"] is module


def test_a_missing_file_is_named() -> None:
    with pytest.raises(Error, match=r"^Application file path not found: \./x\.py$"):
        load_user_app("./x.py")
    assert issubclass(Error, CocoIndexError)


def test_a_file_in_a_package_may_use_relative_imports(tmp_path: Path) -> None:
    write(tmp_path / "in" / "outer_b" / "__init__.py", "")
    write(tmp_path / "in" / "outer_b" / "inner" / "__init__.py", "")
    write(tmp_path / "in" / "outer_b" / "common.py", "value = 7\n")
    path = write(tmp_path / "in" / "outer_b" / "inner" / "prog.py", "from ..common import value\n")
    module = load_user_app(str(path))
    assert (module.__name__, module.value) == ("outer_b.inner.prog", 7)


def test_a_module_is_imported_by_name(tmp_path: Path) -> None:
    write(tmp_path / "pkg_c" / "__init__.py", "")
    write(tmp_path / "pkg_c" / "prog.py", "x = 1\n")
    assert load_user_app("pkg_c.prog").x == 1


def test_in_a_package_folder_the_file_beside_wins_over_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "pkg_d" / "__init__.py", "")
    write(tmp_path / "pkg_d" / "json.py", "x = 'ours'\n")
    monkeypatch.chdir(tmp_path / "pkg_d")
    assert load_user_app("json").x == "ours"


def test_what_the_users_code_raised_is_the_cause(tmp_path: Path) -> None:
    path = write(tmp_path / "prog_e.py", "1 / 0\n")
    with pytest.raises(Error, match=r"Failed to load APP_TARGET '.*': ZeroDivisionError") as info:
        load_user_app(str(path))
    assert isinstance(info.value.__cause__, ZeroDivisionError)
    assert "prog_e" not in sys.modules


def test_an_unknown_module_is_named() -> None:
    with pytest.raises(Error, match="Failed to load APP_TARGET 'no_such_f': No module named"):
        load_user_app("no_such_f")


def test_loading_again_gives_a_fresh_module_and_a_failure_keeps_the_old_one(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "prog_g.py", "x = 1\n")
    first = load_user_app(str(path))
    path.write_text("x = 22\n")
    second = load_user_app(str(path))
    assert (first.x, second.x) == (1, 22)
    path.write_text("raise ValueError\n")
    with pytest.raises(Error):
        load_user_app(str(path))
    assert sys.modules["prog_g"] is second
