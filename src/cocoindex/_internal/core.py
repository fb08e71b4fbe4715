"""Alias for programs that import from here: values and controls of the engine."""

from cocoindex.core.deadline import (
    testing_advance_deadline_clock,
    testing_disable_deadline_clock,
    testing_reset_deadline_clock,
)
from cocoindex.core.fingerprint import Fingerprint, fingerprint_bytes, fingerprint_str
from cocoindex.core.keys import Symbol
from cocoindex.core.paths import StablePath
from cocoindex.engine.app import cancel_all
from cocoindex.engine.environment import Environment
from cocoindex.resources.rate_limit import RateLimiter

__all__ = [
    "Fingerprint",
    "RateLimiter",
    "StablePath",
    "Symbol",
    "cancel_all",
    "fingerprint_bytes",
    "fingerprint_str",
    "list_app_names",
    "reset_global_cancellation",
    "testing_advance_deadline_clock",
    "testing_disable_deadline_clock",
    "testing_reset_deadline_clock",
]


def list_app_names(env: Environment) -> list[str]:
    """Names of the apps that have something in the store of ``env``."""
    return env.store.section_names()


def reset_global_cancellation() -> None:
    """Do nothing: cancelling reaches the runs of that moment, later ones start afresh."""
