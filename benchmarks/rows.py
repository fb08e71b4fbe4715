"""Rows of a SQLite table: all in one component, or some in each of many."""

from __future__ import annotations

import pathlib
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from benchmarks import floor, harness
from benchmarks.harness import CHANGED, COLD, UNCHANGED, Case, Expected, Program, Scale, Size, Tally

SIZES: dict[Scale, tuple[tuple[int, int], ...]] = {
    "full": ((1, 100_000), (2_000, 50)),
    "quick": ((1, 2_000), (100, 50)),
    "tiny": ((1, 100), (100, 3)),
}
ONE_REACH = {COLD: 6.0, UNCHANGED: 6.0, CHANGED: 6.0}
MANY_REACH = {COLD: 8.0, UNCHANGED: 12.0, CHANGED: 10.0}


class Row(NamedTuple):
    number: int
    title: str


class Action(NamedTuple):
    number: int
    row: Row | None


def cases(scale: Scale) -> list[Case]:
    return [
        Case(
            f"{n:,} component{'s' * (n > 1)} × {m:,} rows",
            {"n": n, "m": m},
            units=n * m,
            reach=ONE_REACH if n == 1 else MANY_REACH,
        )
        for n, m in SIZES[scale]
    ]


def expect(phase: str, size: Size) -> Expected:
    rows = size["n"] * size["m"]
    different = {COLD: 1.0, UNCHANGED: 0.0, CHANGED: 0.01}[phase]
    bodies = 1 if size["n"] == 1 else int(size["n"] * different)
    return Expected(bodies, int(rows * different))


def program(folder: pathlib.Path, phase: str, size: Size) -> Program:
    """Alone, the component runs each time; of many, those whose argument is the same do not."""
    import cocoindex as coco

    tally = Tally()
    table = row_provider(connect(folder), tally)
    components, rows = size["n"], size["m"]

    @coco.fn(memo=components > 1)
    async def component(item: tuple[int, int]) -> None:
        tally.ran()
        number, edited_each = item
        for key in range(number * rows, (number + 1) * rows):
            edits = int(edited_each > 0 and key % edited_each == 0)
            coco.declare_target_state(table.target_state(key, Row(key, f"row {key}, {edits}")))

    @coco.fn
    async def main() -> None:
        all_rows, some_rows = 1, 100
        edited_each = all_rows if components > 1 else some_rows
        items = ((k, (k, edited_each * harness.changed(k, phase))) for k in range(components))
        await coco.mount_each(component, items)

    return Program(main, tally)


def row_provider(connection: sqlite3.Connection, tally: Tally) -> Any:
    """A target written as its users would: a fingerprint per row, one transaction per batch."""
    import cocoindex as coco
    from cocoindex.connectorkits.fingerprint import fingerprint_object

    def apply(_context: Any, actions: Sequence[Action]) -> None:
        tally.applied(len(actions))
        upsert(connection, [action.row for action in actions if action.row is not None])
        gone = [(action.number,) for action in actions if action.row is None]
        with connection:
            connection.executemany("DELETE FROM row WHERE number = ?", gone)

    sink = coco.TargetActionSink.from_fn(apply)

    class Handler:
        def reconcile(
            self, key: int, desired: Any, previous: Collection[bytes], may_be_missing: bool, /
        ) -> Any:
            if coco.is_non_existence(desired):
                if not previous and not may_be_missing:
                    return None
                return coco.TargetReconcileOutput(Action(key, None), sink, coco.NON_EXISTENCE)
            digest = bytes(fingerprint_object(desired))
            if not may_be_missing and all(known == digest for known in previous):
                return None
            return coco.TargetReconcileOutput(Action(key, desired), sink, digest)

    return coco.register_root_target_states_provider("bench/row", Handler())


def connect(folder: pathlib.Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "target.sqlite", check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS row (number INTEGER PRIMARY KEY, title TEXT)")
    return connection


def upsert(connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
    statement = "INSERT INTO row VALUES (?, ?) ON CONFLICT DO UPDATE SET title = excluded.title"
    with connection:
        connection.executemany(statement, rows)


def verify(folder: pathlib.Path, phase: str, size: Size) -> None:
    query = "SELECT count(*), count(*) FILTER (WHERE title LIKE '%, 1') FROM row"
    found = connect(folder).execute(query).fetchone()
    expected = (size["n"] * size["m"], size["n"] * size["m"] // 100 if phase == CHANGED else 0)
    if found != expected:
        raise AssertionError(f"{phase}: (rows, edited rows) are {found}, not {expected}")


def bare(folder: pathlib.Path, phase: str, size: Size) -> float:
    connection = connect(folder)

    def sink(keys: Sequence[int]) -> None:
        upsert(connection, [Row(key, f"row {key}, 0") for key in keys])

    many = size["n"] > 1
    components, states = (size["n"], size["m"]) if many else (size["m"], 1)
    return floor.bare_loop(folder, phase, floor.Work(components, states, memo=many), sink)


WORKLOAD = harness.Workload(
    title="Rows",
    about="Rows of two columns to a SQLite table, through a target connector that is part of the "
    "benchmark. One component runs again each time; many are memoized, and a change of 1% is all "
    "rows of one component in a hundred.",
    unit="row",
    cases=cases,
    expect=expect,
    program=program,
    floor=bare,
    verify=verify,
)
