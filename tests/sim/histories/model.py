"""The simulated program as data: a tree of components that edits change, and what it declares."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from histories import program
from histories.program import Call, File, Node, Place, Table

Source = Any
Rows = dict[Place, Source]


@dataclass
class CallModel:
    kind: str
    name: str
    rows: Rows = field(default_factory=dict)
    inner: list[CallModel] = field(default_factory=list)
    tone: bool = False

    def copy(self) -> CallModel:
        return CallModel(
            self.kind, self.name, dict(self.rows), [call.copy() for call in self.inner], self.tone
        )


@dataclass
class TableModel:
    kind: str
    name: str
    shape: int = 0
    minor: int = 0
    inner: dict[str, list[int]] = field(default_factory=dict)
    """Of a nest: shape and minor of the tables inside."""

    def copy(self) -> TableModel:
        inner = {name: list(value) for name, value in self.inner.items()}
        return TableModel(self.kind, self.name, self.shape, self.minor, inner)


@dataclass
class Comp:
    name: str
    how: str = "mount"
    kind: str = "memoized"
    is_wrapped: bool = False
    """Whether its path has a directory in front of it, in place of the component itself."""
    passes: bool = False
    tone: bool = False
    together: bool = False
    """Whether its calls run concurrently, and each of them twice."""
    states: int = 0
    rows: Rows = field(default_factory=dict)
    claims: Rows = field(default_factory=dict)
    """What it declares although another component does so too."""
    calls: list[CallModel] = field(default_factory=list)
    tables: list[TableModel] = field(default_factory=list)
    children: list[Comp] = field(default_factory=list)

    def copy(self, copies: dict[int, Comp]) -> Comp:
        """A deep copy; ``copies`` learns which component has become which, by id."""
        twin = copy(self)
        twin.rows, twin.claims = dict(self.rows), dict(self.claims)
        twin.calls = [call.copy() for call in self.calls]
        twin.tables = [table.copy() for table in self.tables]
        twin.children = [child.copy(copies) for child in self.children]
        copies[id(self)] = twin
        return twin

    @property
    def subpath(self) -> tuple[str, ...]:
        return (self.name, "w") if self.is_wrapped else (self.name,)


class Expected(dict[Place, str]):
    """What must be outside in the end; of a contested place, the first of its values."""

    def __init__(self) -> None:
        super().__init__()
        self.contested: dict[Place, set[str]] = {}

    def add(self, place: Place, value: str) -> None:
        if place in self:
            self.contested.setdefault(place, {self[place]}).add(value)
        else:
            self[place] = value

    def decide(self, found: dict[Place, str]) -> None:
        """Whoever came last in a contest was right."""
        for place, values in self.contested.items():
            if found.get(place) in values:
                self[place] = found[place]


class Model:
    """The program, its sources and its code, now."""

    def __init__(self) -> None:
        self.root = Comp("root", kind="plain")
        self.files: dict[str, tuple[int, int]] = {}
        self.codes: dict[str, int] = dict.fromkeys(program.CODES, 0)
        self.tone = 0
        self.table_count = 0
        self.removed: list[tuple[Comp, Comp | TableModel]] = []
        """What was removed, and from where, so that it can come back."""
        self._frozen: Node | None = None

    def copy(self) -> Model:
        twin, copies = copy(self), dict[int, Comp]()
        twin._frozen = None
        twin.root = self.root.copy(copies)
        twin.files, twin.codes = dict(self.files), dict(self.codes)
        things = [
            thing.copy() if isinstance(thing, TableModel) else thing.copy(copies)
            for _, thing in self.removed
        ]
        parents = [copies.get(id(parent), parent) for parent, _ in self.removed]
        twin.removed = list(zip(parents, things, strict=True))
        return twin

    # --- looking around --------------------------------------------------------------------------

    def comps(self) -> list[Comp]:
        return list(walk(self.root))

    def parent_of(self, comp: Comp) -> Comp | None:
        return next((c for c in walk(self.root) if any(k is comp for k in c.children)), None)

    def holders(self) -> Iterator[Rows]:
        for comp in walk(self.root):
            yield comp.rows
            yield comp.claims
            for call in walk_calls(comp.calls):
                yield call.rows

    def release(self, place: Place) -> None:
        """Nobody declares ``place`` any more."""
        for rows in self.holders():
            rows.pop(place, None)

    def tables(self) -> list[tuple[Comp, TableModel]]:
        return [(comp, table) for comp in walk(self.root) for table in comp.tables]

    def is_valid(self) -> bool:
        """Names are unique where they must be, and no path lies below another component's."""
        names = [(table.kind, table.name) for _, table in self.tables()]
        if len(names) != len(set(names)):
            return False
        for comp in walk(self.root):
            children = [child.name for child in comp.children]
            if len(children) != len(set(children)) or "each" in children:
                return False
            if comp.kind == "blocking" and (comp.children or comp.tables):
                return False
            if comp.claims and not comp.claims.keys().isdisjoint(declared(comp)):
                return False
        if self.root.kind == "blocking":
            return False
        return sum(1 for _ in walk(self.root)) <= 220 and depth(self.root) <= 6

    # --- as the program sees it ------------------------------------------------------------------

    def frozen(self) -> Node:
        """The tree as it is now; it is not to be changed any more."""
        if self._frozen is None:
            self._frozen = self._freeze(self.root, set())
        return self._frozen

    def _freeze(self, comp: Comp, above: set[Place]) -> Node:
        tables = tuple(_freeze_table(table) for table in comp.tables)
        here = above | {place for table in tables for place in spaces(table)}
        mine = (*comp.rows.items(), *comp.claims.items())
        rows = tuple((p, s) for p, s in mine if is_available(p, here))
        calls = tuple(_freeze_call(call, here, comp.kind) for call in comp.calls)
        children = tuple(self._freeze(child, here) for child in comp.children)
        passes: tuple[Place, ...] = ()
        if comp.passes and comp.how != "each":
            passes = tuple(sorted({p[:-1] for p, _ in rows if p[0] != "rows" and p[:-1] in above}))
        return Node(
            comp.name, comp.subpath, comp.how, comp.kind, rows, calls, tables, comp.tone,
            passes, comp.together, comp.states, children,
        )  # fmt: skip

    # --- what must be outside in the end ---------------------------------------------------------

    def expected(self, hidden: frozenset[str] = frozenset()) -> Expected:
        """``hidden``: listed components that are to be left out."""
        found = Expected()
        self._expect(self.frozen(), hidden, found)
        return found

    def _expect(self, node: Node, hidden: frozenset[str], found: Expected) -> None:
        for table in node.tables:
            found[table.kind, table.name] = table.value
            for name, value in table.inner:
                found["nest", table.name, name] = value
        code = f"{node.kind}{self.codes[node.kind.upper()]}.-.{self._tone(node.tone)}"
        self._expect_rows(node.rows, code, found)
        for call in node.calls:
            self._expect_call(call, found)
        for child in node.children:
            if child.how != "each" or child.name not in hidden:
                self._expect(child, hidden, found)

    def _expect_call(self, call: Call, found: Expected) -> None:
        kind = "leaf" if call.kind == "transparent" else call.kind
        helped = str(self.codes["HELPER"]) if kind in ("leaf", "sync_leaf") else "-"
        code = f"{kind}{self.codes[kind.upper()]}.{helped}.{self._tone(call.tone)}"
        self._expect_rows(call.rows, code, found)
        for inner in call.inner:
            self._expect_call(inner, found)

    def _expect_rows(
        self, rows: tuple[tuple[Place, Source], ...], code: str, found: Expected
    ) -> None:
        for place, source in rows:
            content = source
            if isinstance(source, File):
                content = f"{source.name}:{self.files.get(source.name, (0, 0))[1]}"
            found.add(place, f"{content}|{code}|{content}")

    def _tone(self, wanted: bool) -> str:
        return str(self.tone) if wanted else "-"

    # --- which memoized bodies may run -----------------------------------------------------------

    def signatures(self) -> set[Any]:
        """One value per memoized call or component: while it is the same, its body must not run."""
        found: set[Any] = set()
        self._sign_below(self.frozen(), "/", found)
        return found

    def _sign_below(self, node: Node, path: str, found: set[Any]) -> None:
        if node.kind != "plain":
            found.add(self.sign(path, node.kind, node))
        for call in node.calls:
            found.update(self.sign(path, c.kind, c) for c in flat_calls(call))
        for child in node.children:
            self._sign_below(child, path_below(path, child), found)

    def states(self) -> dict[tuple[str, str], str]:
        """What components keep for themselves, by path and key."""
        found: dict[tuple[str, str], str] = {}
        pending = [("/", self.frozen())]
        for path, node in pending:  # grows while it is walked
            found |= {(path, key): value for key, value in program.remembers(node).items()}
            pending += [(path_below(path, child), child) for child in node.children]
        return found

    def listings(self) -> dict[str, set[str]]:
        """What the listings of the program contain, by the path below which they are mounted."""
        found: dict[str, set[str]] = {}
        pending = [("/", self.frozen())]
        for path, node in pending:  # grows while it is walked
            for child in node.children:
                below = path_below(path, child)
                pending.append((below, child))
                if child.how == "each":
                    found.setdefault(below.rpartition("/")[0], set()).add(child.name)
        return found

    def sign(self, path: str, kind: str, argument: Any) -> Any:
        kind = "leaf" if kind == "transparent" else kind
        kinds, files, tone = _uses(argument)
        if argument.__class__ is Call and argument.kind == "transparent":
            argument = argument._replace(kind="leaf")
        return (
            path,
            kind,
            repr(argument),
            tuple(sorted((k, self.codes[k]) for k in kinds)),
            tuple(sorted((name, self.files.get(name, (0, 0))[1]) for name in files)),
            self.tone if tone else None,
        )


def _uses(argument: Any) -> tuple[set[str], set[str], bool]:
    """Constants, files and the tone that a call or component depends on."""
    kinds: set[str] = set()
    files = {source.name for _, source in argument.rows if isinstance(source, File)}
    tone = argument.tone
    if isinstance(argument, Call):
        kind = "leaf" if argument.kind == "transparent" else argument.kind
        kinds.add(kind.upper())
        if kind in ("leaf", "sync_leaf"):
            kinds.add("HELPER")
        below: tuple[Any, ...] = argument.inner
    else:
        kinds.add(argument.kind.upper())
        below = (*argument.calls, *argument.children)
    for part in below:
        more_kinds, more_files, more_tone = _uses(part)
        kinds |= more_kinds
        files |= more_files
        tone |= more_tone
    return kinds, files, tone


def path_below(path: str, child: Node) -> str:
    keys = ("each", child.kind, child.name) if child.how == "each" else child.subpath
    return ("" if path == "/" else path) + "".join(f'/"{key}"' for key in keys)


def declared(comp: Comp) -> Iterator[Place]:
    """The places that belong to a component or its calls."""
    yield from comp.rows
    for call in walk_calls(comp.calls):
        yield from call.rows


def walk(comp: Comp) -> Iterator[Comp]:
    yield comp
    for child in comp.children:
        yield from walk(child)


def walk_calls(calls: list[CallModel]) -> Iterator[CallModel]:
    for call in calls:
        yield call
        yield from walk_calls(call.inner)


def flat_calls(call: Call) -> Iterator[Call]:
    yield call
    for inner in call.inner:
        yield from flat_calls(inner)


def depth(comp: Comp) -> int:
    return 1 + max((depth(child) for child in comp.children), default=0)


def spaces(table: Table) -> Iterator[Place]:
    """Where rows can be declared once ``table`` is mounted."""
    if table.kind != "nest":
        yield (table.kind, table.name)
    if table.kind == "table":
        yield (table.kind, table.name, "@idx")
    for name, _ in table.inner:
        yield ("nest", table.name, name)


def is_available(place: Place, here: set[Place]) -> bool:
    return place[0] == "rows" or place[:-1] in here


def _freeze_table(table: TableModel) -> Table:
    inner = tuple((name, f"{shape}|{minor}") for name, (shape, minor) in table.inner.items())
    return Table(table.kind, table.name, f"{table.shape}|{table.minor}", inner)


def _freeze_call(call: CallModel, here: set[Place], owner: str) -> Call:
    rows = tuple((p, s) for p, s in call.rows.items() if is_available(p, here))
    kind = "sync_leaf" if owner == "blocking" else call.kind
    inner = () if kind != "outer" else tuple(_freeze_call(c, here, "") for c in call.inner)
    return Call(kind, call.name, rows, inner, call.tone)
