"""Names of half-written files, and what is left of them when a process dies."""

from __future__ import annotations

import itertools
import os
import re
import socket
import sys
import time
from hashlib import blake2b
from typing import Final

from cocoindex.connectors.localfs._dirs import Dir

__all__ = ["PREFIX", "remove_leftovers", "sweep_once", "temp_name"]

PREFIX: Final = ".cocoindex-"
_ABANDONED_S: Final = 24 * 3600
_NAME: Final = re.compile(r"\.cocoindex-([0-9a-f]{8})-(\d+)-([0-9a-f]{8})-\d+")
_REMEMBERED: Final = 100_000

_host: Final = blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()
_process: Final = os.urandom(4).hex()
_counter: Final = itertools.count()
_swept: Final[set[tuple[int, int]]] = set()


def temp_name() -> str:
    """A name that no other writer uses and that tells who made it."""
    return f"{PREFIX}{_host}-{os.getpid()}-{_process}-{next(_counter)}"


def sweep_once(directory: Dir) -> None:
    """Remove leftovers from ``directory`` when this process first writes to it."""
    identity = directory.identity()
    if identity in _swept:
        return
    if len(_swept) >= _REMEMBERED:
        _swept.clear()
    _swept.add(identity)
    remove_leftovers(directory)


def remove_leftovers(directory: Dir) -> None:
    """Remove half-written files of processes that are gone."""
    for name in directory.names():
        if name.startswith(PREFIX) and _is_leftover(directory, name):
            try:
                directory.unlink(name)
            except FileNotFoundError:
                continue  # another process cleans up too


def _is_leftover(directory: Dir, name: str) -> bool:
    made_by = _NAME.fullmatch(name)
    if made_by is None:
        return False
    host, pid, process = made_by.groups()
    if host == _host and process == _process and int(pid) == os.getpid():
        return False
    if host == _host and sys.platform != "win32" and not _is_alive(int(pid)):
        return True
    status = directory.lstat(name)
    return status is not None and time.time() - status.st_mtime > _ABANDONED_S


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # the number is ours now, the name is not
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
