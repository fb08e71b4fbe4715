"""Stable paths: where a component sits, as a value, as text, and back from text."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn, final
from uuid import UUID

from cocoindex.core.keys import (
    AMBIGUOUS_IN_NAMES,
    INT_MAX,
    INT_MIN,
    KeyFingerprint,
    StableKey,
    Symbol,
    decode_path,
    encode_key,
    encode_path,
    normalize_key,
    path_text,
)
from cocoindex.errors import InvalidKeyError, UsageValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["ROOT_PATH", "StablePath", "parse_path", "parse_path_candidates", "resolve_path"]


@final
class StablePath:
    """An immutable sequence of stable keys; the empty one is the root.

    Paths are equal if their keys are, with their types (``1`` is not ``True``), and sort in the
    order of keys. ``str(path)`` is the text form, such as ``/"files"/"a.txt"/1``.
    """

    __slots__ = ("_encoded", "_keys")
    _encoded: bytes
    _keys: tuple[StableKey, ...]

    def __init__(self, core_path: StablePath | Iterable[Any] | None = None) -> None:
        """``core_path``: what inspection yields as ``.path``, or keys; nothing for the root."""
        if core_path is None:
            keys: tuple[StableKey, ...] = ()
        elif isinstance(core_path, StablePath):
            keys = tuple(core_path.parts())
        elif isinstance(core_path, (str, bytes)):
            raise UsageValueError(
                f"StablePath takes keys, not text: {core_path!r}. Write ROOT_PATH / key."
            )
        else:
            keys = tuple([normalize_key(key) for key in core_path])
        _set(self, keys, encode_path(keys))

    @classmethod
    def from_encoded(cls, encoded: bytes) -> StablePath:
        """The path of an encoded path (see ``encode_path``)."""
        path = object.__new__(cls)
        _set(path, decode_path(encoded), encoded)
        return path

    @property
    def encoded(self) -> bytes:
        """The keys in their order-preserving encoding, one after the other."""
        return self._encoded

    def concat_part(self, key: StableKey) -> StablePath:
        """The path of the child ``key``. Raises as ``normalize_key`` does."""
        normal = normalize_key(key)
        path = object.__new__(StablePath)
        _set(path, (*self._keys, normal), self._encoded + encode_key(normal))
        return path

    def __truediv__(self, key: StableKey) -> StablePath:
        return self.concat_part(key)

    def parts(self) -> list[StableKey]:
        """The keys from the root down."""
        return list(self._keys)

    def __setattr__(self, attribute: str, value: object) -> NoReturn:
        raise AttributeError(f"StablePath is immutable: can't set {attribute!r}")

    def __str__(self) -> str:
        return path_text(self._keys)

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return self._encoded == other._encoded if isinstance(other, StablePath) else NotImplemented

    def __hash__(self) -> int:
        return hash((StablePath, self._encoded))

    def __lt__(self, other: object) -> bool:
        return self._encoded < other._encoded if isinstance(other, StablePath) else NotImplemented

    def __le__(self, other: object) -> bool:
        return self._encoded <= other._encoded if isinstance(other, StablePath) else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self._encoded > other._encoded if isinstance(other, StablePath) else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self._encoded >= other._encoded if isinstance(other, StablePath) else NotImplemented

    def __reduce__(self) -> tuple[Callable[[bytes], StablePath], tuple[bytes]]:
        return StablePath.from_encoded, (self._encoded,)

    def __coco_memo_key__(self) -> str:
        return str(self)


def _set(path: StablePath, keys: tuple[StableKey, ...], encoded: bytes) -> None:
    object.__setattr__(path, "_keys", keys)
    object.__setattr__(path, "_encoded", encoded)


ROOT_PATH: Final = StablePath()


# --- From text ---------------------------------------------------------------------------
#
# The shown form is ambiguous in one place only: the name of a symbol may contain slashes. Bare
# words (/files/a.txt) add a second one: the word 1 may be the string "1" or the number. Reading
# is therefore a walk over alternatives: at each position, every key that may start there and
# the position where it ends.

_Option = tuple[StableKey, int]

MAX_CANDIDATES: Final = 4096


def parse_path(text: str) -> tuple[StableKey, ...]:
    """The path whose text form is ``text``; words that are no other key are strings.

    Where the name of a symbol contains slashes it reaches as far as the following parts are
    not themselves in the text form of a key.

    Raises:
        UsageValueError: ``text`` is not a path.
    """
    return next(_walk(text, _typed_first, lambda _: True))


def parse_path_candidates(text: str) -> list[tuple[StableKey, ...]]:
    """Every path that ``text`` may mean, the likeliest first; at most ``MAX_CANDIDATES``.

    A bare word is a string first, then whatever else it may be; ``resolve_path`` finds the one
    that exists without building them all. Raises as :func:`parse_path` does.
    """
    return list(islice(_walk(text, _string_first, lambda _: True), MAX_CANDIDATES))


def resolve_path(
    text: str, exists: Callable[[tuple[StableKey, ...]], bool]
) -> tuple[StableKey, ...] | None:
    """The first candidate for ``text`` of which every prefix ``exists``, or ``None``.

    Raises as :func:`parse_path` does.
    """
    return next(_walk(text, _string_first, exists), None)


def _walk(
    text: str,
    options_at: Callable[[str, int], list[_Option]],
    accepts: Callable[[tuple[StableKey, ...]], bool],
) -> Iterator[tuple[StableKey, ...]]:
    body = text.removeprefix("/").removesuffix("/")
    if not body:
        yield ()
        return
    # An explicit stack: a path may have more parts than Python has frames.
    stack: list[tuple[tuple[StableKey, ...], int]] = [((), 0)]
    while stack:
        keys, at = stack.pop()
        if at > len(body):
            yield keys
            continue
        grown = [((*keys, key), end + 1) for key, end in options_at(body, at)]
        stack.extend(entry for entry in reversed(grown) if accepts(entry[0]))


def _word_end(text: str, at: int) -> int:
    slash = text.find("/", at)
    return len(text) if slash < 0 else slash


def _typed_first(text: str, at: int) -> list[_Option]:
    if text.startswith("@", at) and not text.startswith('@"', at):
        return _symbols(text, at)[:1] or [_bare(text, at)]
    typed = _typed(text, at)
    return typed[:1] or [_bare(text, at)]


def _string_first(text: str, at: int) -> list[_Option]:
    if text.startswith("@", at) and not text.startswith('@"', at):
        return [_bare(text, at), *_symbols(text, at)]
    typed = _typed(text, at)
    if typed and text.startswith(('"', 'b"', "[", '@"'), at):
        return typed  # in the shown form, not a bare word
    return [_bare(text, at), *typed]


def _bare(text: str, at: int) -> _Option:
    end = _word_end(text, at)
    if end == at:
        raise UsageValueError(f'path {text!r} has an empty part; an empty string key is written ""')
    return text[at:end], end


def _typed(text: str, at: int) -> list[_Option]:
    """The key in text form that starts here and reaches to the end of a part, if there is one."""
    found = _read_key(text, at, "/")
    return [found] if found and _word_end(text, found[1]) == found[1] else []


def _symbols(text: str, at: int) -> list[_Option]:
    """Symbols that may start here, one per part the name may reach to; the likeliest first."""
    ends = [_word_end(text, at)]
    likely = 0
    while (part := _bare_part(text, ends[-1] + 1)) is not None:
        if likely == len(ends) - 1 and not _in_text_form(text, part[0]):
            likely += 1
        ends.append(part[1])
    ends.insert(0, ends.pop(likely))
    return [(Symbol(text[at + 1 : end]), end) for end in ends if end > at + 1]


def _bare_part(text: str, at: int) -> tuple[int, int] | None:
    """Start and end of the part at ``at``, if it can belong to the name of a symbol."""
    end = _word_end(text, at)
    fits = at < end and AMBIGUOUS_IN_NAMES.isdisjoint(text[at:end])
    return (at, end) if fits else None


def _in_text_form(text: str, at: int) -> bool:
    return text.startswith("@", at) or bool(_typed(text, at))


# --- One key ----------------------------------------------------------------------------

_STRING_RE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE_RE: Final = re.compile(r"\\(?:u\{([0-9A-Fa-f]{1,6})\}|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_PLAIN_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"} | {c: c for c in "\"'\\"}
_WORD_RES: Final = {end: re.compile(rf"[^{re.escape(end)}]+") for end in ("/", ",]")}
_INT_RE: Final = re.compile(r"0|-?[1-9][0-9]{0,19}")
_UUID_RE: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DIGEST_RE: Final = re.compile(r"#([0-9a-f]{32})")
_WORDS: Final[dict[str, StableKey]] = {"null": None, "true": True, "false": False}


def _read_key(text: str, at: int, ends: str) -> _Option | None:
    """The key in text form at ``at`` and where it stops; ``ends``: what ends a word."""
    try:
        if text.startswith('"', at):
            return _read_string(text, at)
        if text.startswith('b"', at):
            quoted, end = _read_string(text, at + 1)
            return quoted.encode("latin-1"), end
        if text.startswith('@"', at):
            name, end = _read_string(text, at + 1)
            return Symbol(name), end
        if text.startswith("[", at):
            return _read_tuple(text, at)
    except (ValueError, RecursionError):
        return None
    word = _WORD_RES[ends].match(text, at)
    return _read_word(word.group(), word.end()) if word else None


def _read_string(text: str, at: int) -> tuple[str, int]:
    match = _STRING_RE.match(text, at)
    if match is None:
        raise InvalidKeyError("a quote is not closed")
    return _ESCAPE_RE.sub(_unescaped, match.group(1)), match.end()


def _unescaped(match: re.Match[str]) -> str:
    code = match.group(1) or match.group(2)
    if code:
        return chr(int(code, 16))
    try:
        return _PLAIN_ESCAPES[match.group(3)]
    except KeyError:
        raise InvalidKeyError(f"unknown escape {match.group()}") from None


def _read_tuple(text: str, at: int) -> _Option | None:
    items: list[StableKey] = []
    at += 1
    if text.startswith("]", at):
        return (), at + 1
    while True:
        item = _read_key(text, at, ",]")
        if item is None:
            return None
        items.append(item[0])
        at = item[1] + 1
        if text.startswith("]", item[1]):
            return tuple(items), at
        if not text.startswith(",", item[1]):
            return None


def _read_word(word: str, end: int) -> _Option | None:
    if word in _WORDS:
        return _WORDS[word], end
    if _INT_RE.fullmatch(word):
        number = int(word)
        return (number, end) if INT_MIN <= number <= INT_MAX else None
    if _UUID_RE.fullmatch(word):
        return UUID(word), end
    if digest := _DIGEST_RE.fullmatch(word):
        return KeyFingerprint(bytes.fromhex(digest.group(1))), end  # type: ignore[return-value]
    return (Symbol(word[1:]), end) if word.startswith("@") and len(word) > 1 else None
