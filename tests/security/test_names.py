"""File names that try to lead out of a directory target: §B3, §C-FS4."""

from __future__ import annotations

import contextlib

import pytest

REFUSED = {
    "climbs": "../victim/a.txt",
    "climbs later": "x/../../victim/a.txt",
    "climbs and returns": "x/../y",
    "climbs at the end": "x/..",
    "only climbs": "..",
    "climbs behind dots": "./.././victim/a.txt",
    "absolute": "/etc/passwd",
    "absolute twice": "//victim/a.txt",
    "empty": "",
    "dot": ".",
    "slashes": "///",
    "dots and slashes": "./././",
    "NUL at the end": "a.txt\0",
    "NUL inside": "a\0.txt",
    "NUL and a climb": "\0/../../victim/a.txt",
}

# Strange, but plain names on POSIX: they must stay below the target, as they are.
TAKEN = {
    "backslash climb": "..\\victim\\a.txt",
    "three dots": ".../a",
    "dots in a name": "..a",
    "space before dots": " ../a",
    "fullwidth dots": "\uff0e\uff0e/a",
    "one dot leader": "\u2024\u2024/a",
    "division slash": "..\u2215victim\u2215a.txt",
    "fraction slash": "..\u2044victim",
    "fullwidth slash": "..\uff0fvictim",
    "right-to-left override": "\u202etxt.exe",
    "zero width space": ".\u200b./a",
    "percent": "%2e%2e/%2fetc",
    "home": "~/a",
    "variable": "$HOME/a",
    "newline": "a\nb",
    "dash": "-rf",
    "drive letter": "C:/windows",
    "reserved": "CON",
    "trailing dot": "a.",
    "control": "\x01\x1b[31m",
    "combining": "e\u0301",
    "composed": "\u00e9",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED.keys())
async def test_a_name_that_leads_elsewhere_is_refused_and_named(sandbox, name):
    with pytest.raises(ValueError) as refused:
        await sandbox.declare({"good": "x", name: "evil"})
    assert repr(name) in str(refused.value)
    assert sandbox.inside() == {}


async def test_strange_names_stay_below_the_target(sandbox):
    files = {name: f"content of {what}" for what, name in TAKEN.items()}
    await sandbox.declare(files)
    assert sandbox.inside() == files
    await sandbox.declare({})
    assert sandbox.inside() == {}
    assert sorted(p.name for p in sandbox.home.iterdir()) == [
        "source", "store", "target", "victim"
    ]  # fmt: skip


async def test_names_that_only_normalise_to_one_path_are_one_key(sandbox):
    with pytest.raises(ValueError, match="already declared"):
        await sandbox.declare({"a/b": "1", "a//./b": "2"})


async def test_a_name_longer_than_the_file_system_takes_is_an_error_that_spares_the_others(sandbox):
    with pytest.raises(OSError) as failed:
        await sandbox.declare({"good": "x", "n" * 300: "y"})
    assert "too long" in str(failed.value)
    assert str(sandbox.target) in str(failed.value)
    await sandbox.declare({"good": "x"})
    assert sandbox.inside() == {"good": "x"}


async def test_a_path_longer_than_the_system_takes_works_or_fails_with_its_name(sandbox):
    deep = "/".join(["d" * 200] * 20) + "/leaf"
    with contextlib.suppress(OSError):
        await sandbox.declare({deep: "x"})
    with pytest.raises(ValueError, match=r"Limits\.key_bytes"):
        await sandbox.declare({f"{deep}/{deep}": "x"})
    await sandbox.declare({"good": "x"})
    assert sandbox.inside() == {"good": "x"}


async def test_text_with_lone_surrogates_is_a_file_name_of_raw_bytes(sandbox):
    name = b"raw\xff\xfe".decode("utf-8", "surrogateescape")
    await sandbox.declare({name: "x"})
    assert sandbox.inside() == {name: "x"}
    await sandbox.declare({})
    assert sandbox.inside() == {}


async def test_a_lone_surrogate_that_is_no_file_name_is_an_error_that_names_it(sandbox):
    with pytest.raises((ValueError, OSError)) as failed:
        await sandbox.declare({"bad\ud800": "x"})
    assert "ud800" in str(failed.value)
    await sandbox.declare({"good": "x"})
    assert sandbox.inside() == {"good": "x"}
