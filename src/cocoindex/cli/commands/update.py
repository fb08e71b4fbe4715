"""``cocoindex update``: run apps."""

from __future__ import annotations

from typing import Any, NamedTuple

import click

from cocoindex.cli import store
from cocoindex.cli.ask import confirm
from cocoindex.cli.errors import EXIT_FAILURE, EXIT_WITHHELD, QuietExit, print_error, report
from cocoindex.cli.session import Session, call, session
from cocoindex.cli.summary import print_failures
from cocoindex.cli.targets import AppTarget, FoundApp, as_app_target, choose, load, prints_to_stderr
from cocoindex.display.progress import display
from cocoindex.errors import DeletionsWithheldError


class Options(NamedTuple):
    live: bool
    full_reprocess: bool
    reset: bool
    force: bool
    quiet: bool
    preview: bool
    allow_deletes: bool
    as_json: bool
    exit_code: bool
    every_app: bool


@click.command("update")
@click.argument("app_target", callback=as_app_target)
@click.option("-L", "--live", is_flag=True, hidden=True)  # shown when there is live mode
@click.option("--full-reprocess", is_flag=True, help="Reuse nothing: run every function again.")
@click.option("--reset", is_flag=True, help="Drop the app and its target states first.")
@click.option("-f", "--force", is_flag=True, help="Ask no questions.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors and questions.")
@click.option("--preview", is_flag=True, help="Print what would be done, and change nothing.")
@click.option(
    "--allow-deletes", is_flag=True, help="Approve removals that the deletion guard withholds."
)
@click.option("--json", "as_json", is_flag=True, help="With --preview: print JSON.")
@click.option(
    "--exit-code", is_flag=True, help="With --preview: exit 1 if there is anything to do."
)
@click.option("--all", "every_app", is_flag=True, help="Update every app of the program, in order.")
def command(app_target: AppTarget, **flags: Any) -> None:
    """Bring the targets of an app in step with its sources."""
    options = Options(**flags)
    _check(app_target, options)
    envs = load(app_target, as_json=options.as_json)
    every_app = [app for env in envs for app in env.apps] if options.every_app else []
    apps = every_app or [choose(app_target, envs)]
    with session(quiet=options.quiet) as running:
        codes = [_update(app, options, running) for app in apps if running.signum is None]
    code = _worst(codes)
    if code:
        raise QuietExit(code)


def _check(target: AppTarget, options: Options) -> None:
    for name, given in (("--reset", options.reset), ("--live", options.live)):
        if options.preview and given:
            raise click.UsageError(f"--preview and {name} cannot be used together.")
    for name, given in (("--json", options.as_json), ("--exit-code", options.exit_code)):
        if given and not options.preview:
            raise click.UsageError(f"{name} needs --preview.")
    if options.every_app and target.full_name is not None:
        raise click.UsageError("--all and an app name cannot be used together.")
    if options.every_app and options.live:
        raise click.UsageError("--all and --live cannot be used together.")


def _worst(codes: list[int]) -> int:
    """Failure over withheld deletions over success."""
    return EXIT_FAILURE if EXIT_FAILURE in codes else max(codes, default=0)


def _update(found: FoundApp, options: Options, running: Session) -> int:
    env = call(store.ready_env(found))
    if not options.as_json:
        _say(options, f"Running app '{found.name}' from {store.describe_env(found, env)}")
    if options.preview:
        return _preview(found, options)
    if options.reset and not _reset(found, env, options):
        _say(options, "Update operation aborted.")
        return 0
    return _run(found, options, running)


def _say(options: Options, line: str) -> None:
    if not options.quiet:
        print(line, flush=True)


def _preview(found: FoundApp, options: Options) -> int:
    handle = found.app.update(
        preview=True,
        full_reprocess=options.full_reprocess,
        allow_deletes=options.allow_deletes,
    )
    with prints_to_stderr(options.as_json):
        actions = call(_result(handle))
    from cocoindex.cli.actions import is_change, preview_json, preview_lines

    if options.as_json:
        import json

        print(json.dumps(preview_json(actions, handle.withheld), indent=2, ensure_ascii=False))
    elif not options.quiet:
        print("\n".join(preview_lines(actions, handle.withheld)))
    number, first = handle.failures
    if number:
        print_failures(number, first)
        return EXIT_FAILURE
    return int(options.exit_code and any(map(is_change, actions)))


async def _result(handle: Any) -> Any:
    return await handle.result()


def _reset(found: FoundApp, env: Any, options: Options) -> bool:
    """Drop the app if it was ever run; False if the user does not want it."""
    if found.name not in store.persisted_names(env):
        return True
    if not options.force:
        store.print_counts(env, found.name, "This drops:")
        question = f"Type 'yes' to reset app '{found.name}' (drop existing state): "
        if not confirm(question):
            return False
    call(_drop(found))
    return True


async def _drop(found: FoundApp) -> None:
    await found.app.drop()


def _run(found: FoundApp, options: Options, running: Session) -> int:
    handle = found.app.update(
        live=options.live,
        full_reprocess=options.full_reprocess,
        allow_deletes=options.allow_deletes,
    )
    code = 0
    try:
        call(_follow(handle, options))
    except DeletionsWithheldError as withheld:
        print_error(str(withheld))
        code = EXIT_WITHHELD
    except Exception as error:  # noqa: BLE001  (the user's code may raise anything)
        if running.signum is None:
            report(error, f"app '{found.name}' failed; see the traceback above.")
        return EXIT_FAILURE
    number, first = handle.failures
    if number and running.signum is None:
        print_failures(number, first)
        return EXIT_FAILURE
    return code


async def _follow(handle: Any, options: Options) -> None:
    if not options.quiet:
        await display(handle, live=options.live)
    await handle.result()
