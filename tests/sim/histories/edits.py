"""What users do between two updates: to sources, to the tree, and to the code."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from histories import program
from histories.model import (
    CallModel,
    Comp,
    Model,
    Rows,
    TableModel,
    declared,
    walk,
    walk_calls,
)
from histories.program import File, Place

NAMES = "abcdefgh"
KEYS = ("k1", "k2", "k3", "k4", "k5")
FILES = ("f1", "f2", "f3")
CALL_KINDS = (
    "leaf", "outer", "outer", "alone", "sync_leaf", "transparent",
    "closed", "bodied", "bodied", "versioned", "depending",
)  # fmt: skip
KINDS = ("memoized", "memoized", "plain", "blocking")

Edit = Callable[[Model, Random], None]


def apply(model: Model, kind: str, random: Random) -> Model:
    """The model after one edit; the same one if the edit makes no sense there."""
    changed = model.copy()
    EDITS[kind](changed, random)
    return changed if changed.is_valid() else model


def _comp(model: Model, random: Random) -> Comp:
    return random.choice(model.comps())


def _below_root(model: Model, random: Random) -> Comp | None:
    comps = model.comps()[1:]
    return random.choice(comps) if comps else None


def _source(random: Random) -> Any:
    return File(random.choice(FILES)) if random.random() < 0.4 else f"v{random.randrange(3)}"


def _rows(model: Model, random: Random) -> Rows:
    """The rows of some component, or of some call in it."""
    comp = _comp(model, random)
    calls = list(walk_calls(comp.calls))
    return random.choice(calls).rows if calls and random.random() < 0.5 else comp.rows


def _place(model: Model, random: Random) -> Place:
    tables = model.tables()
    key = random.choice(KEYS)
    if not tables or random.random() < 0.5:
        return ("rows", key)
    _, table = random.choice(tables)
    if table.kind == "nest":
        return ("nest", table.name, random.choice(sorted(table.inner) or ["i1"]), key)
    if table.kind == "table" and random.random() < 0.3:
        return ("table", table.name, "@idx", key)
    return (table.kind, table.name, key)


# --- the tree ------------------------------------------------------------------------------------


def add(model: Model, random: Random) -> None:
    parents = [comp for comp in model.comps() if comp.kind != "blocking"]
    parent = random.choice(parents)
    comp = Comp(random.choice(NAMES), random.choice(("mount", "mount", "use", "each")))
    comp.kind = random.choice(KINDS)
    comp.passes = random.random() < 0.3
    comp.tone = random.random() < 0.2
    comp.together = random.random() < 0.3
    comp.states = random.choice((0, 0, 0, 1, 2))
    parent.children.append(comp)
    for _ in range(random.randrange(3)):
        place = _place(model, random)
        model.release(place)
        comp.rows[place] = _source(random)
    if random.random() < 0.4:
        _add_call(model, comp, random)
    if comp.how == "each" and random.random() < 0.4:
        names = random.sample(NAMES, 2)
        parent.children += [Comp(name, "each", comp.kind) for name in names if name != comp.name]


def remove(model: Model, random: Random) -> None:
    comp = _below_root(model, random)
    if comp is not None:
        parent = model.parent_of(comp)
        assert parent is not None
        parent.children = [child for child in parent.children if child is not comp]
        model.removed.append((parent, comp))


def thin(model: Model, random: Random) -> None:
    """Much of what some component lists is gone."""
    parents = [c for c in model.comps() if any(child.how == "each" for child in c.children)]
    if parents:
        parent = random.choice(parents)
        gone = [child for child in parent.children if child.how == "each" and random.random() < 0.7]
        parent.children = [child for child in parent.children if child not in gone]
        model.removed += [(parent, child) for child in gone]


def restore(model: Model, random: Random) -> None:
    """Something that was removed is there again; rows that others declare now stay theirs."""
    if not model.removed:
        return
    parent, thing = model.removed.pop(random.randrange(len(model.removed)))
    if all(parent is not comp for comp in model.comps()):
        return
    if isinstance(thing, TableModel):
        parent.tables.append(thing)
        return
    for part in walk(thing):
        for rows in (part.rows, part.claims, *(call.rows for call in walk_calls(part.calls))):
            for place in list(rows):
                if any(place in others for others in model.holders()):
                    del rows[place]
    parent.children.append(thing)


def rename(model: Model, random: Random) -> None:
    comp = _below_root(model, random)
    if comp is not None:
        comp.name = random.choice(NAMES)


def move(model: Model, random: Random) -> None:
    comp = _below_root(model, random)
    if comp is None:
        return
    inside = list(walk(comp))
    targets = [c for c in model.comps() if c.kind != "blocking" and all(c is not i for i in inside)]
    target = random.choice(targets)
    parent = model.parent_of(comp)
    assert parent is not None
    parent.children = [child for child in parent.children if child is not comp]
    target.children.append(comp)


def swap(model: Model, random: Random) -> None:
    """Two components exchange what they declare."""
    one, other = _comp(model, random), _comp(model, random)
    one.rows, other.rows = other.rows, one.rows
    one.calls, other.calls = other.calls, one.calls


def wrap(model: Model, random: Random) -> None:
    """A component becomes a directory with a component in it, or the other way round."""
    comp = _below_root(model, random)
    if comp is not None:
        comp.is_wrapped = not comp.is_wrapped
        comp.how = "mount"


def remount(model: Model, random: Random) -> None:
    comp = _below_root(model, random)
    if comp is not None:
        comp.how = random.choice(("mount", "use", "each"))


def rekind(model: Model, random: Random) -> None:
    _comp(model, random).kind = random.choice(KINDS)


def remember(model: Model, random: Random) -> None:
    _comp(model, random).states = random.randrange(3)


def gather(model: Model, random: Random) -> None:
    comp = _comp(model, random)
    comp.together = not comp.together


def repass(model: Model, random: Random) -> None:
    comp = _comp(model, random)
    comp.passes = not comp.passes


def reorder(model: Model, random: Random) -> None:
    comp = _comp(model, random)
    random.shuffle(comp.children)


# --- rows and calls ------------------------------------------------------------------------------


def put(model: Model, random: Random) -> None:
    place = _place(model, random)
    rows = _rows(model, random)
    model.release(place)
    rows[place] = _source(random)


def drop(model: Model, random: Random) -> None:
    declared = [place for rows in model.holders() for place in rows]
    if declared:
        model.release(random.choice(declared))


def hand_over(model: Model, random: Random) -> None:
    """A row moves to another component or call, its value unchanged."""
    declared = [(place, source) for rows in model.holders() for place, source in rows.items()]
    if declared:
        place, source = random.choice(declared)
        rows = _rows(model, random)
        model.release(place)
        rows[place] = source


def contest(model: Model, random: Random) -> None:
    """A component declares what another one declares as well."""
    places = [place for comp in model.comps() for place in declared(comp)]
    if places:
        _comp(model, random).claims[random.choice(places)] = _source(random)


def concede(model: Model, random: Random) -> None:
    """No place is contested any more."""
    for comp in model.comps():
        comp.claims.clear()


def _new_call(random: Random, model: Model, level: int = 0) -> CallModel:
    call = CallModel(random.choice(CALL_KINDS), f"c{random.randrange(4)}")
    call.tone = random.random() < 0.3
    for _ in range(random.randrange(1, 3)):
        call.rows[_place(model, random)] = _source(random)
    if call.kind == "outer" and level < 2:
        call.inner = [_new_call(random, model, level + 1) for _ in range(random.randrange(1, 3))]
    return call


def add_call(model: Model, random: Random) -> None:
    _add_call(model, _comp(model, random), random)


def _add_call(model: Model, comp: Comp, random: Random) -> None:
    call = _new_call(random, model)
    seen: set[Place] = set()
    for part in walk_calls([call]):
        part.rows = {place: source for place, source in part.rows.items() if place not in seen}
        seen.update(part.rows)
    for place in seen:
        model.release(place)
    comp.calls.append(call)


def remove_call(model: Model, random: Random) -> None:
    holders = [comp for comp in model.comps() if comp.calls]
    if holders:
        calls = random.choice(holders).calls
        calls.pop(random.randrange(len(calls)))


def change_call(model: Model, random: Random) -> None:
    calls = [call for comp in model.comps() for call in walk_calls(comp.calls)]
    if calls:
        call = random.choice(calls)
        call.name = f"c{random.randrange(4)}"
        call.tone ^= random.random() < 0.3


# --- sources, code, context ----------------------------------------------------------------------


def touch(model: Model, random: Random) -> None:
    name = random.choice(FILES)
    mtime, content = model.files.get(name, (0, 0))
    model.files[name] = (mtime + 1, content)


def write(model: Model, random: Random) -> None:
    name = random.choice(FILES)
    mtime, content = model.files.get(name, (0, 0))
    model.files[name] = (mtime + 1, random.choice([c for c in range(4) if c != content]))


def code(model: Model, random: Random) -> None:
    used = {comp.kind for comp in model.comps()}
    used |= {call.kind for comp in model.comps() for call in walk_calls(comp.calls)}
    names = [name for name in program.CODES if name.lower() in used or random.random() < 0.2]
    name = random.choice(names or program.CODES)
    model.codes[name] = random.choice([c for c in range(4) if c != model.codes[name]])


def tone(model: Model, random: Random) -> None:
    model.tone = random.choice([t for t in range(4) if t != model.tone])


# --- containers ----------------------------------------------------------------------------------


def add_table(model: Model, random: Random) -> None:
    owners = [comp for comp in model.comps() if comp.kind != "blocking"]
    model.table_count += 1
    name = f"t{model.table_count}"
    table = TableModel(random.choice(("table", "table", "nest", "nest", "dir")), name)
    if table.kind == "nest":
        table.inner = {f"i{n}": [0, 0] for n in range(1, random.randrange(2, 4))}
    random.choice(owners).tables.append(table)


def remove_table(model: Model, random: Random) -> None:
    tables = model.tables()
    if tables:
        owner, table = random.choice(tables)
        owner.tables = [other for other in owner.tables if other is not table]
        model.removed.append((owner, table))


def move_table(model: Model, random: Random) -> None:
    tables = model.tables()
    owners = [comp for comp in model.comps() if comp.kind != "blocking"]
    if tables:
        owner, table = random.choice(tables)
        owner.tables = [other for other in owner.tables if other is not table]
        random.choice(owners).tables.append(table)


def reshape(model: Model, random: Random) -> None:
    tables = model.tables()
    if tables:
        _, table = random.choice(tables)
        if table.inner and random.random() < 0.5:
            random.choice(list(table.inner.values()))[0] += 1
        else:
            table.shape += 1


def alter(model: Model, random: Random) -> None:
    tables = model.tables()
    if tables:
        _, table = random.choice(tables)
        if table.inner and random.random() < 0.5:
            random.choice(list(table.inner.values()))[1] += 1
        else:
            table.minor = random.randrange(4)


def inner(model: Model, random: Random) -> None:
    """A table inside a nest comes or goes."""
    nests = [table for _, table in model.tables() if table.kind == "nest"]
    if nests:
        nest, name = random.choice(nests), f"i{random.randrange(1, 4)}"
        if nest.inner.pop(name, None) is None:
            nest.inner[name] = [0, 0]


EDITS: dict[str, Edit] = {
    edit.__name__: edit
    for edit in (
        add, remove, thin, restore, rename, move, swap, wrap, remount, rekind, repass,
        reorder, remember, gather, put, drop, hand_over, contest, concede,
        add_call, remove_call, change_call,
        touch, write, code, tone,
        add_table, remove_table, move_table, reshape, alter, inner,
    )
}  # fmt: skip

CONTAINER_EDITS = frozenset({"reshape", "alter", "inner", "remove_table", "add_table"})
HARMLESS = frozenset(EDITS) - CONTAINER_EDITS - {"move_table", "restore", "contest", "concede"}
"""Edits after which exactly those memos are invalid whose arguments, code or sources changed."""

RANDOM = sorted(EDITS)
OFTEN = ("code", "code", "code", "tone", "write", "add_call")
"""What users do most; random histories do so, too."""

__all__ = ["CONTAINER_EDITS", "EDITS", "HARMLESS", "OFTEN", "RANDOM", "apply"]
