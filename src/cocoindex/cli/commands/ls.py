"""``cocoindex ls``: the apps of a program or of a store."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import click

from cocoindex.cli import store
from cocoindex.cli.errors import CliError
from cocoindex.cli.session import call, session
from cocoindex.cli.targets import AppTarget, FoundEnv, as_app_target, load, shown_path
from cocoindex.state.postgres.location import PostgresLocation

_NEITHER = """Please specify either APP_TARGET or --db option (or set COCOINDEX_DB environment \
variable).
Examples:
  cocoindex ls main.py
  cocoindex ls --db ./cocoindex.db"""


class ListedApp(NamedTuple):
    name: str
    persisted: bool


class ListedEnv(NamedTuple):
    name: str
    db_path: str | PostgresLocation | None
    apps: tuple[ListedApp, ...]


@click.command("ls")
@click.argument("app_target", callback=as_app_target, required=False)
@click.option("--db", envvar="COCOINDEX_DB", help="List the apps that have state in this store.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(
    ctx: click.Context, app_target: AppTarget | None, db: str | None, as_json: bool
) -> None:
    """List the apps of a program or of a store."""
    if app_target is not None:
        source = ctx.get_parameter_source("db")
        if db and source is click.core.ParameterSource.COMMANDLINE:
            print("Warning: --db is ignored when APP_TARGET is specified.", file=sys.stderr)
        _list_program(app_target, as_json=as_json)
    elif db:
        _list_store(db, as_json=as_json)
    else:
        raise CliError(_NEITHER)


def _list_program(target: AppTarget, *, as_json: bool) -> None:
    envs = load(target, as_json=as_json)
    with session():
        listed = [call(_listed(env)) for env in envs]
    if as_json:
        print(json.dumps({"environments": [_env_json(env) for env in listed]}, indent=2))
    elif not listed:
        print(f"No apps are defined in '{target.module}'.")
    else:
        print("\n".join(program_lines(listed)))


async def _listed(found: FoundEnv) -> ListedEnv:
    view = await store.peek(found.env)
    apps = tuple(ListedApp(app.name, app.name in view.names) for app in found.apps)
    return ListedEnv(found.name, view.db_path, apps)


def program_lines(envs: Sequence[ListedEnv]) -> Iterator[str]:
    """The listing of a program: a group per environment, then what ``[+]`` means."""
    for position, env in enumerate(envs):
        if position:
            yield ""
        path = shown_path(env.db_path)
        yield f"{env.name} ({path}):" if env.name else f"{path}:"
        yield from (f"  {app.name}{'' if app.persisted else ' [+]'}" for app in env.apps)
    if not all(app.persisted for env in envs for app in env.apps):
        yield ""
        yield "Notes:"
        yield "  [+]: Apps present in module, but not yet run (no persisted state)."


def _env_json(env: ListedEnv) -> dict[str, Any]:
    return {
        "name": env.name,
        "db_path": None if env.db_path is None else shown_path(env.db_path),
        "apps": [app._asdict() for app in env.apps],
    }


def _list_store(db: str, *, as_json: bool) -> None:
    names = store.names_in(db)
    if as_json:
        print(json.dumps({"db_path": shown_path(db), "apps": names}, indent=2))
    elif not names:
        print("No persisted apps found in the database.")
    else:
        print("\n".join([f"{shown_path(db)}:", *(f"  {name}" for name in names)]))
