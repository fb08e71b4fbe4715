"""The authoring contract row by row: attachments.

Deliberately without ``from __future__ import annotations``: authors' annotations are evaluated.
"""

from typing import Any

import pytest
from contract_handlers import Annotated, Container, DirKey, Recorder, TupleRecord, declare

import cocoindex as coco


class OnDemand(Annotated):
    def __init__(self) -> None:
        super().__init__()
        self.indexes = Annotated()

    def attachment(self, att_type: str) -> Any:
        return self.indexes if att_type == "vector_index" else None


class AllUpFront(Annotated):
    def __init__(self) -> None:
        super().__init__()
        self.indexes = Annotated()

    def attachments(self) -> dict[str, Any]:
        return {"vector_index": self.indexes}


@pytest.mark.parametrize("make", [OnDemand, AllUpFront])
@pytest.mark.parametrize("root", [True, False], ids=["root", "child"])
def test_16_attachments_follow_what_is_declared_under_either_protocol(
    host: Any, register: Any, make: Any, root: bool
) -> None:
    handler = make()
    provider = register(handler if root else Container(handler))

    async def main(states: dict[str, bytes], indexes: dict[str, bytes]) -> None:
        rows = provider
        if not root:
            rows = await coco.mount_target(provider.target_state(DirKey("x"), None))
        declare(rows, states)
        if indexes:
            attached = rows.attachment("vector_index")
            assert attached is rows.attachment("vector_index")
            declare(attached, indexes)

    host.update(main, {"i": b"row"}, {"i": b"index", "j": b"index"})
    assert handler.actions() == [("upsert", "i")]
    assert handler.indexes.actions() == [("upsert", "i"), ("upsert", "j")]

    host.update(main, {"i": b"row"}, {"i": b"index"})
    assert handler.indexes.actions() == [("delete", "j")]

    # Orphans: nobody asks for attachments in this run.
    host.update(main, {"i": b"row"}, {})
    assert handler.indexes.actions() == [("delete", "i")]
    assert handler.actions() == []


def test_17_the_record_of_an_attachment_may_hold_what_its_teardown_needs(
    host: Any, register: Any
) -> None:
    class Commands(Recorder, coco.TargetHandler[str, TupleRecord, TupleRecord]):
        def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
            if coco.is_non_existence(desired_state):
                teardown = [prev.teardown for prev in prev_possible_states]
                return coco.TargetReconcileOutput(teardown, self.sink, coco.NON_EXISTENCE)
            return self.decide(key, desired_state, prev_possible_states, prev_may_be_missing)

    class Rows(Annotated):
        commands = Commands()

        def attachment(self, att_type: str) -> Any:
            return self.commands

    provider = register(Rows())

    def main(commands: dict[str, TupleRecord]) -> None:
        if commands:
            declare(provider.attachment("sql"), commands)

    host.update(main, {"v": TupleRecord("v", "DROP VIEW v")})
    Rows.commands.actions()
    host.update(main, {})
    assert Rows.commands.actions() == [["DROP VIEW v"]]
