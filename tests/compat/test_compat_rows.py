"""Programs written after steps 1 to 4 of the guide's root target keep working."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import cocoindex as coco

ADA = {"name": "Ada", "born": 1815}
BOB = {"name": "Bob", "born": 1900}


@pytest.fixture
def rows(load: Callable[[str], ModuleType]) -> ModuleType:
    program = load("rows")
    program.connection.reset()
    program.seen.clear()
    return program


@pytest.fixture
def update(rows: ModuleType, host: Any) -> Any:
    def run(people: dict[str, dict[str, Any]], **options: Any) -> list[str]:
        """Update with these people; the statements it took, those for one table in order."""
        rows.connection.log.clear()
        rows.seen.clear()
        host.update(lambda: rows.declare_people(people), **options)
        return list(rows.connection.log)

    return run


def test_a_declared_row_is_inserted(rows: ModuleType, update: Any) -> None:
    assert update({"ada": ADA}) == ["upsert people id.ada"]
    assert rows.connection.rows == {("id", "ada"): ADA}


def test_the_first_reconcile_knows_no_record_and_says_the_row_may_be_missing(
    rows: ModuleType, update: Any
) -> None:
    update({"ada": ADA})
    assert rows.seen == [(("id", "ada"), [], True)]


def test_an_unchanged_row_takes_no_statement(rows: ModuleType, update: Any) -> None:
    update({"ada": ADA})
    assert update({"ada": dict(ADA)}) == []
    [(key, [record], may_be_missing)] = rows.seen
    assert key == ("id", "ada")
    assert type(record) is rows._RowTrackingRecord
    assert not may_be_missing


def test_only_the_changed_row_is_written(update: Any) -> None:
    update({"ada": ADA, "bob": BOB})
    assert update({"ada": ADA, "bob": {**BOB, "born": 1901}}) == ["upsert people id.bob"]


def test_a_row_no_longer_declared_is_deleted_by_its_key(rows: ModuleType, update: Any) -> None:
    update({"ada": ADA, "bob": BOB})
    assert update({"ada": ADA}) == ["delete people id.bob"]
    assert rows.connection.rows == {("id", "ada"): ADA}


def test_rows_are_deleted_by_a_program_that_declares_nothing(
    rows: ModuleType, update: Any, host: Any
) -> None:
    update({"ada": ADA})
    host.update(lambda: None)
    assert rows.connection.rows == {}


def test_a_deleted_row_is_not_reconciled_again(rows: ModuleType, update: Any) -> None:
    update({"ada": ADA})
    update({})
    update({})
    assert rows.seen == []


def test_actions_of_one_run_come_in_declaration_order_then_deletes(update: Any) -> None:
    update({"old": ADA})
    assert update({"z": ADA, "a": BOB}) == [
        "upsert people id.z",
        "upsert people id.a",
        "delete people id.old",
    ]


def test_full_reprocess_writes_every_row_again(rows: ModuleType, update: Any) -> None:
    update({"ada": ADA})
    assert update({"ada": ADA}, full_reprocess=True) == ["upsert people id.ada"]
    [(_, records, may_be_missing)] = rows.seen
    assert len(records) == 1
    assert may_be_missing


def test_drop_deletes_every_row(rows: ModuleType, update: Any, host: Any) -> None:
    update({"ada": ADA, "bob": BOB})
    host.drop(lambda: None)
    assert rows.connection.rows == {}


def test_a_statement_that_failed_after_it_ran_is_repeated(rows: ModuleType, update: Any) -> None:
    rows.connection.fail_after = "upsert people id.ada"
    with pytest.raises(ConnectionResetError, match="connection lost"):
        update({"ada": ADA})
    rows.connection.fail_after = None

    assert update({"ada": ADA}) == ["upsert people id.ada"]
    [(_, records, may_be_missing)] = rows.seen
    assert len(records) == 1
    assert may_be_missing


def test_a_failed_insert_that_reached_the_database_is_removed_when_undeclared(
    rows: ModuleType, update: Any
) -> None:
    rows.connection.fail_after = "upsert people id.ada"
    with pytest.raises(ConnectionResetError):
        update({"ada": ADA})
    rows.connection.fail_after = None

    assert update({}) == ["delete people id.ada"]
    assert rows.connection.rows == {}


def test_after_failed_updates_every_state_the_row_may_have_is_shown_oldest_first(
    rows: ModuleType, update: Any
) -> None:
    versions = [{**ADA, "born": year} for year in (1815, 1816, 1817)]
    update({"ada": versions[0]})
    rows.connection.fail_after = "upsert people id.ada"
    for version in versions[1:]:
        with pytest.raises(ConnectionResetError):
            update({"ada": version})
    rows.connection.fail_after = None

    # Back to the first: the usual all(...) must not skip it.
    assert update({"ada": versions[0]}) == ["upsert people id.ada"]
    [(_, records, may_be_missing)] = rows.seen
    expected = [_fingerprint(version) for version in versions]
    assert [record.fingerprint for record in records] == expected
    assert not may_be_missing


def _fingerprint(data: dict[str, Any]) -> bytes:
    from cocoindex.connectorkits.fingerprint import fingerprint_object

    return fingerprint_object(data)


def test_the_provider_name_cannot_be_taken_twice(rows: ModuleType) -> None:
    handler = rows._RowHandler(rows.connection, "other")

    class _Other:
        reconcile = handler.reconcile

    with pytest.raises(ValueError, match="already registered"):
        coco.register_root_target_states_provider("mycompany.io/mydb/row", _Other())


def test_both_spellings_name_the_same_provider_class(rows: ModuleType) -> None:
    assert coco.TargetStatesProvider is coco.TargetStateProvider
    assert isinstance(rows._row_provider, coco.TargetStateProvider)


def test_each_handler_instance_has_its_own_sink(rows: ModuleType, host: Any) -> None:
    other = rows.DatabaseConnection()
    provider = coco.register_root_target_states_provider(
        "compat/other-table", rows._RowHandler(other, "places")
    )

    def main() -> None:
        rows.declare_people({"ada": ADA})
        rows.TableTarget(provider).declare_row(row={"name": "Rome"}, key=("rome",))

    host.update(main)
    assert rows.connection.log == ["upsert people id.ada"]
    assert other.log == ["upsert places rome"]
