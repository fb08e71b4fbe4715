"""The authoring contract row by row: containers, pending providers, invalidation.

Deliberately without ``from __future__ import annotations``: authors' annotations are evaluated.
"""

import warnings
from typing import Any, cast

import pytest
from contract_handlers import Annotated, Container, DirKey, declare, fill

import cocoindex as coco


def test_11_a_container_sink_returns_children_for_all_but_deletes_without_a_warning(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)

    async def main(paths: list[str]) -> None:
        for path in paths:
            await fill(provider, path, {"f": path.encode()})

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        host.update(main, ["x", "y"])
        host.update(main, ["x"])
    assert sorted(container.actions()) == [
        ("delete", ("y",)),
        ("ensure", ("x",)),
        ("ensure", ("x",)),
        ("ensure", ("y",)),
    ]
    assert container.children.actions() == [("upsert", "f"), ("upsert", "f")]


@pytest.mark.parametrize(
    ("returned", "error"),
    [
        ([], "0"),
        ([None], "fulfilled"),
        (None, "fulfilled"),
        ([coco.ChildTargetDef(cast("Any", object()))], "reconcile"),
    ],
)
def test_11_a_sink_that_breaks_the_contract_fails_the_component(
    host: Any, register: Any, container: Container, returned: Any, error: str
) -> None:
    container.sink = coco.TargetActionSink.from_fn(lambda provider, actions: returned)
    with pytest.raises((ValueError, TypeError), match=error):
        host.update(fill, register(container), "x", {})


def test_11_a_child_for_an_action_without_child_provider_is_refused(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)
    with pytest.raises(ValueError, match=r"(?i)child"):
        host.update(declare, provider, {DirKey("x"): None})


def test_13_an_object_holding_the_pending_provider_works_once_use_mount_returns(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)
    built: list[Any] = []

    class DirTarget:
        def __init__(self, child: Any) -> None:
            self._child = child

        def declare_file(self, name: str, content: bytes) -> None:
            coco.declare_target_state(self._child.target_state(name, content))

    @coco.fn
    def declare_dir(path: str) -> DirTarget:
        parent = provider.target_state(DirKey(path), None)
        built.append(DirTarget(coco.declare_target_state_with_child(parent)))
        return cast("DirTarget", built[-1])

    async def main() -> None:
        target = await coco.use_mount(coco.component_subpath("dir"), declare_dir, "x")
        assert target is built[-1]
        target.declare_file("f", b"1")

    host.update(main)
    assert container.children.actions() == [("upsert", "f")]


def test_13_declaring_on_a_provider_still_pending_is_refused_at_once(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)

    def main() -> None:
        child = coco.declare_target_state_with_child(provider.target_state(DirKey("x"), None))
        with pytest.raises(RuntimeError, match="mount_target"):
            coco.declare_target_state(child.target_state("f", b"1"))

    host.update(main)


def test_14_mount_target_does_it_in_one_call(
    host: Any, register: Any, container: Container
) -> None:
    host.update(fill, register(container), "x", {"f": b"1"})
    assert container.actions() == [("ensure", ("x",))]
    assert container.children.actions() == [("upsert", "f")]


def test_15_casts_of_target_states_evaluate(host: Any, register: Any) -> None:
    handler = Annotated()
    provider = register(handler)

    def main() -> None:
        coco.declare_target_state(cast("coco.TargetState[None]", provider.target_state("a", b"1")))

    host.update(main)
    assert handler.actions() == [("upsert", "a")]


def test_18_a_lossy_container_shows_records_but_doubts_them_once(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)
    host.update(fill, provider, "x", {"f": b"1"})
    container.invalidation = "lossy"
    host.update(fill, provider, "x", {"f": b"1"})
    container.invalidation = None
    host.update(fill, provider, "x", {"f": b"1"})
    assert [call[2:] for call in container.children.seen] == [
        ([], True),
        ([b"1"], True),
        ([b"1"], False),
    ]


def test_18_a_destructive_container_makes_children_new_and_forgets_the_others(
    host: Any, register: Any, container: Container
) -> None:
    provider = register(container)
    host.update(fill, provider, "x", {"f": b"1", "g": b"1"})
    container.children.seen.clear()
    container.invalidation = "destructive"
    host.update(fill, provider, "x", {"f": b"1"})
    container.invalidation = None
    host.update(fill, provider, "x", {"f": b"1"})
    assert container.children.seen == [("f", b"1", [], True), ("f", b"1", [b"1"], False)]


def test_19_provider_and_sentinel_annotations_evaluate_at_definition() -> None:
    def wrap(
        several: coco.TargetStatesProvider[str, bytes, None],
        one: coco.TargetStateProvider[DirKey, bytes, None],
        spec: bytes | coco.NonExistenceType,
    ) -> None: ...

    assert len(wrap.__annotations__) == 4
