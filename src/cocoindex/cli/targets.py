"""``APP_TARGET``: parsing it, loading the program, choosing the app."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from cocoindex.cli import ask
from cocoindex.cli.errors import CliError

if TYPE_CHECKING:
    from cocoindex import App
    from cocoindex.state.postgres.location import PostgresLocation

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class AppTarget(NamedTuple):
    """A parsed ``module_or_path[:app_name[@env_name]]``."""

    module: str
    name: str | None = None
    """Everything between ``:`` and the last ``@``."""
    env_name: str | None = None

    @property
    def full_name(self) -> str | None:
        """All that followed the colon: an app name may itself hold an ``@``."""
        if self.env_name is None:
            return self.name
        return f"{self.name or ''}@{self.env_name}"


class FoundApp(NamedTuple):
    """A registered app and where it belongs."""

    name: str
    env_name: str
    env: Any
    app: App[Any, Any]


class FoundEnv(NamedTuple):
    """A registered environment and its apps, sorted by name."""

    name: str
    env: Any
    apps: tuple[FoundApp, ...]


def parse_app_target(text: str) -> AppTarget:
    """Split ``text``.

    Raises:
        click.BadParameter: there is no module, or an empty environment name.
    """
    skip = 2 if _DRIVE.match(text) else 0
    colon = text.find(":", skip)
    if colon < 0:
        return AppTarget(_checked_module(text, text))
    module, rest = _checked_module(text[:colon], text), text[colon + 1 :]
    if not rest:
        return AppTarget(module)
    name, at, env_name = rest.rpartition("@")
    if not at:
        return AppTarget(module, rest)
    if not env_name:
        raise _bad(f"'{text}': an environment name is missing after '@'.")
    return AppTarget(module, name or None, env_name)


def _checked_module(module: str, text: str) -> str:
    if not module.strip():
        raise _bad(f"'{text}': a module name or file path is missing before ':'.")
    return module


def _bad(message: str) -> click.BadParameter:
    return click.BadParameter(message, param_hint="APP_TARGET")


def as_app_target(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> AppTarget | None:
    """Click callback for an ``APP_TARGET`` argument."""
    return None if value is None else parse_app_target(value)


def load(target: AppTarget, *, as_json: bool = False) -> list[FoundEnv]:
    """Load the program and list its environments: explicit ones by name, the default one last.

    Args:
        target: what to load.
        as_json: stdout is for the result alone.
    """
    from cocoindex.user_app_loader import load_user_app

    with prints_to_stderr(as_json):
        load_user_app(target.module)
    return registered_envs()


def prints_to_stderr(active: bool) -> contextlib.AbstractContextManager[object]:
    """While ``active``, what the user's code prints goes to stderr: stdout holds JSON."""
    return contextlib.redirect_stdout(sys.stderr) if active else contextlib.nullcontext()


def registered_envs() -> list[FoundEnv]:
    """Every environment registered in this process that has apps."""
    from cocoindex.engine.lifespan import get_registered_environment_infos

    found = [_found_env(info) for info in get_registered_environment_infos()]
    return sorted((env for env in found if env.apps), key=_env_order)


def _found_env(info: Any) -> FoundEnv:
    apps = (FoundApp(app_name(app), info.env_name, info.env, app) for app in info.get_apps())
    return FoundEnv(info.env_name, info.env, tuple(sorted(apps, key=lambda found: found.name)))


def app_name(app: Any) -> str:
    """The name ``app`` was given."""
    return str(app.name)


def is_default(env: Any) -> bool:
    """Whether ``env`` is the lazy default environment."""
    from cocoindex.engine.lifespan import LazyEnvironment

    return isinstance(env, LazyEnvironment)


def _env_order(found: FoundEnv) -> tuple[bool, str]:
    return is_default(found.env), found.name


def choose(target: AppTarget, envs: Sequence[FoundEnv]) -> FoundApp:
    """The one app that ``target`` names; asks at a terminal if it names none of several.

    Raises:
        CliError: none or several fit; the message lists what there is.
    """
    apps = [app for env in envs for app in env.apps]
    if not apps:
        raise CliError(
            f"No apps found after loading '{target.module}'. Make sure the module creates a "
            "coco.App(...) instance."
        )
    exact = [app for app in apps if app.name == target.full_name]
    matches = exact or _matches(target, envs, apps)
    if len(matches) == 1:
        return matches[0]
    if target.name is None and not exact:
        picked = _picked(target, matches)
        if picked is not None:
            return picked
        raise CliError(
            f"Multiple apps found in '{target.module}': {_listed(matches)}. Please specify which "
            "app to use with ':app_name' syntax."
        )
    raise CliError(
        f"Multiple apps named '{matches[0].name}' found in different environments: "
        f"{', '.join(app.env_name for app in matches)}. Please specify environment with "
        "':app_name@env_name' syntax."
    )


def _picked(target: AppTarget, matches: Sequence[FoundApp]) -> FoundApp | None:
    if not ask.can_ask():
        return None
    names = [app.name for app in matches]
    if len(set(names)) < len(names):
        names = [f"{app.name}@{app.env_name}" for app in matches]
    index = ask.pick(f"Several apps are in '{target.module}':", names)
    return None if index is None else matches[index]


def _matches(
    target: AppTarget, envs: Sequence[FoundEnv], apps: Sequence[FoundApp]
) -> Sequence[FoundApp]:
    if target.env_name is not None:
        if all(env.name != target.env_name for env in envs):
            raise CliError(
                f"No environment named '{target.env_name}' found after loading "
                f"'{target.module}'. Available environments: "
                f"{', '.join(env.name for env in envs if env.name) or '(none with a name)'}"
            )
        apps = [app for app in apps if app.env_name == target.env_name]
    if target.name is None:
        return apps
    named = [app for app in apps if app.name == target.name]
    if not named:
        raise CliError(
            f"No app named '{target.name}' found after loading '{target.module}'. "
            f"Available apps: {', '.join(closest_first(target.name, (a.name for a in apps)))}"
        )
    return named


def _listed(apps: Iterable[FoundApp]) -> str:
    return ", ".join(app.name for app in apps)


def closest_first(name: str, others: Iterable[str]) -> list[str]:
    """``others`` without repeats: the likeliest misspelling of ``name`` first, the rest sorted."""
    import difflib

    names = sorted(set(others))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return near + [other for other in names if other not in near]


def shown_path(path: str | os.PathLike[str] | PostgresLocation | None) -> str:
    """``./…`` below the working directory, else as given; ``(unknown)`` without one."""
    if path is None:
        return "(unknown)"
    if not isinstance(path, (str, os.PathLike)):
        return str(path)
    text = os.fspath(path)
    if "://" in text:
        from cocoindex.cli.redact import redact

        return redact(text)
    # Not Path.resolve(): links in the path stay as the user wrote them.
    absolute, here = Path(text).absolute(), Path.cwd()
    normal = Path(os.path.normpath(absolute))
    if not normal.is_relative_to(here):
        return text
    return f".{os.sep}{normal.relative_to(here)}"
