"""Alias for programs that import from here: environments, and which of them there are."""

from typing import Any, NamedTuple

from cocoindex.engine.environment import Environment, environments
from cocoindex.engine.lifespan import (
    LazyEnvironment,
    default_env_lazy,
    lazy_environments,
    reset_default_env_for_tests,
)

__all__ = [
    "Environment",
    "LazyEnvironment",
    "default_env_lazy",
    "get_registered_environment_infos",
    "reset_default_env_for_tests",
]


class EnvironmentInfo(NamedTuple):
    """An environment of this process and its live apps."""

    env: Environment | LazyEnvironment

    @property
    def env_name(self) -> str:
        return self.env.name

    def get_apps(self) -> list[Any]:
        """The apps registered here that are still referenced, by name."""
        return list(self.env.apps.all())


def get_registered_environment_infos() -> list[EnvironmentInfo]:
    """Lazily opened environments, and every other open one that is still referenced."""
    lazy = lazy_environments()
    started = [env.started for env in lazy]
    others = [env for env in environments() if env not in started]
    return [EnvironmentInfo(env) for env in (*lazy, *others)]
