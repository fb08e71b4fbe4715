"""Containers, generations, attachments, deletes inside containers: §E5.6, §E6."""

from __future__ import annotations

import pytest

import cocoindex as coco
from cocoindex.testing.targets import LOST, InjectedFailure, MemoryTree

sub = coco.component_subpath


def same(value):
    return value


@pytest.fixture
def tree():
    return MemoryTree(record=same)


def filling(tree, rows, *, value="v", name="D"):
    """A main body: one container with ``rows``, declared by the caller of mount_target."""

    async def body():
        provider = await coco.mount_target(tree.container(name, value))
        for key, row in rows.items():
            coco.declare_target_state(provider.target_state(key, row))

    return body


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("handlers_from", ["sink", "factory"])
async def test_rows_of_a_container_are_kept_in_step(bench, handlers_from, sync):
    tree = MemoryTree(handlers_from=handlers_from, sync=sync, record=same)
    await bench.run(filling(tree, {"a": 1, "b": 2}))
    assert tree.rows == {("D",): "v", ("D", "a"): 1, ("D", "b"): 2}
    assert tree.take()[0] == ("put", ("D",), "v")

    await bench.run(filling(tree, {"a": 1, "b": 3}))
    assert tree.take() == [("put", ("D", "b"), 3)]
    await bench.run(filling(tree, {"b": 3}))
    assert tree.take() == [("delete", ("D", "a"), None)]
    await bench.run(filling(tree, {"b": 3}))
    assert tree.take() == []


async def test_an_undeclared_container_takes_its_rows_along(bench, tree):
    await bench.run(filling(tree, {"a": 1, "b": 2}))
    tree.take()

    await bench.run(lambda: None)

    assert tree.take() == [("delete", ("D",), None)]
    assert tree.rows == {}
    assert await bench.owners() == {}


async def test_a_container_that_comes_back_gets_its_rows_again(bench, tree):
    for _ in range(2):
        await bench.run(filling(tree, {"a": 1, "b": 2}))
        assert tree.children("D") == {"a": 1, "b": 2}
        await bench.run(lambda: None)
        assert tree.rows == {}


async def test_rows_declared_by_other_components_are_forgotten_with_the_container(bench, tree):
    async def row(provider, key):
        coco.declare_target_state(provider.target_state(key, 1))

    async def body():
        provider = await coco.mount_target(tree.container("D", "v"))
        for key in "abc":
            await coco.mount(sub(key), row, provider, key)

    await bench.run(body)
    assert tree.children("D") == {"a": 1, "b": 1, "c": 1}
    tree.take()

    await bench.run(lambda: None)

    assert tree.take() == [("delete", ("D",), None)]
    assert await bench.owners() == {}
    assert await bench.paths() == ["/"]


async def test_containers_nest(bench):
    tree = MemoryTree(levels=2, record=same)

    async def body(rows):
        outer = await coco.mount_target(tree.container("O", "o"))
        inner = await coco.mount_target(outer.target_state("I", "i"))
        for key in rows:
            coco.declare_target_state(inner.target_state(key, 1))

    await bench.run(lambda: body("ab"))
    assert tree.rows == {("O",): "o", ("O", "I"): "i", ("O", "I", "a"): 1, ("O", "I", "b"): 1}
    tree.take()
    await bench.run(lambda: body("b"))
    assert tree.take() == [("delete", ("O", "I", "a"), None)]
    await bench.run(lambda: None)
    assert tree.take() == [("delete", ("O",), None)]
    assert await bench.owners() == {}


async def test_a_returned_wrapper_with_a_pending_provider_works(bench, tree):
    class Handle:
        def __init__(self, provider):
            self.provider = provider

    made = []

    @coco.fn
    async def setup():
        made.append(Handle(coco.declare_target_state_with_child(tree.container("D", "v"))))
        return made[-1]

    async def body():
        handle = await coco.use_mount(sub("setup"), setup)
        assert handle is made[-1]
        coco.declare_target_state(handle.provider.target_state("a", 1))

    await bench.run(body)
    assert tree.children("D") == {"a": 1}


async def test_a_pending_provider_is_refused_at_the_declaration(bench, tree):
    async def body():
        provider = coco.declare_target_state_with_child(tree.container("D", "v"))
        with pytest.raises(RuntimeError, match="mount_target"):
            coco.declare_target_state(provider.target_state("a", 1))

    await bench.run(body)


async def test_non_existence_is_no_value_of_a_container(bench, tree):
    async def body():
        with pytest.raises(ValueError):
            coco.declare_target_state_with_child(tree.container("D", coco.NON_EXISTENCE))

    await bench.run(body)


async def test_the_path_of_a_mounted_target_is_derived(bench):
    await bench.run(filling(MemoryTree("test/containers/path", record=same), {}))

    assert await bench.paths() == [
        "/",
        "/@cocoindex/mount_target",
        '/@cocoindex/mount_target/[@test/containers/path,"D"]',
    ]


class TestInvalidation:
    async def test_destructive_inserts_every_declared_child_as_new(self, bench, tree):
        await bench.run(filling(tree, {"a": 1, "b": 2, "gone": 3}))
        tree.invalidations["D",] = "destructive"
        tree.take()

        await bench.run(filling(tree, {"a": 1, "b": 2}, value="v2"))

        assert tree.reconciled[1:] == [(("D", "a"), 1, (), True), (("D", "b"), 2, (), True)]
        assert tree.take() == [
            ("replace", ("D",), "v2"),
            ("put", ("D", "a"), 1),
            ("put", ("D", "b"), 2),
        ]
        await bench.run(filling(tree, {"a": 1, "b": 2}, value="v2"))
        assert tree.take() == []

    async def test_lossy_upserts_every_child_once(self, bench, tree):
        await bench.run(filling(tree, {"a": 1, "b": 2}))
        tree.invalidations["D",] = "lossy"
        tree.take()

        await bench.run(filling(tree, {"a": 1}, value="v2"))

        assert tree.reconciled[1:] == [
            (("D", "a"), 1, (1,), True),
            (("D", "b"), coco.NON_EXISTENCE, (2,), True),
        ]
        assert tree.children("D") == {"a": 1}
        tree.take()
        await bench.run(filling(tree, {"a": 1}, value="v2"))
        assert tree.reconciled[1:] == [(("D", "a"), 1, (1,), False)]

    @pytest.mark.parametrize("kind", ["lossy", "destructive"])
    async def test_memoized_children_that_captured_the_provider_run_exactly_once(
        self, bench, tree, ran, kind
    ):
        state = {}

        class Holder:
            """Opaque, so what it holds is not part of any memo key."""

            def declare(self, key):
                coco.declare_target_state(state["provider"].target_state(key, 1))

        holder = Holder()

        @coco.fn(memo=True)
        async def child(key: str) -> None:
            ran(key)
            holder.declare(key)

        async def body(value):
            state["provider"] = await coco.mount_target(tree.container("D", value))
            await coco.mount_each(sub("c"), child, [(k, k) for k in "ab"])

        await bench.run(lambda: body("v"))
        await bench.run(lambda: body("v"))
        assert sorted(ran.take()) == ["a", "b"]

        tree.invalidations["D",] = kind
        await bench.run(lambda: body("v2"))
        assert sorted(ran.take()) == ["a", "b"]
        assert tree.children("D") == {"a": 1, "b": 1}

        tree.take()
        await bench.run(lambda: body("v2"))
        assert ran.take() == []
        assert tree.take() == []

    @pytest.mark.parametrize("kind", ["lossy", "destructive"])
    async def test_it_survives_a_run_that_dies_before_the_children(self, bench, tree, kind):
        await bench.run(filling(tree, {"a": 1}))
        tree.invalidations["D",] = kind

        async def dies():
            await coco.mount_target(tree.container("D", "v2"))
            raise ZeroDivisionError

        await bench.fails(dies)
        assert tree.children("D") == ({"a": LOST} if kind == "lossy" else {})

        await bench.run(filling(tree, {"a": 1}, value="v2"))
        assert tree.children("D") == {"a": 1}

    async def test_a_lossy_change_reaches_an_outer_memo_rebuilt_over_an_inner_hit(
        self, bench, tree, ran
    ):
        state = {}

        class Holder:
            def declare(self, key):
                coco.declare_target_state(state["provider"].target_state(key, 1))

        holder = Holder()

        @coco.fn(memo=True)
        async def inner() -> None:
            ran("inner")
            holder.declare("k")

        @coco.fn(memo=True)
        async def outer(n: int) -> None:
            ran("outer")
            await inner()

        async def calls(n):
            await outer(n)

        async def body(value, n):
            state["provider"] = await coco.mount_target(tree.container("D", value))
            await coco.mount(sub("c"), calls, n)

        await bench.run(lambda: body("v", 1))
        assert ran.take() == ["outer", "inner"]
        await bench.run(lambda: body("v", 2))
        assert ran.take() == ["outer"]
        tree.invalidations["D",] = "lossy"

        await bench.run(lambda: body("v2", 2))

        assert ran.take() == ["outer", "inner"]
        assert tree.children("D") == {"k": 1}


class TestHandlerProblems:
    async def test_a_container_that_answers_none_is_named(self, bench):
        class Silent(coco.TargetHandler[str, str, str]):
            def reconcile(self, key, desired, prev, missing, /):
                return None

        root = coco.register_root_target_states_provider("test/containers/silent", Silent())

        async def body():
            provider = await coco.mount_target(root.target_state("D", "v"))
            coco.declare_target_state(provider.target_state("a", 1))

        error = await bench.fails(body)
        assert "reconcile() returned None" in str(error)
        assert '"D"' in str(error)

    @pytest.mark.parametrize(
        ("result", "message"),
        [(lambda n: [None] * (n + 1), r"\b2\b.*\b1\b|\b1\b.*\b2\b"), (lambda n: [None] * n, "D")],
    )
    async def test_wrong_answers_of_a_container_sink(self, bench, result, message, request):
        sink = coco.TargetActionSink.from_fn(lambda _provider, actions: result(len(actions)))

        class Handler:
            def reconcile(self, key, desired, prev, missing, /):
                return coco.TargetReconcileOutput("act", sink, "record")

        root = coco.register_root_target_states_provider(request.node.name, Handler())

        async def body():
            await coco.mount_target(root.target_state("D", "v"))

        error = await bench.fails(body)
        assert isinstance(error, ValueError)
        import re

        assert re.search(message, str(error))
        assert "/@" not in str(await bench.items())

    async def test_a_leaf_that_gets_a_child_handler_is_refused(self, bench, request):
        sink = coco.TargetActionSink.from_fn(
            lambda _provider, actions: [coco.ChildTargetDef(handler=handler)]
        )

        class Handler:
            def reconcile(self, key, desired, prev, missing, /):
                return coco.TargetReconcileOutput("act", sink, "record")

        handler = Handler()
        root = coco.register_root_target_states_provider(request.node.name, handler)
        error = await bench.fails(lambda: coco.declare_target_state(root.target_state("D", "v")))
        assert isinstance(error, ValueError)


async def test_a_failing_container_sink_fails_the_caller_and_heals(bench, tree):
    with tree.failing("after", key=("D",)), pytest.raises(InjectedFailure):
        await bench.run(filling(tree, {"a": 1}))
    assert tree.rows == {("D",): "v"}
    tree.take()

    await bench.run(filling(tree, {"a": 1}))

    assert tree.take() == [("put", ("D",), "v"), ("put", ("D", "a"), 1)]
