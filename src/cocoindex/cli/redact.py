"""Keeps passwords out of everything the command line prints."""

from __future__ import annotations

import re

MASK = "***"

_URL_PASSWORD = re.compile(
    r"(?P<head>\b[a-z][a-z0-9+.\-]*://[^\s:/@'\"]*:)[^\s'\"]+(?=@)", re.IGNORECASE
)
_NAME = (
    r"[\w\-]*(?:password|passwd|pwd|secret|api_?key|access_?key|auth_?token|access_?token"
    r"|private_?key|credentials?)"
)
_QUOTED = r"b?'[^']*'|b?\"[^\"]*\""
_NAMED = re.compile(
    rf"(?P<head>\b{_NAME}['\"]?\s*[=:]\s*)(?P<value>{_QUOTED}|[^\s,;&)\]}}'\"]+)", re.IGNORECASE
)


def _masked(match: re.Match[str]) -> str:
    value = match["value"]
    quote = value[-1] if value[-1] in "'\"" else ""
    return f"{match['head']}{quote}{MASK}{quote}"


def redact(text: str) -> str:
    """``text`` with passwords in URLs, and values of fields named like secrets, masked."""
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\g<head>{MASK}", text)
    return _NAMED.sub(_masked, text)
