"""Stable keys: what names a component or a target state, and how a key becomes bytes.

Encoded keys compare, byte by byte, in the total order of keys (``None`` < Symbol < bool < int
< str < bytes < UUID < tuple < fingerprint), no encoded key is a prefix of another one, and
``True``, ``1`` and ``"1"`` stay apart. A concatenation of encoded keys is therefore an encoded
path: it sorts like the path, and a prefix scan below a path finds exactly its descendants.

Layout: one tag byte, then the payload. Text and bytes end with 00; a 00 or 01 inside them is
written 01 01 or 01 02. An int's tag says its sign and length. A tuple ends with a 00 tag.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, Union, cast, final
from uuid import UUID

from cocoindex.errors import DeserializationError, InvalidKeyError, UsageTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "AMBIGUOUS_IN_NAMES",
    "INT_MAX",
    "INT_MIN",
    "MAX_NESTING",
    "SCALAR_ENCODERS",
    "KeyFingerprint",
    "StableKey",
    "Symbol",
    "decode_key",
    "decode_path",
    "encode_key",
    "encode_path",
    "key_segment",
    "key_text",
    "normalize_and_encode",
    "normalize_key",
    "path_text",
]

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**64 - 1

MAX_NESTING: Final = 100
"""Levels of tuples inside a key; deeper is an error (also what a list within itself gives)."""


@final
class Symbol:
    """A key reserved for the engine and for libraries; never equal to a string from data."""

    __slots__ = ("name",)
    name: str

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise UsageTypeError(f"Symbol name must be a str, not {type(name).__name__}")
        object.__setattr__(self, "name", str.__str__(name))

    def __setattr__(self, attribute: str, value: object) -> NoReturn:
        raise AttributeError(f"Symbol is immutable: can't set {attribute!r}")

    def __eq__(self, other: object) -> bool:
        return self.name == other.name if isinstance(other, Symbol) else NotImplemented

    def __hash__(self) -> int:
        return hash((Symbol, self.name))

    def __repr__(self) -> str:
        return f"Symbol({self.name})"

    def __reduce__(self) -> tuple[type[Symbol], tuple[str]]:
        return Symbol, (self.name,)


@final
class KeyFingerprint:
    """A key known only by its 16-byte digest. Internal: sorts last, shown as ``#`` and hex."""

    __slots__ = ("digest",)
    digest: bytes

    def __init__(self, digest: bytes) -> None:
        if len(digest) != 16:
            raise InvalidKeyError(f"a key fingerprint has 16 bytes, not {len(digest)}")
        object.__setattr__(self, "digest", bytes(digest))

    def __setattr__(self, attribute: str, value: object) -> NoReturn:
        raise AttributeError(f"KeyFingerprint is immutable: can't set {attribute!r}")

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, KeyFingerprint) else NotImplemented

    def __hash__(self) -> int:
        return hash((KeyFingerprint, self.digest))

    def __repr__(self) -> str:
        return f"KeyFingerprint({self.digest.hex()})"

    def __reduce__(self) -> tuple[type[KeyFingerprint], tuple[bytes]]:
        return KeyFingerprint, (self.digest,)


if TYPE_CHECKING:
    StableKey: TypeAlias = bool | int | str | bytes | UUID | Symbol | tuple["StableKey", ...] | None
else:
    # At run time people subscript and evaluate the alias, so it must hold no forward reference.
    StableKey = Union[None, bool, int, str, bytes, UUID, Symbol, tuple[Any, ...]]  # noqa: UP007

_TUPLE_END: Final = 0x00
_NONE: Final = 0x02
_SYMBOL: Final = 0x03
_FALSE: Final = 0x04
_TRUE: Final = 0x05
_INT_ZERO: Final = 0x18  # ± the number of payload bytes
_STR: Final = 0x30
_BYTES: Final = 0x31
_UUID: Final = 0x32
_TUPLE: Final = 0x33
_FINGERPRINT: Final = 0x34
_WITH_TEXT: Final = frozenset((_STR, _BYTES, _SYMBOL))

_INT_TAGS: Final = tuple(bytes((_INT_ZERO + n,)) for n in range(-8, 9))  # index: 8 ± length
_pack_int: Final = struct.Struct(">Q").pack


# --- Normalizing -------------------------------------------------------------------------


def normalize_key(key: Any) -> StableKey:
    """``key`` in its one stored form: lists and NamedTuples become plain tuples.

    Raises:
        UsageTypeError: a type that can't be a key.
        InvalidKeyError: an int outside -2^63 … 2^64-1, or tuples nested too deeply.
    """
    if type(key) is str:
        return key
    return _normalize(key, key, 0)


def normalize_and_encode(key: Any) -> tuple[StableKey, bytes]:
    """``normalize_key(key)`` and ``encode_key(key)``; raises what they raise."""
    kind = type(key)
    encoder = SCALAR_ENCODERS.get(kind)
    if encoder is not None:
        return key, encoder(key)
    if kind is tuple:
        try:
            return key, _encode_flat(key)
        except KeyError:  # not flat
            pass
    return normalize_key(key), encode_key(key)


def _normalize(key: Any, whole: Any, depth: int) -> StableKey:
    kind = type(key)
    if kind is str or kind is bytes or key is None or kind is bool or kind is UUID:
        return cast("StableKey", key)
    if kind is Symbol or kind is KeyFingerprint:
        return cast("StableKey", key)
    if isinstance(key, (tuple, list)):
        return _normalize_tuple(key, whole, depth + 1)
    if isinstance(key, int):
        return _checked_int(int.__index__(key), whole)
    return _normalize_subclass(key, whole)


def _normalize_tuple(key: Iterable[Any], whole: Any, depth: int) -> StableKey:
    if depth > MAX_NESTING:
        raise _nested_too_deeply()
    return tuple([_normalize(item, whole, depth) for item in key])


def _nested_too_deeply() -> InvalidKeyError:
    return InvalidKeyError(f"stable key is nested deeper than {MAX_NESTING} levels")


def _checked_int(value: int, whole: Any) -> int:
    if INT_MIN <= value <= INT_MAX:
        return value
    raise InvalidKeyError(
        f"stable key {_shown(whole)}: int {_shown(value)} is outside -2^63 … 2^64-1; "
        "use a str for larger numbers"
    )


def _normalize_subclass(key: Any, whole: Any) -> StableKey:
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, bytes):
        return b"".join((key,))[:]
    if isinstance(key, UUID):
        return UUID(int=key.int)
    inside = "" if key is whole else f" in key {_shown(whole)}"
    raise UsageTypeError(
        f"Unsupported StableKey Python type: {type(key).__qualname__}{inside}. Only None, bool, "
        "int, str, bytes, uuid.UUID, Symbol, and tuples or lists of these are supported."
    )


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever a user's __repr__ raises, the message must come out
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 200 else f"{text[:200]}…"


# --- Encoding ----------------------------------------------------------------------------


def encode_key(key: Any) -> bytes:
    """The order-preserving, prefix-free, lossless encoding of ``key``.

    Accepts what :func:`normalize_key` accepts, and raises what it raises.
    """
    encoder = _ENCODERS.get(type(key))
    return encode_key(normalize_key(key)) if encoder is None else encoder(key)


def encode_path(keys: Iterable[Any]) -> bytes:
    """The encoded keys one after the other; ``b""`` for the root."""
    return b"".join([encode_key(key) for key in keys])


def _escape(raw: bytes) -> bytes:
    if b"\0" in raw or b"\x01" in raw:
        raw = raw.replace(b"\x01", b"\x01\x02").replace(b"\0", b"\x01\x01")
    return raw + b"\0"


def _encode_str(text: str) -> bytes:
    if "\0" not in text and "\x01" not in text:
        try:
            return f"0{text}\0".encode()
        except UnicodeEncodeError:  # lone surrogates, e.g. from os.fsdecode
            pass
    return b"0" + _escape(text.encode("utf-8", "surrogatepass"))


def _encode_int(value: int) -> bytes:
    try:
        payload = _pack_int(value).lstrip(b"\0")
    except struct.error:  # it is negative, or too large
        return _encode_negative(value)
    return _INT_TAGS[8 + len(payload)] + payload


def _encode_negative(value: int) -> bytes:
    _checked_int(value, value)
    size = ((-value).bit_length() + 7) >> 3
    return _INT_TAGS[8 - size] + (value + (1 << (8 * size)) - 1).to_bytes(size, "big")


def _encode_tuple(key: tuple[Any, ...]) -> bytes:
    try:
        return _encode_flat(key)
    except KeyError:
        pass
    try:
        return _encode_nested(key, 1)
    except (UsageTypeError, InvalidKeyError):
        normalize_key(key)  # raises the same error, naming the whole key
        raise


def _encode_flat(key: tuple[Any, ...]) -> bytes:
    """A tuple of scalars, such as the key of a row. Raises ``KeyError`` for another one."""
    try:
        if len(key) == 1:
            return b"3%b\0" % SCALAR_ENCODERS[type(key[0])](key[0])
        return b"3%b\0" % b"".join([SCALAR_ENCODERS[type(part)](part) for part in key])
    except InvalidKeyError:
        normalize_key(key)  # raises the same error, naming the whole key
        raise


def _encode_nested(key: Iterable[Any], depth: int) -> bytes:
    if depth > MAX_NESTING:
        raise _nested_too_deeply()
    parts = [
        _encode_nested(item, depth + 1) if isinstance(item, (tuple, list)) else encode_key(item)
        for item in key
    ]
    return b"3" + b"".join(parts) + b"\0"


SCALAR_ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    str: _encode_str,
    int: _encode_int,
    bytes: lambda key: b"1" + _escape(key),
    bool: lambda key: b"\x05" if key else b"\x04",
    UUID: lambda key: b"2" + key.bytes,
    Symbol: lambda key: b"\x03" + _escape(key.name.encode("utf-8", "surrogatepass")),
    type(None): lambda _: b"\x02",
}
"""Encoders of keys that are stored as they are, by type. What is wrong with an int, they find."""

_ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    **SCALAR_ENCODERS,
    tuple: _encode_tuple,
    KeyFingerprint: lambda key: b"4" + key.digest,
}


# --- Decoding ----------------------------------------------------------------------------


def decode_key(data: bytes) -> StableKey:
    """The key that :func:`encode_key` made ``data`` from.

    Raises:
        DeserializationError: ``data`` is not exactly one encoded key.
    """
    size = len(data)
    if 0 < size <= 9 and data[0] == _INT_ZERO - 1 + size:  # an int that is not negative
        return int.from_bytes(data[1:], "big")
    if data[:1] == b"0" and b"\x01" not in data and data.find(b"\0") == size - 1:
        return _text(data[1:-1])
    key, end = _decode_at(data, 0)
    if end != len(data):
        raise _damaged(data)
    return key


def decode_path(data: bytes) -> tuple[StableKey, ...]:
    """The keys that :func:`encode_path` made ``data`` from; raises like :func:`decode_key`."""
    keys: list[StableKey] = []
    at = 0
    while at < len(data):
        key, at = _decode_at(data, at)
        keys.append(key)
    return tuple(keys)


def _decode_at(data: bytes, at: int, depth: int = 0) -> tuple[StableKey, int]:
    if at >= len(data) or depth > MAX_NESTING:
        raise _damaged(data)
    tag = data[at]
    at += 1
    if tag in _WITH_TEXT:
        raw, at = _unescape(data, at)
        return (raw if tag == _BYTES else _text(raw) if tag == _STR else Symbol(_text(raw))), at
    if _INT_ZERO - 8 <= tag <= _INT_ZERO + 8:
        return _decode_int(data, at, tag - _INT_ZERO)
    if tag == _TUPLE:
        return _decode_tuple(data, at, depth)
    if tag == _UUID:
        return UUID(bytes=_take(data, at, 16)), at + 16
    if tag == _FINGERPRINT:
        return cast("StableKey", KeyFingerprint(_take(data, at, 16))), at + 16
    try:
        return _CONSTANTS[tag], at
    except KeyError:
        raise _damaged(data) from None


_CONSTANTS: Final[dict[int, StableKey]] = {_NONE: None, _FALSE: False, _TRUE: True}


def _decode_tuple(data: bytes, at: int, depth: int) -> tuple[tuple[StableKey, ...], int]:
    items: list[StableKey] = []
    while data[at : at + 1] != b"\0":
        item, at = _decode_at(data, at, depth + 1)
        items.append(item)
    return tuple(items), at + 1


def _decode_int(data: bytes, at: int, signed_size: int) -> tuple[int, int]:
    size = abs(signed_size)
    value = int.from_bytes(_take(data, at, size), "big")
    if signed_size < 0:
        value -= (1 << (8 * size)) - 1
    return value, at + size


def _unescape(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\0", at)
    if end < 0:
        raise _damaged(data)
    raw = data[at:end]
    if b"\x01" in raw:
        raw = raw.replace(b"\x01\x01", b"\0").replace(b"\x01\x02", b"\x01")
    return raw, end + 1


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise _damaged(data)
    return data[at : at + size]


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _text_with_surrogates(raw)


def _text_with_surrogates(raw: bytes) -> str:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise _damaged(raw) from None


def _damaged(data: bytes) -> DeserializationError:
    shown = data[:40].hex() + ("…" if len(data) > 40 else "")
    return DeserializationError(f"not an encoded stable key: {shown or 'no bytes'}")


_pack_short: Final = struct.Struct("16p").pack
"""One byte of size, then up to 15 bytes of a key, then zeros."""


def key_segment(encoded: bytes) -> bytes:
    """16 bytes that stand for an encoded key: the key itself if it is short, else a digest.

    A segment whose first byte is not FF holds the whole key.
    """
    if len(encoded) <= 15:
        return _pack_short(encoded)
    return b"\xff" + blake2b(encoded, digest_size=15).digest()


# --- Text --------------------------------------------------------------------------------

_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

AMBIGUOUS_IN_NAMES: Final = frozenset('",[]\\')
"""Characters because of which the name of a symbol is shown in quotes."""


def key_text(key: StableKey | KeyFingerprint) -> str:
    """How a key is shown: ``"a"``, ``1``, ``b"x"``, ``null``, ``true``, ``@s``, ``["t",2]``."""
    if isinstance(key, str):
        return _quoted(key)
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, bytes):
        return _quoted_bytes(key)
    if isinstance(key, tuple):
        return f"[{','.join([key_text(item) for item in key])}]"
    if isinstance(key, Symbol):
        return f"@{_name_text(key.name)}"
    return f"#{key.digest.hex()}" if isinstance(key, KeyFingerprint) else str(key)


def path_text(keys: Iterable[StableKey]) -> str:
    """How a path is shown: ``/`` for the root, else every key after a ``/``."""
    return "".join([f"/{key_text(key)}" for key in keys]) or "/"


def _quoted(text: str) -> str:
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return f'"{"".join([_escaped_char(char) for char in text])}"'


def _escaped_char(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    return char if char.isprintable() else f"\\u{{{ord(char):x}}}"


def _quoted_bytes(data: bytes) -> str:
    return f'b"{"".join([_escaped_byte(byte) for byte in data])}"'


def _escaped_byte(byte: int) -> str:
    char = chr(byte)
    return _ESCAPES.get(char) or (char if 0x20 <= byte < 0x7F else f"\\x{byte:02x}")


def _name_text(name: str) -> str:
    # A name with one of these characters would not be told apart from the rest of a path.
    plain = name.isprintable() and AMBIGUOUS_IN_NAMES.isdisjoint(name) and all(name.split("/"))
    return name if plain else _quoted(name)
