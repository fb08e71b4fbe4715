"""Finding and opening state stores, without ever making one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cocoindex.cli import render
from cocoindex.cli.errors import CliError, one_line
from cocoindex.cli.redact import redact
from cocoindex.cli.session import call
from cocoindex.cli.targets import FoundApp, closest_first
from cocoindex.errors import CocoIndexError
from cocoindex.state.open import open_store, store_exists
from cocoindex.state.postgres import is_postgres_url

if TYPE_CHECKING:
    import cocoindex as coco
    from cocoindex import Environment
    from cocoindex.engine.lifespan import LazyEnvironment
    from cocoindex.state.postgres.location import PostgresLocation


@contextlib.contextmanager
def opened(db: str) -> Iterator[Environment]:
    """The environment of an existing store.

    Raises:
        CliError: nothing is there, or it can't be opened.
    """
    import cocoindex as coco

    check_exists(db)
    with _explained():
        env = coco.Environment(_settings_of(db), name=f"store {redact(db)}")
    try:
        yield env
    finally:
        env.close()


def _settings_of(db: str) -> coco.Settings:
    import cocoindex as coco

    if is_postgres_url(db):
        return coco.Settings(database=coco.DatabaseConnectionSpec(db))
    return coco.Settings(db_path=db)


def check_exists(db: str | PostgresLocation) -> None:
    """Raise ``CliError`` unless a state store is at ``db``, a directory or a URL."""
    if isinstance(db, str) and not is_postgres_url(db) and not Path(db).exists():
        raise CliError(f"Database path does not exist: {db}")
    with _explained():
        found = store_exists(db)
    if not found:
        where = redact(str(db))
        raise CliError(f"Failed to open database: there is no state store at {where}")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (CocoIndexError, OSError) as error:
        raise CliError(f"Failed to open database: {one_line(error)}") from error


def names_in(db: str | PostgresLocation) -> list[str]:
    """Names of the apps with state in an existing store, sorted. Raises like :func:`opened`."""
    check_exists(db)
    with _explained():
        store = open_store(db, read_only=True, holder="the command line")
        try:
            return store.section_names()
        finally:
            store.close()


def check_name(db: str, app_name: str) -> None:
    """Raise ``CliError`` unless ``app_name`` has state in the store at ``db``."""
    names = names_in(db)
    if app_name not in names:
        known = ", ".join(closest_first(app_name, names)) or "(none)"
        raise CliError(
            f"No app named '{app_name}' found in '{redact(db)}'. Persisted apps: {known}"
        )


def forget(db: str, app_name: str) -> None:
    """Empty the section of an app, unless a process is running it."""
    with _explained():
        store = open_store(db, holder="the command line")
        try:
            section = store.section(app_name)
            with section.acquire_lease():
                section.clear()
                store.flush()
        finally:
            store.close()


# --- Environments of a program -----------------------------------------------------------


async def ready_env(found: FoundApp) -> Environment:
    """The open environment of an app; starts the default one."""
    import cocoindex as coco

    return found.env if isinstance(found.env, coco.Environment) else await coco.default_env()


def persisted_names(env: Any) -> list[str]:
    """Names of the apps that have state in the store of an open environment, sorted."""
    return sorted(env.store.section_names())


def describe_env(found: FoundApp, env: Environment) -> str:
    """``environment 'E' (db path: P)``."""
    path = redact(str(location(env.settings)))
    return f"environment '{found.env_name}' (db path: {path})"


def location(settings: coco.Settings) -> str | PostgresLocation | None:
    """Where settings put the store; None if they don't say."""
    if settings.db_path is None and (path := os.environ.get("COCOINDEX_DB")):
        return path
    found = settings.store_location()
    return os.fspath(found) if isinstance(found, os.PathLike) else found


# --- What a store tracks -----------------------------------------------------------------


def print_counts(env: Any, app_name: str, heading: str) -> None:
    """Write how many states each target holds to stderr; nothing if there are none."""
    counts = call(_counts(env, app_name))
    if counts:
        print("\n".join([heading, *render.count_lines(counts)]), file=sys.stderr)


async def _counts(env: Any, app_name: str) -> dict[str, int]:
    from cocoindex import inspect

    counts: dict[str, int] = {}
    async for entry in inspect.iter_target_states_by_name(env, app_name):
        container = render.container_of(entry.readable_segments)
        counts[container] = counts.get(container, 0) + 1
    return counts


# --- Looking without opening -------------------------------------------------------------


class Peek(NamedTuple):
    """What can be said of an environment without making a store for it."""

    db_path: str | PostgresLocation | None
    names: tuple[str, ...]


async def peek(env: Any) -> Peek:
    """The location of the store of ``env``, and the apps with state in it."""
    import cocoindex as coco

    opened_env = env if isinstance(env, coco.Environment) else env.started
    if opened_env is not None:
        return Peek(location(opened_env.settings), tuple(persisted_names(opened_env)))
    path = await _location_when_started(env)
    with _explained():
        is_there = path is not None and store_exists(path)
    return Peek(path, tuple(names_in(path)) if path is not None and is_there else ())


async def _location_when_started(lazy: LazyEnvironment) -> str | PostgresLocation | None:
    """Run the lifespan function to its end for the settings that it makes."""
    from cocoindex.engine.lifespan import EnvironmentBuilder, _lifespan_context

    builder = EnvironmentBuilder()
    function = lazy._lifespan
    async with contextlib.AsyncExitStack() as exits:
        exits.push_async_callback(builder.context_provider.aclose)
        if function is not None:
            await exits.enter_async_context(_lifespan_context(function, builder))
        return location(builder.settings)
