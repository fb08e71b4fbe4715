"""Loading the program without looking for garbage: what is loaded is none.

The collector is off until a command begins its work. From then on it doesn't look at what was
loaded before, and the end of the process need not take that apart.
"""

from __future__ import annotations

import gc
from importlib import import_module

_ENGINE = ("callables.decorator", "engine.app", "state.lmdb_store")


def begin_loading() -> None:
    gc.disable()


def load_engine() -> None:
    """Load what any user's program needs."""
    for name in _ENGINE:
        import_module(f"cocoindex.{name}")


def end_loading() -> None:
    """Collect garbage from now on, if it was put off. The user's program comes later."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
