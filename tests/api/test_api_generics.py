"""How many type arguments the public generics take at run time.

Deliberately without ``from __future__ import annotations``: everything here is evaluated.
"""

import warnings
from typing import Any, Generic, Optional, ParamSpec, TypeVar, Union

import pytest

import cocoindex as coco

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Key: ...


class Value: ...


class Record: ...


ARGUMENTS = (Key, Value, Record, None)

ARITIES: dict[str, list[Any]] = {
    "TargetHandler": [Key, ARGUMENTS[:2], ARGUMENTS[:3], ARGUMENTS, ...],
    "TargetActionSink": [Value, (Value, None)],
    "TargetStateProvider": [Value, (Value, None), (Key, Value, None)],
    "TargetStatesProvider": [Value, (Value, None), (Key, Value, None)],
    "TargetState": [None, Value],
    "TargetReconcileOutput": [Value, ARGUMENTS[:2], ARGUMENTS[:3]],
    "ChildTargetDef": [Value],
    "ChildSlot": [Value],
    "PendingTargetStateProvider": [Value, (Value, None)],
    "ContextKey": [Value],
    "App": [([int, str], Value), ([], Value), (P, R), (..., Value)],
    "UpdateHandle": [Value],
    "UpdateSnapshot": [Value],
    "ResolvesTo": [Value, "Later"],
    "StateHandle": [Value],
}
CASES = [
    pytest.param(name, arguments, id=f"{name}-{index}")
    for name, accepted in ARITIES.items()
    for index, arguments in enumerate(accepted)
]


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_a_listed_count_of_arguments_is_accepted_without_a_warning(
    name: str, arguments: Any
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(coco, name)[arguments]


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_subscripted_forms_evaluate_inside_unions_and_containers(name: str, arguments: Any) -> None:
    form = getattr(coco, name)[arguments]
    assert (form | None) is not None
    assert (None | form) is not None
    assert (int | form | None) is not None
    assert Optional[form] is not None
    assert Union[form, str] is not None
    assert list[form].__args__ == (form,)
    assert dict[str, form] is not None
    assert tuple[form | None, ...] is not None


@pytest.mark.parametrize("arguments", ARITIES["TargetHandler"])
def test_a_handler_base_takes_any_listed_count(arguments: Any) -> None:
    class Handler(coco.TargetHandler[arguments]):  # type: ignore[valid-type, misc]
        __slots__ = ("conn",)

        def __init__(self, conn: str) -> None:
            self.conn = conn

        def reconcile(self, key: Any, desired: Any, prev: Any, missing: bool, /) -> None:
            return None

    handler = Handler("db")
    assert handler.conn == "db"
    assert handler.reconcile(1, 2, [], True) is None


def test_a_handler_base_works_bare_and_generic_in_the_user_s_own_variable() -> None:
    class Plain(coco.TargetHandler):  # type: ignore[type-arg]
        def reconcile(self, *args: Any) -> None:
            return None

    class Mine(coco.TargetHandler[str, T, bytes], Generic[T]):
        def reconcile(self, *args: Any) -> None:
            return None

    class Concrete(Mine[int]): ...

    assert (Plain().reconcile(), Mine().reconcile(), Concrete().reconcile()) == (None,) * 3


def test_subscripted_values_can_be_constructed() -> None:
    def apply(context_provider: Any, actions: Any) -> None: ...

    sink = coco.TargetActionSink[str, None].from_fn(apply)
    output = coco.TargetReconcileOutput[str, bytes, None]("action", sink, b"record")
    assert output == ("action", sink, b"record", None)
    assert coco.ChildTargetDef[Key]("handler").handler == "handler"
    assert coco.ContextKey[int]("api/generics").key == "api/generics"


def test_annotations_of_the_guides_evaluate_at_definition() -> None:
    def wrap(
        several: coco.TargetStatesProvider[str, Value, None],
        one: coco.TargetStateProvider[Key, Value, None],
        spec: Value | coco.NonExistenceType,
        outputs: list[coco.ChildTargetDef[Key] | None],
    ) -> coco.TargetReconcileOutput[Value, Record] | None: ...

    assert len(wrap.__annotations__) == 5


def test_a_user_class_may_carry_its_own_typestate() -> None:
    class Target(Generic[coco.MaybePendingS], coco.ResolvesTo["Target"]):  # noqa: PYI059
        def __init__(self, provider: object) -> None:
            self.provider = provider

    form = Target[coco.PendingS]
    assert form("p").provider == "p"
    assert Target[coco.ResolvedS] | None
    assert Target("p").provider == "p"
