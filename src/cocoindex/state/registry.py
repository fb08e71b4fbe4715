"""Which stores this process has open: one handle per location, and none across a fork."""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable
from pathlib import Path
from typing import NamedTuple, Protocol

from cocoindex.errors import StoreError, UsageError

__all__ = ["Forked", "adopt", "release", "reserve", "reserve_directory"]

Key = Hashable


class ForkAware(Protocol):
    def leave_to_parent(self) -> None: ...


class _Held(NamedTuple):
    holder: str
    store: ForkAware | None


class _Open:
    """The open stores of this process, by their identity."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held: dict[Key, _Held] = {}
        self.inherited: set[Key] = set()

    def after_fork_in_child(self) -> None:
        self.lock = threading.Lock()  # another thread of the parent may have held it
        for held in self.held.values():
            if held.store is not None:
                held.store.leave_to_parent()
        self.inherited.update(self.held)
        self.held.clear()


_open = _Open()


class Forked:
    """The refusal of a store in a forked child, which can't work on what its parent has open."""

    def __init__(self, location: str) -> None:
        self._location = location

    def __call__(self) -> UsageError:
        return UsageError(
            f"the state store at {self._location} was opened in another process, from which this "
            "one was forked. Start processes with 'spawn', or fork before the store is opened."
        )


def reserve_directory(directory: Path, holder: str) -> Key:
    """:func:`reserve` for whatever path leads to ``directory``."""
    found = directory.stat()
    key = (found.st_dev, found.st_ino)
    reserve(key, str(directory), holder)
    return key


def reserve(key: Key, location: str, holder: str) -> None:
    """Claim the store ``key`` for ``holder``, or raise ``StoreError`` naming who has it."""
    if key in _open.inherited:
        refused = Forked(location)
        raise refused()
    with _open.lock:
        other = _open.held.get(key)
        if other is not None:
            raise StoreError(
                f"the state store at {location} is already open in this process, held by "
                f"{other.holder}. Use that one, close it first, or choose another db_path."
            )
        _open.held[key] = _Held(holder, None)


def adopt(key: Key, store: ForkAware) -> None:
    """Remember the store opened under the reservation ``key``."""
    with _open.lock:
        _open.held[key] = _Held(_open.held[key].holder, store)


def release(key: Key) -> None:
    with _open.lock:
        _open.held.pop(key, None)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_open.after_fork_in_child)
