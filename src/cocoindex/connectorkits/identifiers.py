"""Names that end up inside statements: validated, quoted, and never longer than allowed."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

from cocoindex.errors import UsageTypeError, UsageValueError

__all__ = ["check", "derived", "quote"]

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_NEVER: Final = ("\0", '"', "`", "[", "]", "'", "\\")
_HASH_CHARS: Final = 8


def check(name: str, kind: str, *, quoted: bool = False, max_bytes: int | None = None) -> str:
    """Return ``name`` if it may be used as an identifier.

    Args:
        name: the name.
        kind: what it names, for the error (``"table name"``).
        quoted: allow any name without NUL and quote characters, instead of letters, digits and
            underscores only.
        max_bytes: longest name that the system takes, in UTF-8 bytes.

    Raises:
        ValueError: the name is not acceptable.
    """
    if not isinstance(name, str):
        raise UsageTypeError(f"Invalid {kind}: expected a str, not {type(name).__name__}")
    if not (_is_quotable(name) if quoted else _PLAIN.match(name)):
        hint = "" if quoted else "; quoted=True allows other names"
        raise UsageValueError(f"Invalid {kind}: {name!r}{hint}")
    if max_bytes is not None and len(name.encode()) > max_bytes:
        raise UsageValueError(
            f"Invalid {kind}: {name!r} has {len(name.encode())} bytes; {max_bytes} are possible"
        )
    return name


def _is_quotable(name: str) -> bool:
    if not name or any(char in name for char in _NEVER):
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def derived(*parts: str, max_bytes: int | None = None) -> str:
    """A generated name: ``parts`` joined by ``__``; too long ones end in a hash instead.

    The same parts always give the same name, and different long names stay different.
    """
    name = "__".join(parts)
    encoded = name.encode()
    if max_bytes is None or len(encoded) <= max_bytes:
        return name
    digest = blake2b(encoded, digest_size=_HASH_CHARS // 2).hexdigest()
    kept = encoded[: max_bytes - _HASH_CHARS - 1].decode(errors="ignore")
    return f"{kept}_{digest}"


def quote(name: str) -> str:
    """``name`` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
