"""Refusing a second watcher where only one can be served."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, final

from cocoindex.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["SingleWatcherGuard"]


@final
class SingleWatcherGuard:
    """Context manager that one block at a time may enter; usable again after every exit.

    Args:
        label: what is watched, for the error.

    Raises:
        UsageError: on a second entry while the first block runs.
    """

    __slots__ = ("_label", "_lock")

    def __init__(self, label: str) -> None:
        self._label = label
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise UsageError(f"{self._label} supports a single active watch() at a time.")

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()
