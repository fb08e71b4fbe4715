"""``cocoindex drop``: remove the target states of an app, or only what is known about them."""

from __future__ import annotations

from typing import Any, NamedTuple

import click

from cocoindex.cli import store
from cocoindex.cli.ask import confirm
from cocoindex.cli.errors import EXIT_FAILURE, QuietExit, report
from cocoindex.cli.session import Session, call, session
from cocoindex.cli.summary import print_failures
from cocoindex.cli.targets import AppTarget, FoundApp, as_app_target, choose, load
from cocoindex.display.progress import display
from cocoindex.errors import AlreadyRunningError


@click.command("drop")
@click.argument("app_target", callback=as_app_target, required=False)
@click.option("-f", "--force", is_flag=True, help="Ask no questions.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and questions.")
@click.option("--db", help="With --app-name and --state-only: the store of an app without program.")
@click.option("--app-name", help="With --db and --state-only: the app.")
@click.option(
    "--state-only", is_flag=True, help="Forget the state of an app; leave its targets alone."
)
def command(
    app_target: AppTarget | None,
    *,
    force: bool,
    quiet: bool,
    db: str | None,
    app_name: str | None,
    state_only: bool,
) -> None:
    """Drop an app and all its target states."""
    _check(app_target, db, app_name, state_only=state_only)
    options = Options(force, quiet)
    found = None if app_target is None else choose(app_target, load(app_target))
    with session(quiet=quiet) as running:
        if found is not None:
            code = _drop_app(found, running, options)
        else:
            code = _forget(db or "", app_name or "", options)
    if code:
        raise QuietExit(code)


class Options(NamedTuple):
    force: bool
    quiet: bool

    def say(self, line: str) -> None:
        if not self.quiet:
            print(line, flush=True)


def _check(
    target: AppTarget | None, db: str | None, app_name: str | None, *, state_only: bool
) -> None:
    from_store = bool(db or app_name or state_only)
    if target is not None and from_store:
        raise click.UsageError("APP_TARGET and --db/--app-name/--state-only exclude each other.")
    if target is None and not (db and app_name and state_only):
        raise click.UsageError(
            "Give APP_TARGET, or all of --db, --app-name and --state-only to forget the state "
            "of an app whose program is gone."
        )


def _drop_app(found: FoundApp, running: Session, options: Options) -> int:
    env = call(store.ready_env(found))
    where = store.describe_env(found, env)
    options.say(f"Preparing to drop app '{found.name}' from {where}")
    if found.name not in store.persisted_names(env):
        options.say(f"App '{found.name}' has no persisted state. Nothing to drop.")
        return 0
    if not options.force:
        store.print_counts(env, found.name, "This drops:")
        if not confirm(f"Type 'yes' to drop app '{found.name}' and all its target states: "):
            options.say("Drop operation aborted.")
            return 0
    return _run(found, env, running, options)


def _run(found: FoundApp, env: Any, running: Session, options: Options) -> int:
    handle = found.app.start_drop()
    try:
        call(_follow(handle, options))
    except AlreadyRunningError as error:
        report(error)
        return EXIT_FAILURE
    except Exception as error:  # noqa: BLE001  (a user's handler or sink may raise anything)
        if running.signum is None:
            report(error, f"dropping app '{found.name}' failed; see the traceback above.")
            number, first = handle.failures
            print_failures(max(1, number), first)
            store.print_counts(env, found.name, "Still tracked, for the next drop:")
        return EXIT_FAILURE
    options.say(
        f"Dropped app '{found.name}' from environment '{found.env_name}' and reverted its "
        "target states."
    )
    return 0


async def _follow(handle: Any, options: Options) -> None:
    if not options.quiet:
        await display(handle)
    await handle.result()


def _forget(db: str, app_name: str, options: Options) -> int:
    store.check_name(db, app_name)
    if not options.force:
        with store.opened(db) as env:
            store.print_counts(env, app_name, "These stay as they are and are forgotten:")
        question = f"Type the name of the app to forget its state ({app_name}): "
        if not confirm(question, app_name):
            options.say("Drop operation aborted.")
            return 0
    store.forget(db, app_name)
    options.say(f"Forgot the state of app '{app_name}'. Its targets were left as they are.")
    return 0
