from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest

from cocoindex.connectors.localfs._names import normalize


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a", "a"),
        ("a//b", "a/b"),
        ("./a/./b/", "a/b"),
        (PurePosixPath("a/b"), "a/b"),
        (PureWindowsPath("a\\b"), "a/b"),
        ("a..b/...", "a..b/..."),
        ("a\\b", "a\\b"),
        ("con", "con"),
    ],
)
def test_names_are_normalised(name: str, expected: str) -> None:
    assert normalize(name, windows=False) == expected


@pytest.mark.parametrize(
    "name", ["", ".", "./", "/etc/x", "../x", "a/../b", "a/..", "a\0b", PurePosixPath("..")]
)
def test_names_that_lead_out_or_name_nothing_are_refused(name: str) -> None:
    with pytest.raises(ValueError) as caught:
        normalize(name, windows=False)
    assert repr(str(name)) in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["c:x", "C:/x", "a/con", "NUL.txt", "com1", "lpt9 .x", "a.", "a /b", "a?b", "..\\x", "\\x"],
)
def test_names_that_windows_cannot_have_are_refused_there(name: str) -> None:
    with pytest.raises(ValueError):
        normalize(name, windows=True)


def test_backslashes_separate_on_windows() -> None:
    assert normalize("a\\b", windows=True) == "a/b"
    assert normalize("console.txt", windows=True) == "console.txt"


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="must be a str or a path"):
        normalize(3)
