"""The authoring contract row by row: keys, and how they come back.

Deliberately without ``from __future__ import annotations``: authors' annotations are evaluated.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import pytest
from contract_handlers import Annotated, Container, DirKey, Recorder, SlottedRecord, declare

import cocoindex as coco


def test_12_a_named_tuple_key_comes_back_as_its_class_where_annotated(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)

    async def main() -> None:
        state = provider.target_state(key=DirKey(path="p"), spec=None)
        await coco.mount_target(state)

    host.update(main)
    host.update(lambda: None)
    for key, _, _, _ in container.seen:
        assert type(key) is DirKey
        assert key.path == "p"


def test_12_a_named_tuple_key_comes_back_as_the_base_class_says(host: Any, register: Any) -> None:
    class Handler(Recorder, coco.TargetHandler[DirKey, bytes, SlottedRecord]):
        def reconcile(self, key, desired_state, prev_possible_states, prev_may_be_missing, /):  # type: ignore[no-untyped-def]
            return self.decide(key, desired_state, prev_possible_states, prev_may_be_missing)

        def record(self, desired: Any) -> Any:
            return SlottedRecord(desired)

    handler = Handler()
    provider = register(handler)
    host.update(declare, provider, {DirKey("p"): b"1"})
    host.update(declare, provider, {})
    assert [type(key) for key, *_ in handler.seen] == [DirKey, DirKey]
    assert handler.seen[1][2:] == ([SlottedRecord(b"1")], False)


def test_12_nested_named_tuples_are_rebuilt_too(host: Any, register: Any) -> None:
    class Outer(NamedTuple):
        where: DirKey
        number: int

    class Handler(Recorder):
        def reconcile(
            self, key: Outer, desired: Any, prev: Collection[bytes], missing: bool, /
        ) -> Any:
            assert key.where.path == "p"
            return self.decide(key, desired, prev, missing)

    handler = Handler()
    provider = register(handler)
    host.update(declare, provider, {Outer(DirKey("p"), 3): b"1"})
    host.update(declare, provider, {})
    assert [type(key) for key, *_ in handler.seen] == [Outer, Outer]


def test_12_an_unannotated_key_arrives_as_a_plain_tuple(host: Any, register: Any) -> None:
    class Handler(Recorder):
        def reconcile(self, key, desired, prev, missing, /):  # type: ignore[no-untyped-def]
            return self.decide(key, desired, prev, missing)

    handler = Handler()
    provider = register(handler)
    host.update(declare, provider, {DirKey("p"): b"1"})
    host.update(declare, provider, {})
    assert type(handler.seen[1][0]) is tuple


@pytest.mark.parametrize("name", ["api/any", "with spaces", "näme", "", "a" * 600])
def test_22_any_string_names_a_root_provider(host: Any, name: str) -> None:
    handler = Annotated()
    provider = coco.register_root_target_states_provider(name, handler)
    host.update(declare, provider, {"a": b"1"})
    host.update(declare, provider, {})
    assert handler.actions() == [("upsert", "a"), ("delete", "a")]


@pytest.mark.parametrize(
    "key", [("id", "x"), ("", "\x00"), (1, True, None), (("n", b"\x00"), ()), "é", -7, b"", True]
)
def test_23_keys_are_restored_from_the_store_when_no_code_declares_them(
    host: Any, register: Any, key: Any
) -> None:
    class Handler(Recorder):
        def reconcile(self, key, desired, prev, missing, /):  # type: ignore[no-untyped-def]
            return self.decide(key, desired, prev, missing)

    handler = Handler()
    host.update(declare, register(handler), {key: b"1"})
    handler.actions()
    host.update(lambda: None)
    [(_, found)] = handler.actions()
    assert found == key
    assert type(found) is type(key)
