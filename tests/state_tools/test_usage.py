"""Sizes add up, whichever way they are cut."""

from __future__ import annotations

from typing import Any

from cocoindex.engine import usage
from cocoindex.engine.usage import AppUsage, measure


def measured(section: Any) -> AppUsage:
    with section.snapshot() as snapshot:
        return measure(snapshot)


def test_tables_add_up_to_the_total(rich: Any) -> None:
    found = measured(rich.section)
    stored = rich.section.scan(b"")
    assert (found.total.rows, found.total.bytes) == (
        len(stored),
        sum(len(key) + len(value) for key, value in stored),
    )
    assert sum(used.rows for used in found.tables.values()) == found.total.rows


def test_functions_add_up_to_what_components_keep(rich: Any) -> None:
    found = measured(rich.section)
    kept = ("tracking", "component memos", "function memos", "user state")
    assert sum(used.bytes for used in found.functions.values()) == sum(
        found.tables[table].bytes for table in kept
    )
    assert {"main", "process", "tables", "counting"} <= set(found.functions)


def test_containers_count_their_target_states(rich: Any) -> None:
    found = measured(rich.section)
    assert sum(used.rows for used in found.containers.values()) == found.tables["owners"].rows
    assert found.containers['/@golden/tree/"t"'].rows == 2
    assert found.containers['/@golden/tree/"t"/@index'].rows == 1


def test_what_belongs_to_nobody_is_shown(rich: Any) -> None:
    rich.section.write([(b"F" + bytes(24), b"xyz"), (b"U" + b"\xff" * 8 + b"r", b"")])
    found = measured(rich.section)
    assert found.functions["(unknown)"].rows == 2


def test_many_containers_are_summed_up(rich: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(usage, "_MOST_NAMES", 2)
    found = measured(rich.section)
    assert len(found.containers) <= 3
    assert sum(used.rows for used in found.containers.values()) == found.tables["owners"].rows
