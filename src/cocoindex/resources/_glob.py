"""Globs as regular expressions.

A glob is parsed once into a short sequence of tokens. From the tokens come two regular
expressions: one that matches whole paths, and one that matches a directory (with a trailing
``/``) if something below it could still match. ``*`` crosses ``/`` here, so glob libraries,
whose ``*`` stops there, don't fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Final, NamedTuple

from cocoindex.errors import UsageValueError

__all__ = ["Glob", "any_of"]

_MAX_LENGTH: Final = 4096
_MAX_NESTING: Final = 32
_MAX_COMPONENTS: Final = 128
_MAX_ALTERNATIVES: Final = 1000


class _Wild(Enum):
    """Tokens of open length; the value is the regular expression."""

    STAR = ".*"
    LEADING = "(?:.*/)?"  # **/ at the start
    MIDDLE = "/(?:.*/)?"  # /**/
    TRAILING = "/.+"  # /** at the end


class _Literal(NamedTuple):
    text: str


class _One(NamedTuple):
    """``?`` or a class: exactly one character."""

    regex: str


class _Choice(NamedTuple):
    branches: tuple[tuple[_Token, ...], ...]


_Token = _Wild | _Literal | _One | _Choice
_Tokens = Sequence[_Token]


class Glob:
    """One parsed pattern.

    Raises:
        ValueError: the pattern is malformed; the message names it and the fault.
    """

    __slots__ = ("_tokens", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._tokens = _Parser(pattern).parse()

    @property
    def full(self) -> str:
        """Regular expression for the paths that match."""
        return _full(self._tokens)

    @property
    def below(self) -> str:
        """Regular expression for ``dir + "/"`` where something below ``dir`` could match."""
        return _prefix(self._tokens)

    @property
    def below_anchored(self) -> str | None:
        """As :attr:`below`, but leading wildcards alone prove nothing; None if no directory.

        ``**/.github/**`` could match below any directory whatsoever. A negated pattern must
        not reopen all of them, only those where its first fixed part has been met.
        """
        branches = _anchored(self._tokens, "", [_MAX_ALTERNATIVES], self.pattern)
        return "|".join(branches) if branches else None


def any_of(regexes: Iterable[str]) -> re.Pattern[str]:
    """Compile one regular expression for all of ``regexes``; use it with ``fullmatch``."""
    return re.compile("|".join(f"(?:{r})" for r in regexes) or r"(?!)", re.DOTALL)


class _Parser:
    """Recursive descent over the pattern text."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        if len(pattern) > _MAX_LENGTH:
            raise self._fault(f"longer than {_MAX_LENGTH} characters")
        if pattern.count("/") >= _MAX_COMPONENTS:
            raise self._fault(f"more than {_MAX_COMPONENTS} components")

    def parse(self) -> tuple[_Token, ...]:
        tokens = self._sequence(0)
        if self._at < len(self._text):
            raise self._fault("'}' without '{'")
        return tokens

    def _fault(self, what: str) -> UsageValueError:
        return UsageValueError(f"invalid glob pattern {self._text!r}: {what}")

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else ""

    def _sequence(self, nesting: int) -> tuple[_Token, ...]:
        """Tokens up to the end of the pattern or of the innermost alternative."""
        tokens: list[_Token] = []
        while (char := self._peek()) and char != "}" and not (char == "," and nesting):
            if char == "*":
                self._stars(tokens, nesting)
                continue
            self._at += 1
            if char == "?":
                tokens.append(_One("."))
            elif char == "[":
                tokens.append(self._character_class())
            elif char == "{":
                tokens.append(self._choice(nesting + 1))
            else:
                _append_literal(tokens, self._escaped() if char == "\\" else char)
        return tuple(tokens)

    def _escaped(self) -> str:
        char = self._peek()
        if not char:
            raise self._fault("'\\' at the end escapes nothing")
        self._at += 1
        return char

    def _choice(self, nesting: int) -> _Choice:
        if nesting > _MAX_NESTING:
            raise self._fault(f"braces nested deeper than {_MAX_NESTING}")
        branches = [self._sequence(nesting)]
        while self._peek() == ",":
            self._at += 1
            branches.append(self._sequence(nesting))
        if not self._peek():
            raise self._fault("'{' is never closed")
        self._at += 1
        return _Choice(tuple(branches))

    def _stars(self, tokens: list[_Token], nesting: int) -> None:
        start = self._at
        while self._peek() == "*":
            self._at += 1
        after = self._peek()
        ends = not after or after == "}" or (after == "," and nesting > 0)
        if self._at - start != 2 or not (after == "/" or ends) or not _at_boundary(tokens):
            if not tokens or tokens[-1] is not _Wild.STAR:
                tokens.append(_Wild.STAR)
            return
        if not ends:
            self._at += 1
        _append_recursive(tokens, ends)

    def _character_class(self) -> _One:
        """``[abc]``, ``[a-z]``, ``[!a]``, ``[^a]``; the opening bracket is already read."""
        negated = self._peek() in ("!", "^")
        first = self._at + negated
        # A "]" right after the opening is an ordinary member.
        close = self._text.find("]", first + 1)
        if close < 0:
            raise self._fault("'[' is never closed")
        self._at = close + 1
        members = self._class_members(self._text[first:close])
        return _One(f"[{'^' if negated else ''}{members}]")

    def _class_members(self, body: str) -> str:
        parts: list[str] = []
        at = 0
        while at < len(body):
            low = high = body[at]
            at += 1
            if at + 1 < len(body) and body[at] == "-":
                high = body[at + 1]
                at += 2
            if low > high:
                raise self._fault(f"inverted range '{low}-{high}'")
            parts.append(_class_char(low) + ("" if low == high else "-" + _class_char(high)))
        return "".join(parts)


def _class_char(char: str) -> str:
    return f"\\{char}" if char in "\\]^-[&~|" else char


def _append_literal(tokens: list[_Token], text: str) -> None:
    last = tokens[-1] if tokens else None
    if isinstance(last, _Literal):
        tokens[-1] = _Literal(last.text + text)
    else:
        tokens.append(_Literal(text))


def _at_boundary(tokens: _Tokens) -> bool:
    """Whether a component starts here."""
    if not tokens:
        return True
    last = tokens[-1]
    if isinstance(last, _Literal):
        return last.text.endswith("/")
    return last in (_Wild.LEADING, _Wild.MIDDLE)


def _append_recursive(tokens: list[_Token], ends: bool) -> None:
    """Add ``**`` standing for whole components, merging runs of them."""
    last = tokens[-1] if tokens else None
    if isinstance(last, _Literal):
        tokens.pop()
        if last.text != "/":
            tokens.append(_Literal(last.text[:-1]))
        tokens.append(_Wild.TRAILING if ends else _Wild.MIDDLE)
    elif last is _Wild.MIDDLE:
        if ends:
            tokens[-1] = _Wild.TRAILING
    elif ends:
        tokens[:] = [_Wild.STAR]
    elif last is None:
        # "**/" and nothing else means everything, as "**" does.
        tokens.append(_Wild.LEADING)


def _full(tokens: _Tokens) -> str:
    if list(tokens) == [_Wild.LEADING]:
        return _Wild.STAR.value
    return "".join(map(_full_token, tokens))


def _full_token(token: _Token) -> str:
    if isinstance(token, _Wild):
        return token.value
    if isinstance(token, _Literal):
        return re.escape(token.text)
    if isinstance(token, _One):
        return token.regex
    return "(?:" + "|".join(map(_full, token.branches)) + ")"


def _prefix(tokens: _Tokens) -> str:
    """Regular expression for the prefixes of what ``tokens`` match, cut after a ``/``."""
    if not tokens:
        return ""
    head, rest = tokens[0], tokens[1:]
    if isinstance(head, _Literal):
        return _literal_prefix(head.text, _prefix(rest))
    if isinstance(head, _One):
        return f"(?:{head.regex}{_prefix(rest)})?"
    if isinstance(head, _Choice):
        parts = [_prefix(branch) for branch in head.branches]
        parts.append(_full_token(head) + _prefix(rest))
        return "(?:" + "|".join(parts) + ")"
    # What an open wildcard has begun can go on in any way.
    return "(?:/.*)?" if head in (_Wild.MIDDLE, _Wild.TRAILING) else ".*"


def _literal_prefix(text: str, rest: str) -> str:
    result = rest
    for piece in reversed(re.findall(r"[^/]*/|[^/]+", text)):
        result = f"(?:{re.escape(piece)}{result})?"
    return result


def _anchored(tokens: _Tokens, lead: str, budget: list[int], pattern: str) -> list[str]:
    """The alternatives of :attr:`Glob.below_anchored`, after ``lead`` was matched."""
    budget[0] -= 1
    if budget[0] < 0:
        raise UsageValueError(
            f"invalid glob pattern {pattern!r}: more than {_MAX_ALTERNATIVES} alternatives"
        )
    if not tokens:
        return []
    head, rest = tokens[0], tokens[1:]
    if isinstance(head, _Wild):
        return _anchored(rest, lead + head.value, budget, pattern)
    if isinstance(head, _Choice):
        found: list[str] = []
        for branch in head.branches:
            found += _anchored((*branch, *rest), lead, budget, pattern)
        return found
    if isinstance(head, _Literal) and lead and head.text.startswith("/"):
        text = head.text[1:]
        follow = (_Literal(text), *rest) if text else rest
        return _anchored(follow, lead + "/", budget, pattern)
    # The first fixed part must be there, or the lead alone would match.
    if isinstance(head, _One):
        return [lead + head.regex + _prefix(rest)]
    piece, slash, text = head.text.partition("/")
    return [lead + re.escape(piece + slash) + _literal_prefix(text, _prefix(rest))]
