"""Looking into the store: paths, details and target states."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco
from cocoindex import inspect as coco_inspect

APP = "inspected"


class _Dicts:
    """Container handler: named dictionaries in memory."""

    def __init__(self) -> None:
        self.data: dict[str, dict[Any, Any]] = {}
        self._sink = coco.TargetActionSink.from_fn(self._apply)

    def reconcile(
        self, key: Any, desired: Any, prev: list[Any], missing: bool, /
    ) -> coco.TargetReconcileOutput[Any, Any, Any]:
        gone = coco.is_non_existence(desired)
        record = coco.NON_EXISTENCE if gone else None
        return coco.TargetReconcileOutput((key, gone), self._sink, record)

    def _apply(self, context_provider: Any, actions: Any) -> list[Any]:
        outputs: list[Any] = []
        for key, gone in actions:
            if gone:
                self.data.pop(key, None)
                outputs.append(None)
            else:
                items = self.data.setdefault(key, {})
                outputs.append(coco.ChildTargetDef(_Items(items)))
        return outputs


class _Items:
    def __init__(self, items: dict[Any, Any]) -> None:
        self._items = items
        self._sink = coco.TargetActionSink.from_fn(self._apply)

    def reconcile(
        self, key: Any, desired: Any, prev: list[Any], missing: bool, /
    ) -> coco.TargetReconcileOutput[Any, Any, Any] | None:
        if coco.is_non_existence(desired):
            return coco.TargetReconcileOutput((key, None), self._sink, coco.NON_EXISTENCE)
        if not missing and list(prev) == [desired]:
            return None
        return coco.TargetReconcileOutput((key, desired), self._sink, desired)

    def _apply(self, context_provider: Any, actions: Any) -> None:
        for key, value in actions:
            if value is None:
                self._items.pop(key, None)
            else:
                self._items[key] = value


dicts = _Dicts()
provider = coco.register_root_target_states_provider("test/dicts", dicts)


@coco.fn(memo=True)
def memoized(value: int) -> int:
    return value + 1


@coco.fn
def fill(target: Any, name: str, value: int) -> None:
    coco.declare_target_state(target.target_state(name, memoized(value)))


class Gate:
    """Where an update can be held."""

    def __init__(self) -> None:
        self.reached, self._open = threading.Event(), threading.Event()
        self._open.set()

    def close(self) -> None:
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def pass_through(self) -> None:
        self.reached.set()
        assert self._open.wait(60)


async def main(values: dict[str, int], gate: Gate) -> None:
    await asyncio.to_thread(gate.pass_through)
    target = await coco.mount_target(provider.target_state("D1", None))
    for name, value in values.items():
        await coco.mount(coco.component_subpath("item", name), fill, target, name, value)


VALUES = {"a": 1, "b": 2}
MOUNTED = '/@cocoindex/mount_target/[@test/dicts,"D1"]'
PATHS = [
    ("/", "Component"),
    ("/@cocoindex/mount_target", "Directory"),
    (MOUNTED, "Component"),
    ('/"item"', "Directory"),
    ('/"item"/"a"', "Component"),
    ('/"item"/"b"', "Component"),
]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[coco.Environment]:
    environment = coco.Environment(coco.Settings(db_path=tmp_path / "db"))
    yield environment
    environment.close()


@pytest.fixture
def values() -> dict[str, int]:
    return dict(VALUES)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def app(environment: coco.Environment, values: dict[str, int], gate: Gate) -> Any:
    app: Any = coco.App(coco.AppConfig(APP, environment), main, values, gate)
    return app


@pytest.fixture
def updated(app: Any) -> Any:
    app.update_blocking()
    return app


async def collect(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


def shown(infos: list[Any]) -> list[tuple[str, str]]:
    return [(str(info.path), str(info.node_type)) for info in infos]


def test_paths_are_listed_depth_first_in_key_order(updated: Any) -> None:
    assert shown(coco_inspect.list_stable_paths_info_sync(updated)) == PATHS
    assert [str(path) for path in coco_inspect.list_stable_paths_sync(updated)] == [
        path for path, _ in PATHS
    ]


async def test_every_way_of_listing_agrees(updated: Any, environment: coco.Environment) -> None:
    assert shown(await collect(coco_inspect.iter_stable_paths(updated))) == PATHS
    by_name = coco_inspect.iter_stable_paths_by_name(environment, APP)
    assert shown(await collect(by_name)) == PATHS
    listed = await coco_inspect.list_stable_paths(updated)
    assert [str(path) for path in listed] == [path for path, _ in PATHS]


async def test_the_sync_variants_work_while_a_loop_runs(updated: Any) -> None:
    assert len(coco_inspect.list_stable_paths_sync(updated)) == len(PATHS)
    assert len(coco_inspect.list_stable_paths_info_sync(updated)) == len(PATHS)


def test_paths_are_stable_paths_and_wrapping_them_changes_nothing(updated: Any) -> None:
    for path in coco_inspect.list_stable_paths_sync(updated):
        assert isinstance(path, coco.StablePath)
        assert coco.StablePath(path) == path


def test_node_types_are_comparable(updated: Any) -> None:
    kinds = {
        str(info.path): info.node_type for info in coco_inspect.list_stable_paths_info_sync(updated)
    }
    factory = coco_inspect.StablePathNodeType
    assert kinds["/"] == factory.component()
    assert kinds['/"item"'] == factory.directory()
    assert factory.component() != factory.directory()


def test_an_app_that_never_ran_has_no_paths(app: Any) -> None:
    assert coco_inspect.list_stable_paths_sync(app) == []


async def test_an_unknown_app_is_empty_or_none(environment: coco.Environment) -> None:
    assert await collect(coco_inspect.iter_stable_paths_by_name(environment, "nobody")) == []
    assert await collect(coco_inspect.iter_target_states_by_name(environment, "nobody")) == []
    details = coco_inspect.iter_stable_path_details_by_name(environment, "nobody")
    assert await collect(details) == []
    detail = await coco_inspect.get_stable_path_detail_by_name(
        environment, "nobody", coco.ROOT_PATH
    )
    assert detail is None


async def test_everything_is_empty_after_drop(updated: Any) -> None:
    await updated.drop()
    assert await coco_inspect.list_stable_paths(updated) == []
    assert await collect(coco_inspect.iter_target_states(updated)) == []
    assert await collect(coco_inspect.iter_stable_path_details(updated)) == []


async def test_a_directory_goes_away_with_its_last_component(
    updated: Any, values: dict[str, int]
) -> None:
    values.clear()
    await updated.update()
    assert shown(await collect(coco_inspect.iter_stable_paths(updated))) == PATHS[:3]


async def test_a_detail_tells_what_the_component_tracks(updated: Any) -> None:
    path = coco.ROOT_PATH / "item" / "a"
    detail = await coco_inspect.get_stable_path_detail(updated, path)
    assert detail.path == path
    assert str(detail.node_type) == "Component"
    assert detail.version >= 1
    assert detail.processor_name == "fill"
    assert detail.target_state_count == 1

    [item] = detail.target_state_items
    assert item.key == "a"
    assert item.target_state_path.startswith('/@test/dicts/"D1"/"a"')
    assert [str(state.state) for state in item.states] == ["Existing"]
    assert all(isinstance(state.version, int) for state in item.states)
    assert item.provider_generation is None


async def test_the_container_shows_the_generation_of_its_children(updated: Any) -> None:
    details = await collect(coco_inspect.iter_stable_path_details(updated))
    items = {i.key: i for d in details for i in d.target_state_items}
    generation = items["D1"].provider_generation
    assert (generation.provider_id, generation.provider_schema_version) == (0, 0)
    assert "[provider_id=" in items["a"].target_state_path


async def test_a_component_without_target_states_has_an_empty_detail(updated: Any) -> None:
    detail = await coco_inspect.get_stable_path_detail(updated, coco.ROOT_PATH / "item")
    assert (detail.version, detail.processor_name) == (0, "")
    assert (detail.target_state_count, detail.target_state_items) == (0, [])
    assert str(detail.node_type) == "Directory"


async def test_details_of_every_path_come_in_the_order_of_paths(
    updated: Any, environment: coco.Environment
) -> None:
    details = await collect(coco_inspect.iter_stable_path_details(updated))
    assert shown(details) == PATHS
    by_name = coco_inspect.iter_stable_path_details_by_name(environment, APP)
    assert shown(await collect(by_name)) == PATHS


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ['/"item"']),
        ({"include_children": True}, ['/"item"', '/"item"/"a"', '/"item"/"b"']),
        ({"include_parents": True}, ["/", '/"item"']),
        (
            {"include_parents": True, "include_children": True, "recursive": True},
            ["/", '/"item"', '/"item"/"a"', '/"item"/"b"'],
        ),
    ],
)
async def test_a_query_adds_parents_and_children(
    updated: Any, environment: coco.Environment, options: dict[str, bool], expected: list[str]
) -> None:
    path = coco.ROOT_PATH / "item"
    found = await coco_inspect.query_stable_path_details(updated, path, **options)
    assert [str(detail.path) for detail in found] == expected
    by_name = await coco_inspect.query_stable_path_details_by_name(
        environment, APP, path, **options
    )
    assert [str(detail.path) for detail in by_name] == expected


async def test_children_of_the_root_are_one_level_unless_recursive(updated: Any) -> None:
    async def paths(**options: bool) -> list[str]:
        found = await coco_inspect.query_stable_path_details(
            updated, coco.ROOT_PATH, include_children=True, **options
        )
        return [str(detail.path) for detail in found]

    assert await paths() == ["/", "/@cocoindex/mount_target", '/"item"']
    assert await paths(recursive=True) == [path for path, _ in PATHS]


async def test_memoization_is_shown_where_it_is(environment: coco.Environment) -> None:
    @coco.fn(memo=True)
    def leaf() -> None: ...

    async def main() -> None:
        await coco.mount(coco.component_subpath("memo"), leaf)

    app: Any = coco.App(coco.AppConfig("memo", environment), main)
    await app.update()
    details = await collect(coco_inspect.iter_stable_path_details(app))
    assert {str(d.path): d.has_memoization for d in details} == {"/": False, '/"memo"': True}


async def test_target_states_are_listed_with_their_owners(
    updated: Any, environment: coco.Environment
) -> None:
    entries = await collect(coco_inspect.iter_target_states(updated))
    assert {e.readable_path: str(e.owner_component_path) for e in entries} == {
        '/@test/dicts/"D1"': MOUNTED,
        '/@test/dicts/"D1"/"a"': '/"item"/"a"',
        '/@test/dicts/"D1"/"b"': '/"item"/"b"',
    }
    assert not any(entry.dangling for entry in entries)
    segments = {tuple(entry.readable_segments) for entry in entries}
    assert ("@test/dicts", '"D1"', '"a"') in segments
    by_name = await collect(coco_inspect.iter_target_states_by_name(environment, APP))
    assert [e.readable_path for e in by_name] == [e.readable_path for e in entries]


_OTHER_PROCESS = """
import asyncio, json, sys
import cocoindex as coco
from cocoindex import inspect

async def main():
    environment = coco.Environment(coco.Settings(db_path=sys.argv[1]))
    paths = [str(i.path) async for i in inspect.iter_stable_paths_by_name(environment, sys.argv[2])]
    states = [e.readable_path async for e in
              inspect.iter_target_states_by_name(environment, sys.argv[2])]
    print(json.dumps([paths, states]))

asyncio.run(main())
"""


def test_another_process_reads_a_snapshot_during_an_update(
    updated: Any, tmp_path: Path, gate: Gate, run_python: Callable[..., str]
) -> None:
    """Names are readable there though the app's module is not imported."""
    gate.close()
    running = threading.Thread(target=updated.update_blocking)
    running.start()
    try:
        assert gate.reached.wait(60)
        paths, states = json.loads(run_python(_OTHER_PROCESS, str(tmp_path / "db"), APP))
    finally:
        gate.open()
        running.join()
    assert paths == [path for path, _ in PATHS]
    assert '/@test/dicts/"D1"/"b"' in states
