"""``cocoindex show``: what the state store knows about an app."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import click

from cocoindex import inspect
from cocoindex.cli import render, store
from cocoindex.cli.errors import CliError
from cocoindex.cli.session import call, session
from cocoindex.cli.targets import FoundApp, choose, load, parse_app_target
from cocoindex.core.keys import path_text
from cocoindex.core.paths import StablePath, resolve_path


class Options(NamedTuple):
    tree: bool
    long: bool
    recursive: bool
    parents: bool
    target_states: bool
    fingerprints: bool
    depth: int | None
    as_json: bool


class Shown(NamedTuple):
    """An app in a store, with or without its program."""

    env: Any
    name: str


@click.command("show")
@click.argument("app_target", required=False)
@click.argument("stable_path", required=False)
@click.option("--db", help="Read this store without loading a program (with --app-name).")
@click.option("--app-name", help="The app to read from --db.")
@click.option("--tree", is_flag=True, help="Show paths, or target states, as a tree.")
@click.option("-l", "--long", is_flag=True, help="Show the details of every path.")
@click.option("-r", "--recursive", is_flag=True, help="Also everything below STABLE_PATH.")
@click.option("-p", "--parents", is_flag=True, help="Also the ancestors of STABLE_PATH.")
@click.option("--target-states", is_flag=True, help="List tracked target states and owners.")
@click.option("--fingerprints", is_flag=True, help="Show stored fingerprints, not keys.")
@click.option("--depth", type=click.IntRange(min=0), help="Go at most this many levels down.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    app_target: str | None,
    stable_path: str | None,
    db: str | None,
    app_name: str | None,
    **flags: Any,
) -> None:
    """Show what is known about an app: its components, or one of them.

    STABLE_PATH is a path as shown, such as '/"files"/"a.txt"', or bare words: /files/a.txt.
    What 'mount_each' made is below the name of its function: /process_file/a.txt.
    """
    options = Options(**flags)
    if db and app_name and stable_path is None and _is_stable_path(app_target):
        app_target, stable_path = None, app_target
    _check(stable_path, options)
    found = None
    if app_target is not None:
        _warn_of_ignored(db or app_name)
        target = parse_app_target(app_target)
        found = choose(target, load(target, as_json=options.as_json))
    with session(), _opened(found, db, app_name) as shown:
        if stable_path is not None:
            _show_path(shown, stable_path, options)
        elif options.target_states:
            call(_print_target_states(shown, options))
        else:
            call(_print_paths(shown, options))


def _is_stable_path(argument: str | None) -> bool:
    """Whether an argument that could be a program can only be a path."""
    return argument is not None and argument.startswith("/") and ".py" not in argument


def _check(stable_path: str | None, options: Options) -> None:
    if options.target_states and (
        stable_path is not None or options.long or options.recursive or options.parents
    ):
        raise CliError("--target-states cannot be combined with stable_path, -l, -r or -p.")
    if stable_path is None and (options.recursive or options.parents):
        raise CliError("-r/--recursive and -p/--parents require a stable_path argument.")


def _warn_of_ignored(given: str | None) -> None:
    if given:
        print(
            "Warning: --db and --app-name are ignored when APP_TARGET is specified.",
            file=sys.stderr,
        )


@contextlib.contextmanager
def _opened(found: FoundApp | None, db: str | None, app_name: str | None) -> Iterator[Shown]:
    if found is not None:
        yield Shown(call(store.ready_env(found)), found.name)
        return
    if not (db and app_name):
        raise CliError("Both --db and --app-name are required when APP_TARGET is not specified.")
    store.check_name(db, app_name)
    with store.opened(db) as env:
        yield Shown(env, app_name)


# --- One path ----------------------------------------------------------------------------


def _show_path(shown: Shown, text: str, options: Options) -> None:
    path = _find(shown, text)
    if options.recursive and not path.parts():
        details = inspect.iter_stable_path_details_by_name(*shown)
    else:
        details = _queried(shown, path, options)
    call(_print(_within(details, len(path.parts()), options), _details_form(options), options))


def _find(shown: Shown, text: str) -> StablePath:
    """The stored path that ``text`` means."""
    nearest: tuple[Any, ...] = ()

    def exists(keys: tuple[Any, ...]) -> bool:
        nonlocal nearest
        stored = call(_is_stored(shown, StablePath(keys)))
        if stored and len(keys) > len(nearest):
            nearest = keys
        return stored

    found = resolve_path(text, exists)
    if found is None and not text.lstrip("/").startswith("@"):
        # Components that mount_each made are below a symbol: their function's name.
        found = resolve_path(f"/@{text.lstrip('/')}", exists)
    if found is None or not (found or exists(())):
        raise CliError(f"No such path: {text}. The nearest stored ancestor is {path_text(nearest)}")
    return StablePath(found)


async def _is_stored(shown: Shown, path: StablePath) -> bool:
    return await inspect.get_stable_path_detail_by_name(*shown, path) is not None


async def _queried(shown: Shown, path: StablePath, options: Options) -> AsyncIterator[Any]:
    details = await inspect.query_stable_path_details_by_name(
        *shown, path, recursive=options.recursive, include_parents=options.parents
    )
    for detail in details:
        yield detail


# --- Everything --------------------------------------------------------------------------


async def _print_paths(shown: Shown, options: Options) -> None:
    details: AsyncIterator[Any]
    if options.long:
        form, heading = _details_form(options), None
        details = inspect.iter_stable_path_details_by_name(*shown)
    elif options.tree:
        form, heading = Form(render.PathTree().lines, render.detail_json), "Stable paths:"
        details = inspect.iter_stable_path_details_by_name(*shown)
    else:
        form, heading = Form(lambda info: [f"  {info.path}"], render.path_json), "Stable paths:"
        details = inspect.iter_stable_paths_by_name(*shown)
    await _print(_within(details, 0, options), form, options, heading)


async def _print_target_states(shown: Shown, options: Options) -> None:
    raw = options.fingerprints
    as_json = partial(render.entry_json, fingerprints=raw)
    as_lines = (
        render.TargetTree(fingerprints=raw).lines
        if options.tree
        else partial(render.entry_lines, fingerprints=raw)
    )
    entries = _shallow(inspect.iter_target_states_by_name(*shown), options)
    await _print(entries, Form(as_lines, as_json), options, "Target states:")


async def _shallow(entries: AsyncIterator[Any], options: Options) -> AsyncIterator[Any]:
    async for entry in entries:
        if options.depth is None or len(entry.readable_segments) <= options.depth:
            yield entry


async def _within(items: AsyncIterator[Any], start: int, options: Options) -> AsyncIterator[Any]:
    """Those at most ``--depth`` levels below a path of ``start`` keys."""
    async for item in items:
        if options.depth is None or len(item.path.parts()) - start <= options.depth:
            yield item


# --- Output ------------------------------------------------------------------------------


class Form(NamedTuple):
    """How one item is printed."""

    text: Callable[[Any], Iterable[str]]
    json: Callable[[Any], render.Json]


def _details_form(options: Options) -> Form:
    raw = options.fingerprints
    return Form(
        partial(render.detail_lines, fingerprints=raw),
        partial(render.detail_json, fingerprints=raw),
    )


async def _print(
    items: AsyncIterator[Any], form: Form, options: Options, heading: str | None = None
) -> None:
    """Print items as they come; an array if JSON is asked for."""
    if options.as_json:
        await _print_json(items, form)
        return
    if heading is not None:
        print(heading)
    empty = True
    async for item in items:
        empty = False
        for line in form.text(item):
            print(line)
    if empty:
        print("  (none)")


async def _print_json(items: AsyncIterator[Any], form: Form) -> None:
    before = "[\n"
    async for item in items:
        sys.stdout.write(before + json.dumps(form.json(item), ensure_ascii=False))
        before = ",\n"
    print("[]" if before == "[\n" else "\n]")
