"""Names below a directory target: relative, normalised, and unable to lead out of it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import PurePath
from typing import Final

from cocoindex.errors import UsageTypeError, UsageValueError
from cocoindex.resources._hints import kind_of

__all__ = ["normalize", "parent_of", "unusable"]

_RESERVED: Final = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?")
_FORBIDDEN: Final = re.compile(r'[<>:"|?*\x00-\x1f]')


def normalize(name: str | PurePath, *, windows: bool = sys.platform == "win32") -> str:
    """``name`` as a POSIX path without empty parts and ``.``.

    Raises:
        ValueError: the name is absolute, climbs with ``..``, is empty, or the platform can't
            have a file of that name.
    """
    if isinstance(name, PurePath):
        text = name.as_posix()
    elif isinstance(name, str):
        text = name.replace("\\", "/") if windows else name
    else:
        raise UsageTypeError(f"a file name must be a str or a path, not {kind_of(name)}")
    if why := unusable(text):
        raise _refused(name, why)
    if windows and re.match("[A-Za-z]:", text):
        raise _refused(name, "has a drive letter")
    if text.startswith("/"):
        raise _refused(name, "is absolute; it must be relative to the directory target")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts:
        raise _refused(name, "names nothing")
    if ".." in parts:
        raise _refused(name, "leads out of the directory target with '..'")
    if windows:
        for part in parts:
            _check_windows(name, part)
    return "/".join(parts)


def unusable(text: str) -> str | None:
    """Why no path can have this text, if so."""
    if "\0" in text:
        return "contains a NUL character"
    try:
        os.fsencode(text)
    except UnicodeEncodeError as e:
        return f"contains {e.object[e.start]!r}, which the system can't encode"
    return None


def parent_of(path: str) -> str:
    """The POSIX path of the directory that holds ``path``; empty at the top."""
    return path.rpartition("/")[0]


def _check_windows(name: str | PurePath, part: str) -> None:
    if part[-1] in ". ":
        raise _refused(name, f"{part!r} ends with a dot or a space, which Windows drops")
    if _RESERVED.fullmatch(part):
        raise _refused(name, f"{part!r} is a reserved name on Windows")
    if found := _FORBIDDEN.search(part):
        raise _refused(name, f"{part!r} contains {found.group()!r}, which Windows forbids")


def _refused(name: str | PurePath, why: str) -> UsageValueError:
    return UsageValueError(f"file name {str(name)!r} {why}")
