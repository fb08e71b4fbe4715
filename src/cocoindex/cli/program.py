"""The program: global options, sub-commands, exit status."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from cocoindex.cli import errors
from cocoindex.cli.loading import end_loading, load_engine
from cocoindex.cli.logs import configure_logging
from cocoindex.cli.session import Interrupted


def _version() -> str:
    from cocoindex import __version__

    return __version__


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"cocoindex version {_version()}")
        ctx.exit()


class _Commands(click.Group):
    """Loads a sub-command when it is used."""

    _NAMES = ("init", "ls", "show", "update", "drop", "state")

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        return list(self._NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._NAMES:
            return None
        module = importlib.import_module(f"cocoindex.cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self._NAMES and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command '{name}'.{_hint(name, self._NAMES)}")
        return super().resolve_command(ctx, args)


def _hint(name: str, commands: Sequence[str]) -> str:
    """What may have been meant instead of the command ``name``."""
    if name.partition(":")[0].endswith(".py"):
        return f" To run a program: cocoindex update {name}"
    import difflib

    near = difflib.get_close_matches(name, commands, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["--help"], "max_content_width": 100}
)
@click.option(
    "-e",
    "--env-file",
    type=click.Path(exists=True, dir_okay=False),
    help="Load environment variables from this file. Default: the nearest .env, from the "
    "working directory upwards. Variables that are set already win.",
)
@click.option(
    "-d",
    "--app-dir",
    type=click.Path(file_okay=False),
    default="",
    help="Where modules are looked up first. Default: the working directory.",
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(ctx: click.Context, env_file: str | None, app_dir: str) -> None:
    """Keep targets in step with their sources.

    APP_TARGET is path/to/app.py or a module name, and, if the program has several apps,
    :app_name or :app_name@env_name after it.
    """
    if ctx.invoked_subcommand in {"update", "drop"}:
        load_engine()
    end_loading()
    _load_env_file(env_file)
    sys.path.insert(0, str(Path(app_dir or ".").resolve()))
    configure_logging()


def _load_env_file(given: str | None) -> None:
    path = given or _nearest_env_file()
    if path is None:
        return
    from dotenv import load_dotenv

    if load_dotenv(path, override=False):
        click.echo(f"Loaded environment variables from: {Path(path).absolute()}\n", err=True)


def _nearest_env_file() -> Path | None:
    here = Path.cwd()
    candidates = (folder / ".env" for folder in (here, *here.parents))
    return next((path for path in candidates if path.is_file() or path.is_fifo()), None)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status."""
    try:
        status = cli.main(
            None if arguments is None else list(arguments),
            prog_name="cocoindex",
            standalone_mode=False,
        )
        sys.stdout.flush()
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.Abort:
        print("Aborted!", file=sys.stderr)
        return errors.EXIT_FAILURE
    except click.ClickException as wrong:
        wrong.show()
        return wrong.exit_code
    except errors.QuietExit as leave:
        return leave.exit_code
    except errors.CliError as failure:
        errors.print_error(str(failure))
        return failure.exit_code
    except Interrupted as stopped:
        return stopped.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _silence_stdout()
        return errors.EXIT_FAILURE
    except Exception as failure:  # noqa: BLE001  (the user's program may raise anything)
        errors.report(failure)
        return errors.EXIT_FAILURE
    return status if isinstance(status, int) else 0


def _silence_stdout() -> None:
    """The reader of the output is gone: keep the interpreter from complaining at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
