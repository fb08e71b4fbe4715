"""Which pieces of code are currently defined, by fingerprint.

A memo stores the logic fingerprints it depends on; it is valid while every one of them is still
that of some live function. Functions register here and are held weakly: two function objects
with one fingerprint (a reloaded module, a second closure) keep it current until both are gone.
A fingerprint is computed when first asked for, and may move when data that the code reads does.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import Any, Final, Protocol

import msgspec

from cocoindex.core.fingerprint import FINGERPRINT_SIZE

__all__ = ["Home", "LogicSource", "Registration", "are_current", "label", "new_run", "registry"]

_MAX_VERDICTS: Final = 16_384


class Home:
    """One version of an imported module.

    A module that is imported anew leaves its old functions behind until they are collected.
    They must not vouch for what the new ones have replaced, so of several homes of one name
    only the one last registered in, or called into, counts.
    """

    __slots__ = ("counts", "name", "namespace")

    def __init__(self, name: str, namespace: dict[str, Any]) -> None:
        self.name = name
        self.namespace = namespace
        self.counts = False
        """Set by the registry."""


class LogicSource(Protocol):
    """Something with a logic fingerprint, usually a function."""

    @property
    def name(self) -> str:
        """Qualified name, for people."""
        ...

    @property
    def volatile(self) -> bool:
        """Whether :meth:`logic` may change within a run. Meaningful after a call of it."""
        ...

    @property
    def home(self) -> Home | None:
        """Where it was imported; None if it wasn't."""
        ...

    def logic(self) -> bytes | None:
        """The fingerprint as of now; tells the registry when it moved."""
        ...


class Registration(weakref.ref[LogicSource]):
    """A registered source and the fingerprint it last published."""

    __slots__ = ("__weakref__", "fingerprint")
    fingerprint: bytes | None


class _Verdict(msgspec.Struct, frozen=True):
    """That some fingerprints are current.

    Attributes:
        generation: of the registry, when this was found.
        fingerprints: which ones.
        recheck: those whose source may have moved since.
    """

    generation: int
    fingerprints: frozenset[bytes]
    recheck: tuple[tuple[Registration, bytes], ...]


class LogicRegistry:
    """The process-wide set of current fingerprints; see the module's text."""

    def __init__(self) -> None:
        self.epoch = 0
        """Number of the current run: mutable data is read once in each."""
        self._generation = 0
        self._sources: dict[int, Registration] = {}
        self._unsettled: dict[int, Registration] = {}
        """Sources that may not have published in this run what they are now."""
        self._holders: dict[bytes, dict[int, Registration]] = {}
        self._labels: dict[bytes, str] = {}
        self._homes: dict[str, Home] = {}
        self._verdicts: dict[bytes | tuple[bytes, ...], _Verdict] = {}
        # Reentrant: a source may be collected, and so forgotten, at any allocation.
        self._lock = threading.RLock()

    def register(self, source: LogicSource) -> Registration:
        """Add ``source``; its fingerprint is asked for when it is first needed."""
        registration = Registration(source, self._forget)
        registration.fingerprint = None
        with self._lock:
            self._sources[id(registration)] = registration
            self._unsettled[id(registration)] = registration
        return registration

    def home_of(self, namespace: dict[str, Any]) -> Home | None:
        """The home of code with these globals; None unless they are an imported module's."""
        name = namespace.get("__name__")
        home = self._homes.get(name) if isinstance(name, str) else None
        if home is not None and home.namespace is namespace:
            return home
        if (
            not isinstance(name, str)
            or getattr(sys.modules.get(name), "__dict__", 0) is not namespace
        ):
            return None
        home = Home(name, namespace)
        self.use(home)
        return home

    def use(self, home: Home | None) -> None:
        """Code of ``home`` runs: it counts, and other homes of its name don't."""
        if home is not None and not home.counts:
            with self._lock:
                before = self._homes.get(home.name)
                if before is not None:
                    before.counts = False
                self._homes[home.name] = home
                home.counts = True
                self._generation += 1

    def publish(self, registration: Registration, fingerprint: bytes, name: str) -> None:
        """Record the fingerprint that a source has now."""
        with self._lock:
            if registration.fingerprint == fingerprint:
                return
            self._release(registration)
            registration.fingerprint = fingerprint
            self._holders.setdefault(fingerprint, {})[id(registration)] = registration
            self._labels[fingerprint] = name

    def new_run(self) -> None:
        """A run starts: data that may have been mutated is read again."""
        with self._lock:
            self.epoch += 1
            self._generation += 1
            self._unsettled = dict(self._sources)

    def are_current(self, deps: bytes | tuple[bytes, ...], own: bytes | None = None) -> bool:
        """Whether every fingerprint in ``deps`` is that of a live source, judged as of now.

        Args:
            deps: fingerprints, as a tuple or concatenated. Asking again for equal ``deps``
                costs one look-up plus one :meth:`LogicSource.logic` per volatile source.
            own: what the source that asks has said just now; it must be among ``deps``: an
                older copy of it that is still alive must not vouch for what it has made.
        """
        verdict = self._verdicts.get(deps)
        if verdict is None or verdict.generation != self._generation:
            verdict = self._judge(deps)
        if verdict is None or (own is not None and own not in verdict.fingerprints):
            return False
        for registration, fingerprint in verdict.recheck:
            if fingerprint != own:
                source = registration()
                if source is None or source.logic() != fingerprint:
                    return self._judge(deps) is not None
        return True

    def label(self, fingerprint: bytes) -> str | None:
        """Qualified name of the code that has, or in this process had, ``fingerprint``."""
        if fingerprint not in self._labels:
            self._refresh()
        return self._labels.get(fingerprint)

    def _judge(self, deps: bytes | tuple[bytes, ...]) -> _Verdict | None:
        generation = self._generation
        fingerprints = _split(deps)
        recheck: list[tuple[Registration, bytes]] = []
        for fingerprint in fingerprints:
            holder = self._holder(fingerprint)
            if holder is None:
                return None
            source = holder()
            if source is None or source.volatile:
                recheck.append((holder, fingerprint))
        if len(self._verdicts) >= _MAX_VERDICTS:
            self._verdicts.clear()
        verdict = _Verdict(generation, frozenset(fingerprints), tuple(recheck))
        self._verdicts[deps] = verdict
        return verdict

    def _holder(self, fingerprint: bytes) -> Registration | None:
        found = self._live_holder(fingerprint)
        if found is None:
            self._refresh()
            found = self._live_holder(fingerprint)
        return found

    def _live_holder(self, fingerprint: bytes) -> Registration | None:
        for registration in list(self._holders.get(fingerprint, {}).values()):
            source = registration()
            if source is None or not self._is_at_home(source):
                continue
            if source.logic() == fingerprint:
                return registration
        return None

    @staticmethod
    def _is_at_home(source: LogicSource) -> bool:
        return source.home is None or source.home.counts

    def _refresh(self) -> None:
        """Let every source whose fingerprint may have moved publish it."""
        unsettled = self._unsettled  # that of this run: a new one may start meanwhile
        for number, registration in list(unsettled.items()):
            source = registration()
            if source is not None:
                source.logic()
                if not source.volatile:
                    unsettled.pop(number, None)

    def _forget(self, registration: Any) -> None:
        # Uses no global name: the last ones are forgotten when the interpreter has cleared those.
        with self._lock:
            self._sources.pop(id(registration), None)
            self._unsettled.pop(id(registration), None)
            self._release(registration)

    def _release(self, registration: Registration) -> None:
        if registration.fingerprint is None:
            return
        holders = self._holders.get(registration.fingerprint)
        if holders is None:
            return
        holders.pop(id(registration), None)
        if not holders:
            del self._holders[registration.fingerprint]
            self._generation += 1


def _split(deps: bytes | tuple[bytes, ...]) -> tuple[bytes, ...]:
    if isinstance(deps, tuple):
        return deps
    return tuple(
        deps[start : start + FINGERPRINT_SIZE] for start in range(0, len(deps), FINGERPRINT_SIZE)
    )


registry: Final = LogicRegistry()
are_current: Final = registry.are_current
label: Final = registry.label
new_run: Final = registry.new_run
