"""Alias for programs that import from here: environments, and which of them there are."""

from cocoindex.engine.environment import Environment
from cocoindex.engine.lifespan import (
    LazyEnvironment,
    default_env_lazy,
    get_registered_environment_infos,
    reset_default_env_for_tests,
)

__all__ = [
    "Environment",
    "LazyEnvironment",
    "default_env_lazy",
    "get_registered_environment_infos",
    "reset_default_env_for_tests",
]
