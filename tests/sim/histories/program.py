"""The simulated user's program: ordinary decorated functions over a tree of components.

The tree comes in as an argument; sources are files with a modification time; the "code" is
edited by rebinding the module's constants and a closure, which count towards the functions that
read them, and by importing other releases of some functions (see ``releases.py``).
Every row says which code wrote it, so that a stale memo shows outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import cocoindex as coco
from cocoindex.core.listing import Unlisted
from histories import releases
from histories.outside import roots

TONE: coco.ContextKey[int] = coco.ContextKey("simulation/tone", detect_change=True)

# The constants that "code edits" change, by the function that reads them.
MEMOIZED = 0
PLAIN = 0
BLOCKING = 0
LEAF = 0
SYNC_LEAF = 0
OUTER = 0
ALONE = 0
HELPER = 0
CONSTANTS = ("MEMOIZED", "PLAIN", "BLOCKING", "LEAF", "SYNC_LEAF", "OUTER", "ALONE", "HELPER")
CODES = (*CONSTANTS, "CLOSED", "BODIED", "VERSIONED", "DEPENDING")

Place = tuple[str, ...]


class File:
    """A source: its name is its identity, its modification time and content its state."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __coco_memo_key__(self) -> str:
        return self.name

    def __coco_memo_state__(self, prev: Any) -> coco.MemoStateOutcome:
        now = now_of(self.name)
        same = not coco.is_non_existence(prev) and (list(prev) == now or list(prev)[1:] == now[1:])
        return coco.MemoStateOutcome(now, same)

    def __repr__(self) -> str:
        return f"File({self.name})"


class Call(NamedTuple):
    kind: str
    name: str
    rows: tuple[tuple[Place, Any], ...]
    inner: tuple[Any, ...]
    tone: bool


class Table(NamedTuple):
    kind: str
    name: str
    value: str
    inner: tuple[tuple[str, str], ...]


class Node(NamedTuple):
    name: str
    subpath: tuple[str, ...]
    how: str
    kind: str
    rows: tuple[tuple[Place, Any], ...]
    calls: tuple[Call, ...]
    tables: tuple[Table, ...]
    tone: bool
    passes: tuple[Place, ...]
    together: bool
    states: int
    children: tuple[Any, ...]


class Present:
    """What the program sees of its process; opaque, so it never counts as data."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, int]] = {}
        self.codes: dict[str, int] = {}
        self.ran: list[tuple[str, str, Any]] = []
        self.remembered: list[tuple[str, str, Any]] = []
        """Path and key of each state that was asked for, and the value it had."""
        self.kept: dict[tuple[str, str], str] = {}
        """What was assigned to them."""
        self.hidden: frozenset[str] = frozenset()
        """Components that listings can't see at present."""
        self.failing: frozenset[str] = frozenset()
        """Components whose bodies fail at present."""
        self.providers: dict[Place, Any] = {}
        self.reach: Any = lambda _point, _where: None
        self.delay: Any = lambda: 0.0

    def edition(self, kind: str) -> str:
        return f"{kind}{self.codes[kind.upper()]}"


present = Present()


def now_of(name: str) -> list[int]:
    return list(present.files.get(name, (0, 0)))


def note(kind: str, argument: Any) -> None:
    present.ran.append((str(coco.get_component_context()), kind, argument))


def remembers(node: Node) -> dict[str, str]:
    """The states that a component keeps once it has committed: what it declared."""
    return {f"s{number}": f"{number}{node.rows}" for number in range(node.states)}


def remember(node: Node) -> None:
    path = str(coco.get_component_context())
    for key, value in remembers(node).items():
        handle = coco.use_state(key)
        present.remembered.append((path, key, handle.value))
        handle.value = value
        present.kept.setdefault((path, key), value)


def row_value(source: Any, code: str) -> str:
    content = f"{source.name}:{now_of(source.name)[1]}" if isinstance(source, File) else source
    return f"{content}|{code}|{content}"


def declare(place: Place, source: Any, code: str, passed: Any = None) -> None:
    if place[0] == "rows":
        provider = roots["rows"]
    else:
        provider = (passed or {}).get(place[:-1]) or present.providers[place[:-1]]
    coco.declare_target_state(provider.target_state(place[-1], row_value(source, code)))


def tone_of(wanted: bool) -> str:
    return str(coco.use_context(TONE)) if wanted else "-"


@coco.fn
def helper() -> int:
    return HELPER


@coco.fn(memo=True)
async def leaf(call: Call) -> str:
    note("leaf", call)
    if present.delay():
        await asyncio.sleep(0)
    code = f"leaf{LEAF}.{helper()}.{tone_of(call.tone)}"
    for place, source in call.rows:
        declare(place, source, code)
    return code


@coco.fn(memo=True)
def sync_leaf(call: Call) -> str:
    note("sync_leaf", call)
    code = f"sync_leaf{SYNC_LEAF}.{helper()}.{tone_of(call.tone)}"
    for place, source in call.rows:
        declare(place, source, code)
    return code


@coco.fn(memo=True)
async def outer(call: Call) -> str:
    note("outer", call)
    code = f"outer{OUTER}.-.{tone_of(call.tone)}"
    for place, source in call.rows:
        declare(place, source, code)
    for inner in call.inner:
        await run_call(inner)
    return code


@coco.fn(memo=True, logic_tracking="self")
async def alone(call: Call) -> str:
    note("alone", call)
    code = f"alone{ALONE}.-.{tone_of(call.tone)}"
    for place, source in call.rows:
        declare(place, source, code)
    return code


def _make_closed() -> tuple[Any, Any]:
    edition = 0

    @coco.fn(memo=True)
    async def closed(call: Call) -> str:
        note("closed", call)
        code = f"closed{edition}.-.{tone_of(call.tone)}"
        for place, source in call.rows:
            declare(place, source, code)
        return code

    def rebind(value: int) -> None:
        nonlocal edition
        edition = value

    return closed, rebind


closed, rebind_closed = _make_closed()


@coco.fn
async def transparent(call: Call) -> str:
    """Not memoized itself: what it calls counts for its caller."""
    return await leaf(call)


async def run_call(call: Call) -> None:
    if call.kind == "sync_leaf":
        sync_leaf(call)
    else:
        await CALLS[call.kind](call)


CALLS: dict[str, Any] = {
    "leaf": leaf,
    "outer": outer,
    "alone": alone,
    "transparent": transparent,
    "closed": closed,
}


def install(codes: dict[str, int]) -> None:
    """The program's code is now this."""
    present.codes = codes
    for name in CONSTANTS:
        globals()[name] = codes[name]
    rebind_closed(codes["CLOSED"])
    for kind in releases.FORMS:
        CALLS[kind] = releases.install(kind, codes[kind.upper()])


@coco.fn(memo=True)
async def memoized(node: Node, passed: dict[str, Any]) -> str:
    note("memoized", node)
    code = f"memoized{MEMOIZED}.-.{tone_of(node.tone)}"
    await body(node, code, passed)
    return code


@coco.fn
async def plain(node: Node, passed: dict[str, Any]) -> str:
    code = f"plain{PLAIN}.-.{tone_of(node.tone)}"
    await body(node, code, passed)
    return code


@coco.fn(memo=True)
def blocking(node: Node, passed: dict[str, Any]) -> str:
    note("blocking", node)
    code = f"blocking{BLOCKING}.-.{tone_of(node.tone)}"
    providers = unpack(passed)
    remember(node)
    for place, source in node.rows:
        declare(place, source, code, providers)
    for call in node.calls:
        sync_leaf(call)
    return code


COMPONENTS: dict[str, Any] = {"memoized": memoized, "plain": plain, "blocking": blocking}


def unpack(passed: dict[str, Any]) -> dict[Place, Any]:
    return {tuple(key.split("/")): provider for key, provider in passed.items()}


async def body(node: Node, code: str, passed: dict[str, Any]) -> None:
    present.reach("in-body", node.name)
    if node.name in present.failing:
        raise ValueError(f"{node.name} fails")
    for table in node.tables:
        await mount_table(table)
    present.reach("in-body", node.name)
    providers = unpack(passed)
    for place, source in node.rows:
        declare(place, source, code, providers)
    remember(node)
    if node.together:
        await coco.map(run_call, [*node.calls, *node.calls])
    else:
        for call in node.calls:
            await run_call(call)
    await mount_children(node)
    present.reach("in-body", node.name)


async def mount_table(table: Table) -> None:
    provider = await coco.mount_target(roots[table.kind].target_state(table.name, table.value))
    present.providers[table.kind, table.name] = provider
    if table.kind == "table":
        present.providers["table", table.name, "@idx"] = provider.attachment("idx")
    for name, value in table.inner:
        inner = await coco.mount_target(provider.target_state(name, value))
        present.providers["nest", table.name, name] = inner


def arguments(child: Node) -> dict[str, Any]:
    return {"/".join(place): present.providers[place] for place in child.passes}


async def mount_children(node: Node) -> None:
    each: dict[str, list[Any]] = {}
    for child in node.children:
        function, passed = COMPONENTS[child.kind], arguments(child)
        path = coco.component_subpath(*child.subpath)
        if child.how == "use":
            await coco.use_mount(path, function, child, passed)
        elif child.how == "each":
            each.setdefault(child.kind, []).append((child.name, child))
        else:
            await coco.mount(path, function, child, passed)
    for kind, items in each.items():
        await coco.mount_each(
            coco.component_subpath("each", kind), COMPONENTS["each_" + kind], listing(items)
        )


async def listing(items: list[tuple[str, Node]]) -> AsyncIterator[Any]:
    """The children of one call; what is hidden is reported as unlisted."""
    for name, child in items:
        present.reach("in-listing", name)
        if name not in present.hidden:
            yield name, child
    if present.hidden:
        yield Unlisted(lambda name: name in present.hidden)


@coco.fn(memo=True)
async def each_memoized(node: Node) -> str:
    note("memoized", node)
    code = f"memoized{MEMOIZED}.-.{tone_of(node.tone)}"
    await body(node, code, {})
    return code


@coco.fn
async def each_plain(node: Node) -> str:
    code = f"plain{PLAIN}.-.{tone_of(node.tone)}"
    await body(node, code, {})
    return code


@coco.fn(memo=True)
def each_blocking(node: Node) -> str:
    note("blocking", node)
    code = f"blocking{BLOCKING}.-.{tone_of(node.tone)}"
    remember(node)
    for place, source in node.rows:
        declare(place, source, code)
    for call in node.calls:
        sync_leaf(call)
    return code


COMPONENTS |= {
    "each_memoized": each_memoized,
    "each_plain": each_plain,
    "each_blocking": each_blocking,
}
