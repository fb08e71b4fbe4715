from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import logging
import pickle
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from cocoindex import Runner, fn
from cocoindex.callables.decorated import AsyncFunction, SyncFunction
from cocoindex.engine.function import Function
from cocoindex.errors import DeserializationError, SerializationError

if TYPE_CHECKING:
    from missing_at_run_time import Absent


@fn
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@fn(memo=True)
async def add_later(a: int, b: int = 1) -> int:
    """Add later."""
    return a + b


@fn.as_async
def add_in_thread(a: int) -> str:
    return f"{a} {threading.current_thread() is threading.main_thread()}"


class Shop:
    name = "shop"

    @fn
    def price(self, item: str) -> str:
        return f"{self.name} {item}"

    @fn
    async def order(self, item: str) -> str:
        return f"{self.name} {item}"

    @fn.as_async
    def deliver(self, item: str) -> str:
        return f"{self.name} {item}"

    @staticmethod
    @fn
    def under_static(item: str) -> str:
        return item

    @fn
    @staticmethod
    def over_static(item: str) -> str:
        return item

    @classmethod
    @fn
    def under_class(cls, item: str) -> str:
        return f"{cls.name} {item}"

    @fn
    @classmethod
    def over_class(cls, item: str) -> str:
        return f"{cls.name} {item}"


class Outlet(Shop):
    name = "outlet"


async def test_sync_stays_sync_and_async_stays_async():
    assert add(1) == 2
    assert await add_later(1, b=3) == 4
    assert isinstance(add, SyncFunction)
    assert isinstance(add_later, AsyncFunction)
    assert (add.__coco_function__.is_async, add_later.__coco_function__.is_async) == (False, True)


def test_a_decorated_function_looks_like_the_original():
    for function, name in ((add, "add"), (add_later, "add_later")):
        assert function.__name__ == function.__qualname__ == name
        assert function.__doc__.startswith("Add")
        assert function.__module__ == __name__
        assert inspect.signature(function) == inspect.signature(function.__wrapped__)


def test_it_is_the_functions_own_view_that_the_engine_gets():
    assert isinstance(add.__coco_function__, Function)
    assert isinstance(Shop().price.__coco_function__, Function)
    assert add.__coco_function__.name == "add"
    assert Shop.price.__coco_function__.name == "Shop.price"


async def test_sync_functions_can_be_awaited_in_a_thread_with_their_context():
    variable = contextvars.ContextVar[str]("variable")
    variable.set("here")

    @fn
    def where() -> tuple[str, bool]:
        return variable.get(), threading.current_thread() is threading.main_thread()

    assert await where.as_async() == ("here", False)
    assert await add_in_thread(1) == "1 False"
    assert await add_later.as_async(1) == 2
    assert where.as_async is where.as_async


def test_the_awaited_twin_has_the_same_identity():
    one, twin = add.__coco_function__, add.as_async.__coco_function__
    assert one.call_key((1,), {}).fingerprint == twin.call_key((1,), {}).fingerprint
    assert one.logic() == twin.logic()
    assert twin.is_async


async def test_methods_bind():
    shop = Shop()
    assert shop.price("a") == Shop.price(shop, "a") == "shop a"
    assert await shop.order("b") == "shop b"
    assert await shop.deliver("c") == await shop.price.as_async("c") == "shop c"
    assert shop.price == shop.price
    assert hash(shop.price) == hash(shop.price)
    assert shop.price != Shop().price
    assert shop.price.__name__ == "price"


def test_static_and_class_methods_work_in_either_order():
    for owner, name in ((Shop, "shop"), (Outlet, "outlet"), (Outlet(), "outlet")):
        assert owner.under_static("x") == owner.over_static("x") == "x"
        assert owner.under_class("x") == owner.over_class("x") == f"{name} x"


def test_copies_are_the_function_itself():
    assert copy.copy(add) is copy.deepcopy(add) is add
    assert copy.deepcopy([add_later])[0] is add_later


def test_functions_pickle_by_name():
    sys.modules.setdefault(__name__, sys.modules[__name__])
    for function in (add, add_later, Shop.price, Shop.over_static):
        assert pickle.loads(pickle.dumps(function)) is function
    assert pickle.loads(pickle.dumps(add.as_async)) is add.as_async


def test_functions_that_no_module_has_do_not_pickle():
    @fn
    def local():
        return 1

    with pytest.raises(pickle.PicklingError, match="no module has it"):
        pickle.dumps(local)


def test_bound_methods_pickle_with_their_instance():
    assert pickle.loads(pickle.dumps(Shop().price))("x") == "shop x"
    assert pickle.loads(pickle.dumps(Outlet.under_class))("x") == "outlet x"
    assert pickle.loads(pickle.dumps(Outlet.over_class))("x") == "outlet x"


def test_decorating_twice_decorates_the_original():
    again = fn(memo=True)(add)
    assert again.__wrapped__ is add.__wrapped__


@pytest.mark.parametrize("bad", [5, Shop])
def test_only_functions_can_be_decorated(bad):
    with pytest.raises(TypeError, match="decorates functions"):
        fn(bad)


class Elsewhere(Runner):
    async def run(self, fn, *args, **kwargs):
        return await fn(*args, **kwargs)

    async def run_sync_fn(self, fn, *args, **kwargs):
        return fn(*args, **kwargs)


@pytest.mark.parametrize(
    "options", [{"batching": True}, {"max_batch_size": 3}, {"runner": Elsewhere()}]
)
def test_sync_functions_cannot_batch_or_have_a_runner(options):
    with pytest.raises(ValueError, match="as_async"):
        fn(**options)(lambda items: items)


def test_deps_need_logic_tracking():
    with pytest.raises(ValueError, match="deps= requires logic_tracking"):
        fn(deps=1, logic_tracking=None)(lambda x: x)


@pytest.mark.parametrize("options", [{"logic_tracking": "some"}, {"max_batch_size": 0}])
def test_other_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        fn.as_async(**options)(lambda x: x)


def test_a_runner_is_a_runner():
    with pytest.raises(TypeError, match="runner must be"):
        fn.as_async(runner=3)(lambda x: x)


def test_exceptions_cross_unchanged():
    @fn
    def fail():
        raise LookupError("own")

    with pytest.raises(LookupError, match="own"):
        fail()


# Results


def test_results_come_back_as_annotated():
    @fn(memo=True)
    def f() -> tuple[int, set[str]]:
        return 1, {"a"}

    function = f.__coco_function__
    assert function.decode_result(function.encode_result((1, {"a"}))) == (1, {"a"})


def test_annotations_that_do_not_resolve_say_nothing():
    @fn(memo=True)
    def f() -> Absent:
        return 1

    function = f.__coco_function__
    assert function.decode_result(function.encode_result([1])) == [1]


def test_results_that_cannot_be_stored_or_read_name_the_function():
    @fn(memo=True)
    def f() -> int:
        return 1

    function = f.__coco_function__
    with pytest.raises(SerializationError, match=r"f\(\)"):
        function.encode_result(threading.Lock())
    with pytest.raises(DeserializationError, match=r"return type of .*f\(\)"):
        function.decode_result(function.encode_result("text"))


def test_a_function_that_loses_types_is_warned_about_once(caplog):
    @fn(memo=True)
    def loses(x):
        return x

    @fn(memo=True)
    def annotated(x) -> dict[str, tuple[int, int]]:
        return x

    with caplog.at_level(logging.WARNING):
        for value in (1, {"a": [1]}, {"a": (1, 2)}, {"a": (1, 2)}):
            loses.__coco_function__.encode_result(value)
        annotated.__coco_function__.encode_result({"a": (1, 2)})
    [record] = caplog.records
    assert "loses() is memoized" in record.getMessage()


def test_async_callable_objects_can_be_decorated():
    class Greeter:
        async def __call__(self, name: str) -> str:
            return f"hello {name}"

    greet = fn(Greeter())
    assert asyncio.run(greet("you")) == "hello you"
