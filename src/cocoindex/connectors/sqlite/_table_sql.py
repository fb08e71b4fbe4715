"""``CREATE TABLE`` statements, read far enough to change one column and keep all the rest.

SQLite changes little of a table in place. Where a table is built anew, what others have added to
it (checks, defaults, collations, references, generated columns) is in its statement only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from cocoindex.connectorkits.identifiers import quote

__all__ = ["TableSql", "column_sql", "parse"]

_TOKEN: Final = re.compile(
    r"""(?P<space>(?:\s|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))+)
    | (?P<text>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\])
    | (?P<word>[^\W\d][\w$]*)
    | (?P<other>\d[\w.]*|.)
    """,
    re.VERBOSE | re.DOTALL,
)

_TABLE_CONSTRAINTS: Final = frozenset({"constraint", "primary", "unique", "check", "foreign"})
"""Words with which what is no column begins."""
_CONSTRAINTS: Final = frozenset(
    {"constraint", "primary", "unique", "check", "references", "not", "null", "default", "collate"}
    | {"generated", "as"}
)
"""Words that end the type of a column."""
_QUOTES: Final = {'"': '""', "`": "``"}


class _Token(NamedTuple):
    kind: str
    text: str

    @property
    def word(self) -> str:
        """A keyword, folded; empty for everything else."""
        return self.text.casefold() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        """What it names as an identifier, folded; empty for what is none."""
        if self.kind == "quoted":
            inner, end = self.text[1:-1], self.text[-1]
            return inner.replace(_QUOTES.get(end, end), end).casefold()
        return self.word


class Part(NamedTuple):
    """A column or a constraint.

    Attributes:
        column: the column's name, folded; empty for a constraint of the table.
        tokens: of its text, without space around it.
    """

    column: str
    tokens: tuple[_Token, ...]

    @property
    def text(self) -> str:
        """As it stands there."""
        return "".join(token.text for token in self.tokens)

    def uses(self, column: str) -> bool:
        """Whether an expression or a list in it names ``column`` of its own table."""
        return column in _names(self.tokens)


class TableSql(NamedTuple):
    """The parts of a statement.

    Attributes:
        parts: columns and constraints, in order.
        tail: the options behind the bracket.
    """

    parts: tuple[Part, ...]
    tail: str

    def create(self, name: str) -> str:
        """The statement for a table of another name."""
        return f"CREATE TABLE {quote(name)} ({', '.join(p.text for p in self.parts)}){self.tail}"

    def users_of(self, column: str) -> list[str]:
        """What else in the table is made of a column."""
        folded = column.casefold()
        return [part.text for part in self.parts if part.column != folded and part.uses(folded)]

    def without(self, column: str) -> TableSql:
        """Without a column."""
        folded = column.casefold()
        return self._replace(parts=tuple(part for part in self.parts if part.column != folded))

    def with_column(self, column: Any) -> TableSql:
        """With one column more, before the constraints of the table."""
        at = sum(1 for part in self.parts if part.column)
        added = Part(column.name.casefold(), tuple(_tokens(column_sql(column))))
        return self._replace(parts=(*self.parts[:at], added, *self.parts[at:]))

    def changed(self, column: Any) -> TableSql:
        """With another type and nullability of a column, and all else that it has."""
        folded = column.name.casefold()
        changed = [_changed(p, column) if p.column == folded else p for p in self.parts]
        return self._replace(parts=tuple(changed))


def column_sql(column: Any) -> str:
    """The definition of a column of ours."""
    return f"{quote(column.name)} {column.type}" + ("" if column.nullable else " NOT NULL")


def parse(sql: str) -> TableSql:
    """Take a statement apart; the database has accepted it, so it is well-formed."""
    tokens = list(_tokens(sql))
    start = next(i for i, token in enumerate(tokens) if token.text == "(")
    end = _closing(tokens, start)
    parts = tuple(_part(tokens) for tokens in _split(tokens[start + 1 : end]))
    return TableSql(parts, "".join(token.text for token in tokens[end + 1 :]))


def _tokens(sql: str) -> Iterator[_Token]:
    for found in _TOKEN.finditer(sql):
        assert found.lastgroup is not None
        # A comment to the end of a line must not swallow what comes to stand behind it.
        yield _Token(found.lastgroup, " " if found.lastgroup == "space" else found[0])


def _closing(tokens: Sequence[_Token], start: int) -> int:
    depth = 0
    for i in range(start, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[i].text, 0)
        if depth == 0:
            return i
    raise AssertionError("brackets are balanced in what SQLite has accepted")


def _split(tokens: Sequence[_Token]) -> Iterator[list[_Token]]:
    """At the commas outside of brackets."""
    part: list[_Token] = []
    depth = 0
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if token.text == "," and depth == 0:
            yield part
            part = []
        else:
            part.append(token)
    yield part


def _part(tokens: list[_Token]) -> Part:
    while tokens[0].kind == "space":
        tokens = tokens[1:]
    while tokens[-1].kind == "space":
        tokens = tokens[:-1]
    first = tokens[0]
    if first.word in _TABLE_CONSTRAINTS:
        return Part("", tuple(tokens))
    text = first.kind == "text"  # SQLite takes even that for a name
    return Part(first.text[1:-1].casefold() if text else first.name, tuple(tokens))


def _names(tokens: Sequence[_Token]) -> set[str]:
    """The identifiers in brackets, but for functions, and columns of tables it refers to."""
    names: set[str] = set()
    i, depth = 0, 0
    while i < len(tokens):
        if tokens[i].word == "references":
            i = _behind_reference(tokens, i)
            continue
        depth += {"(": 1, ")": -1}.get(tokens[i].text, 0)
        is_function = i + 1 < len(tokens) and tokens[i + 1].text == "("
        if depth and not is_function:
            names.add(tokens[i].name)
        i += 1
    return names


def _behind_reference(tokens: Sequence[_Token], i: int) -> int:
    """Behind ``REFERENCES table (columns)``."""
    rest = [j for j in range(i + 1, len(tokens)) if tokens[j].kind != "space"]
    if len(rest) > 1 and tokens[rest[1]].text == "(":
        return _closing(tokens, rest[1]) + 1
    return rest[0] + 1 if rest else len(tokens)


def _changed(part: Part, column: Any) -> Part:
    tokens = part.tokens
    end = 1
    while end < len(tokens) and tokens[end].word not in _CONSTRAINTS:
        end += 1
    kept = "".join(token.text for token in _without_not_null(tokens[end:])).strip()
    text = " ".join(filter(None, (column_sql(column), kept)))
    return Part(part.column, tuple(_tokens(text)))


def _without_not_null(tokens: Sequence[_Token]) -> list[_Token]:
    """Without ``[CONSTRAINT name] [NOT] NULL [ON CONFLICT way]``."""
    at = [i for i, token in enumerate(tokens) if token.kind != "space"]
    words = [tokens[i].word for i in at]
    gone: set[int] = set()
    depth = 0
    for n, i in enumerate(at):
        depth += {"(": 1, ")": -1}.get(tokens[i].text, 0)
        if not depth:
            gone.update(at[n : n + _not_null_at(words, n)])
    return [token for i, token in enumerate(tokens) if i not in gone]


def _not_null_at(words: Sequence[str], n: int) -> int:
    """How many words of such a constraint begin here."""
    start = n + 2 if words[n] == "constraint" else n
    rest = words[start : start + 2]
    is_value = n > 0 and words[n - 1] in ("default", "set")
    if rest == ["not", "null"]:
        end = start + 2
    elif rest[:1] == ["null"] and not is_value:
        end = start + 1
    else:
        return 0
    return (end + 3 if words[end : end + 2] == ["on", "conflict"] else end) - n
