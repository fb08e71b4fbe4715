"""System calls of this process that fail, or kill it, the N-th time.

Imported before the product, so that it sees these functions wherever it looks.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

KINDS = {
    "open": ("open",),
    "write": ("write",),
    "sync": ("fsync", "fdatasync"),
    "replace": ("replace",),
    "mkdir": ("mkdir",),
    "remove": ("unlink", "rmdir"),
    "list": ("scandir", "listdir"),
}


class Trap:
    """Counts the calls of one kind; something happens at the N-th."""

    def __init__(self) -> None:
        self.kind = ""
        self.at = 0
        self.fault = ""
        self.count = 0
        self._lock = threading.Lock()

    def arm(self, kind: str, at: int, fault: str) -> None:
        self.kind, self.at, self.fault, self.count = kind, at, fault, 0

    def is_sprung(self, kind: str) -> bool:
        if kind != self.kind:
            return False
        with self._lock:
            self.count += 1
            return self.count == self.at


trap = Trap()


def _wrap(kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if not trap.is_sprung(kind):
            return real(*args, **kwargs)
        if trap.fault == "short":
            return real(args[0], bytes(args[1])[: max(1, len(args[1]) // 2)])
        if trap.fault == "half":  # as a power cut would leave it
            real(args[0], bytes(args[1])[: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        if trap.fault.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, trap.fault))
            signal.pause()
        code = getattr(errno, trap.fault)
        raise OSError(code, os.strerror(code), *args[:1])

    return call


def install() -> None:
    """Put the traps in place, for the whole process."""
    for kind, names in KINDS.items():
        for name in names:
            real = getattr(os, name)
            call = _wrap(kind, real)
            for supported in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
                if real in supported:
                    supported.add(call)
            setattr(os, name, call)
