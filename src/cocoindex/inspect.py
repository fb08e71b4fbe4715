"""Looking into the persisted state of apps.

Everything reads one consistent snapshot, needs none of the app's own modules, and may run
during an update, also from another process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from cocoindex.core.paths import StablePath
from cocoindex.engine import inspection
from cocoindex.engine.app import App
from cocoindex.engine.environment import Environment
from cocoindex.engine.inspection import (
    ProviderGeneration,
    StablePathDetail,
    StablePathInfo,
    StablePathNodeType,
    StateSummary,
    TargetStateEntry,
    TargetStateItem,
)
from cocoindex.engine.lifespan import LazyEnvironment
from cocoindex.engine.loops import background_loop, submit
from cocoindex.state.base import SectionSnapshot

__all__ = [
    "ProviderGeneration",
    "StablePathDetail",
    "StablePathInfo",
    "StablePathNodeType",
    "StateSummary",
    "TargetStateEntry",
    "TargetStateItem",
    "get_stable_path_detail",
    "get_stable_path_detail_by_name",
    "iter_stable_path_details",
    "iter_stable_path_details_by_name",
    "iter_stable_paths",
    "iter_stable_paths_by_name",
    "iter_target_states",
    "iter_target_states_by_name",
    "list_stable_paths",
    "list_stable_paths_info_sync",
    "list_stable_paths_sync",
    "query_stable_path_details",
    "query_stable_path_details_by_name",
]

T = TypeVar("T")
AnyApp = App[Any, Any]


async def _stream(
    env: Environment, app_name: str, read: Callable[[SectionSnapshot], Iterator[T]]
) -> AsyncIterator[T]:
    if app_name not in env.store.section_names():
        return
    with env.store.section(app_name).snapshot() as snapshot:
        for item in read(snapshot):
            yield item


def _infos(snapshot: SectionSnapshot) -> Iterator[StablePathInfo]:
    return (inspection.info(place) for place in inspection.walk(snapshot))


def _details(snapshot: SectionSnapshot) -> Iterator[StablePathDetail]:
    return (inspection.detail(snapshot, place) for place in inspection.walk(snapshot))


async def iter_stable_paths(app: AnyApp) -> AsyncIterator[StablePathInfo]:
    """Every path of an app, depth-first in key order."""
    async for item in iter_stable_paths_by_name(await app.open_environment(), app.name):
        yield item


async def iter_stable_paths_by_name(
    env: Environment, app_name: str
) -> AsyncIterator[StablePathInfo]:
    """Like :func:`iter_stable_paths`, without the app; an unknown app has no paths."""
    async for item in _stream(env, app_name, _infos):
        yield item


async def list_stable_paths(app: AnyApp) -> list[StablePath]:
    """Every path of an app."""
    return [item.path async for item in iter_stable_paths(app)]


def list_stable_paths_sync(app: AnyApp) -> list[StablePath]:
    """Like :func:`list_stable_paths`; works with or without a running loop."""
    return [item.path for item in list_stable_paths_info_sync(app)]


def list_stable_paths_info_sync(app: AnyApp) -> list[StablePathInfo]:
    """Paths and node types; works with or without a running loop."""
    env = _environment_now(app)
    if app.name not in env.store.section_names():
        return []
    with env.store.section(app.name).snapshot() as snapshot:
        return list(_infos(snapshot))


def _environment_now(app: AnyApp) -> Environment:
    host = app.environment
    started = host.started if isinstance(host, LazyEnvironment) else host
    if started is not None:
        return started
    return submit(background_loop(), app.open_environment()).result()


async def get_stable_path_detail(app: AnyApp, path: StablePath) -> StablePathDetail | None:
    """Everything stored about one path; None if the app or the path is unknown."""
    return await get_stable_path_detail_by_name(await app.open_environment(), app.name, path)


async def get_stable_path_detail_by_name(
    env: Environment, app_name: str, path: StablePath
) -> StablePathDetail | None:
    """Like :func:`get_stable_path_detail`, without the app."""
    found = await query_stable_path_details_by_name(env, app_name, path)
    return found[0] if found else None


async def iter_stable_path_details(app: AnyApp) -> AsyncIterator[StablePathDetail]:
    """Details of every path, from one snapshot."""
    async for item in iter_stable_path_details_by_name(await app.open_environment(), app.name):
        yield item


async def iter_stable_path_details_by_name(
    env: Environment, app_name: str
) -> AsyncIterator[StablePathDetail]:
    """Like :func:`iter_stable_path_details`, without the app."""
    async for item in _stream(env, app_name, _details):
        yield item


async def query_stable_path_details(
    app: AnyApp,
    path: StablePath,
    include_children: bool = False,
    recursive: bool = False,
    include_parents: bool = False,
) -> list[StablePathDetail]:
    """Details of a path with its parents (root first) and children, as asked for."""
    return await query_stable_path_details_by_name(
        await app.open_environment(), app.name, path, include_children, recursive, include_parents
    )


async def query_stable_path_details_by_name(
    env: Environment,
    app_name: str,
    path: StablePath,
    include_children: bool = False,
    recursive: bool = False,
    include_parents: bool = False,
) -> list[StablePathDetail]:
    """Like :func:`query_stable_path_details`, without the app."""

    def read(snapshot: SectionSnapshot) -> Iterator[StablePathDetail]:
        keys = tuple(path.parts())
        place = inspection.find(snapshot, keys)
        if place is None:
            return
        if include_parents:
            for end in range(len(keys)):
                parent = inspection.find(snapshot, keys[:end])
                if parent is not None:
                    yield inspection.detail(snapshot, parent)
        yield inspection.detail(snapshot, place)
        if include_children or recursive:
            for child in inspection.below(snapshot, place, recursive=recursive):
                yield inspection.detail(snapshot, child)

    return [item async for item in _stream(env, app_name, read)]


async def iter_target_states(app: AnyApp) -> AsyncIterator[TargetStateEntry]:
    """Every target state an app tracks, with its owner."""
    async for item in iter_target_states_by_name(await app.open_environment(), app.name):
        yield item


async def iter_target_states_by_name(
    env: Environment, app_name: str
) -> AsyncIterator[TargetStateEntry]:
    """Like :func:`iter_target_states`, without the app."""
    async for item in _stream(env, app_name, inspection.target_states):
        yield item
