"""Keeps passwords out of everything the command line prints."""

from __future__ import annotations

import re
from functools import cache

MASK = "***"

_NAME = (
    r"[\w\-]*(?:password|passwd|pwd|secret|api_?key|access_?key|auth_?token|access_?token"
    r"|private_?key|credentials?)"
)
_QUOTED = r"b?'[^']*'|b?\"[^\"]*\""


# Compiled when needed: most of what is printed has neither a URL nor a named value in it.


@cache
def _url_password() -> re.Pattern[str]:
    return re.compile(
        r"(?P<head>\b[a-z][a-z0-9+.\-]*://[^\s:/@'\"]*:)[^\s'\"]+(?=@)", re.IGNORECASE
    )


@cache
def _named() -> re.Pattern[str]:
    return re.compile(
        rf"(?P<head>\b{_NAME}['\"]?\s*[=:]\s*)(?P<value>{_QUOTED}|[^\s,;&)\]}}'\"]+)",
        re.IGNORECASE,
    )


def _masked(match: re.Match[str]) -> str:
    value = match["value"]
    quote = value[-1] if value[-1] in "'\"" else ""
    return f"{match['head']}{quote}{MASK}{quote}"


def redact(text: str) -> str:
    """``text`` with passwords in URLs, and values of fields named like secrets, masked."""
    if "://" in text:
        text = _url_password().sub(rf"\g<head>{MASK}", text)
    return _named().sub(_masked, text) if "=" in text or ":" in text else text
