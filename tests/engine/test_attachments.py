"""Attachments of providers (§E6.5) and deletes of children before their container (§E5.6)."""

from __future__ import annotations

import pytest

import cocoindex as coco
from cocoindex.testing.targets import MemoryTree

sub = coco.component_subpath


def tree_of(on_demand, **options):
    return MemoryTree(
        attachments=("index", "trigger"),
        attachments_on_demand=on_demand,
        record=lambda value: value,
        **options,
    )


def body_of(tree, rows=(), index=(), *, container="D"):
    async def body():
        provider = await coco.mount_target(tree.container(container, "v"))
        for key in rows:
            coco.declare_target_state(provider.target_state(key, 1))
        for key in index:
            attachment = provider.attachment("index")
            coco.declare_target_state(attachment.target_state(key, 1))

    return body


@pytest.mark.parametrize("on_demand", [False, True])
class TestAttachments:
    async def test_children_and_attachments_never_collide(self, bench, on_demand):
        tree = tree_of(on_demand)

        await bench.run(body_of(tree, ["index", "a"], ["a"]))

        assert tree.children("D") == {
            "index": 1,
            "a": 1,
        }
        assert tree.attached("D", kind="index") == {"a": 1}

    async def test_orphans_go_although_the_attachment_is_never_asked_for(self, bench, on_demand):
        tree = tree_of(on_demand)
        await bench.run(body_of(tree, ["a"], ["x", "y"]))
        tree.take()

        await bench.run(body_of(tree, ["a"], ["x"]))
        assert tree.take() == [("delete", ("D", coco.Symbol("index"), "y"), None)]
        bench.reopen()
        await bench.run(body_of(tree, ["a"]))

        assert tree.take() == [("delete", ("D", coco.Symbol("index"), "x"), None)]

    async def test_repeated_calls_return_the_same_provider(self, bench, on_demand):
        tree = tree_of(on_demand)

        async def body():
            provider = await coco.mount_target(tree.container("D", "v"))
            assert provider.attachment("index") is provider.attachment("index")
            assert provider.attachment("index") is not provider.attachment("trigger")

        await bench.run(body)

    async def test_an_unknown_type_is_refused(self, bench, on_demand):
        tree = tree_of(on_demand)

        async def body():
            provider = await coco.mount_target(tree.container("D", "v"))
            with pytest.raises(ValueError, match="does not support attachment type"):
                provider.attachment("view")

        await bench.run(body)

    async def test_a_destructive_change_forgets_attachments_too(self, bench, on_demand):
        tree = tree_of(on_demand)
        await bench.run(body_of(tree, ["a"], ["x", "gone"]))
        tree.invalidations["D",] = "destructive"
        tree.take()

        await bench.run(body_of(tree, ["a"], ["x"]))

        assert tree.take() == [
            ("replace", ("D",), "v"),
            ("put", ("D", "a"), 1),
            ("put", ("D", coco.Symbol("index"), "x"), 1),
        ]

    async def test_attachments_hang_on_root_providers_as_well(self, bench, on_demand):
        tree = tree_of(on_demand)

        def body(*keys):
            attachment = tree.provider.attachment("index")
            for key in keys:
                coco.declare_target_state(attachment.target_state(key, 1))

        await bench.run(lambda: body("a", "b"))
        assert tree.children(coco.Symbol("index")) == {"a": 1, "b": 1}
        await bench.run(lambda: body("a"))
        await bench.run(lambda: None)
        assert tree.rows == {}


async def test_a_pending_provider_has_no_attachments(bench):
    tree = tree_of(False)

    async def body():
        provider = coco.declare_target_state_with_child(tree.container("D", "v"))
        with pytest.raises((ValueError, RuntimeError)):
            provider.attachment("index")

    await bench.run(body)


async def test_an_attachment_needs_a_component(bench):
    with pytest.raises(RuntimeError, match="No ComponentContext available"):
        tree_of(False).provider.attachment("index")


class TestChildrenFirst:
    """A container that can't be dropped with its children inside."""

    def _body(self, tree, components=("x", "y", "z"), *, mounted=True):
        async def row(provider, key):
            coco.declare_target_state(provider.target_state(key, 1))

        async def body():
            if not mounted:
                return
            provider = await coco.mount_target(tree.container("D", "v"))
            coco.declare_target_state(provider.target_state("own", 1))
            for key in components:
                await coco.mount(sub(key), row, provider, key)

        return body

    def _tree(self, **options):
        return MemoryTree(
            handlers_from="factory",
            record=lambda value: value,
            **{"children_first": True, **options},
        )

    async def test_children_of_every_component_go_before_the_container(self, bench):
        tree = self._tree()
        await bench.run(self._body(tree))
        tree.take()

        await bench.run(self._body(tree, mounted=False))

        actions = tree.take()
        assert sorted(actions[:-1]) == [("delete", ("D", key), None) for key in ("own", *"xyz")]
        assert actions[-1] == ("delete", ("D",), None)
        assert tree.rows == {}
        assert await bench.owners() == {}

    async def test_a_failed_child_keeps_the_container_for_the_next_run(self, bench):
        tree = self._tree()
        await bench.run(self._body(tree))
        with tree.failing(key=("D", "y")):
            await bench.run(self._body(tree, mounted=False))
        assert ("D",) in tree.rows
        assert ("D", "y") in tree.rows

        await bench.run(self._body(tree, mounted=False))

        assert tree.rows == {}
        assert await bench.owners() == {}

    async def test_the_answer_may_depend_on_key_and_record(self, bench):
        tree = self._tree(children_first=lambda key, record: key == "D" and record == "v")
        await bench.run(self._body(tree))
        tree.take()

        await bench.run(self._body(tree, mounted=False))

        assert tree.rows == {}
        assert len(tree.take()) == 5

    async def test_without_a_factory_children_are_forgotten_with_a_warning(self, bench, caplog):
        asked = MemoryTree(
            handlers_from="sink", record=lambda v: v, children_first=lambda key, record: True
        )
        await bench.run(self._body(asked, ("x",)))
        asked.rows.clear()  # as if somebody emptied it, so that the container can go
        asked.take()

        await bench.run(self._body(asked, mounted=False))

        assert asked.take() == [("delete", ("D",), None)]
        assert "WARNING" in {record.levelname for record in caplog.records}

    async def test_drop_deletes_children_first_too(self, bench):
        tree = self._tree()
        await bench.run(self._body(tree))

        await bench.app.drop()

        assert tree.rows == {}
