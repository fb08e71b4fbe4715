"""Environments: settings, context values, an event loop and an open state store."""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from cocoindex.engine.app_state import AppState
from cocoindex.engine.context_values import ContextKey, ContextProvider
from cocoindex.engine.limiter import Limiter
from cocoindex.engine.loops import background_loop, ensure_running, running_loop
from cocoindex.engine.settings import Settings
from cocoindex.engine.sinks import Sinks
from cocoindex.errors import UsageError, UsageValueError
from cocoindex.state.open import open_store
from cocoindex.state.tools.transfer import check_complete

if TYPE_CHECKING:
    from cocoindex.engine.app import App
    from cocoindex.engine.exception_handlers import ExceptionHandler
    from cocoindex.engine.run import Run
    from cocoindex.state.base import Store

T = TypeVar("T")


class AppRegistry:
    """The live apps of one environment, by name."""

    def __init__(self) -> None:
        self._apps: weakref.WeakValueDictionary[str, App[Any, Any]] = weakref.WeakValueDictionary()

    def register(self, app: App[Any, Any]) -> None:
        """Raises ``ValueError`` if another live app has this name."""
        holder = self._apps.get(app.name)
        if holder is not None and holder is not app:
            raise UsageValueError(
                f"An app named {app.name!r} is already registered in this environment."
            )
        self._apps[app.name] = app

    def unregister(self, app: App[Any, Any]) -> None:
        if self._apps.get(app.name) is app:
            del self._apps[app.name]

    def all(self) -> list[App[Any, Any]]:
        return sorted(self._apps.values(), key=lambda app: app.name)


class Environment:
    """An open state store with the context values and the event loop of the apps that use it.

    Args:
        settings: must name a store location.
        name: for listings and messages.
        context_provider: values for ``use_context``; a new empty one by default.
        event_loop: default: the running loop, else a process-wide background loop.
        exception_handler: hears of background failures that no scoped handler swallowed.
        info: kept for the caller.
        store: an open store to use instead of the one that ``settings`` name; closed with the
            environment.

    Raises:
        ValueError: ``settings`` name no store location.
        RuntimeError: the store is open in this process already, or can't be opened.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str | None = None,
        context_provider: ContextProvider | None = None,
        event_loop: asyncio.AbstractEventLoop | None = None,
        exception_handler: ExceptionHandler | None = None,
        info: Any = None,
        store: Store | None = None,
    ) -> None:
        if settings.store_location() is None and store is None:
            raise UsageValueError(
                "Settings.db_path must be provided (or Settings.database): it says where the "
                "environment keeps its state"
            )
        self._name = name or ""
        self._settings = settings
        self._context_provider = context_provider or ContextProvider()
        self._exception_handler = exception_handler
        self.info = info
        self._loop = event_loop or running_loop() or background_loop()
        self._pid = os.getpid()
        self._closed = False
        self._app_states: dict[str, AppState] = {}
        self._runs: set[Run] = set()
        self.apps = AppRegistry()
        self.sinks = Sinks(self._context_provider)
        self._store: Store = store if store is not None else self._open_store(settings)
        self._finalizer = weakref.finalize(self, _close_store, self._store, self._pid)
        register_environment(self)

    def _open_store(self, settings: Settings) -> Store:
        location = settings.store_location()
        assert location is not None
        return open_store(
            location,
            map_size=settings.lmdb_map_size,
            max_dbs=settings.lmdb_max_dbs,
            holder=f"environment {self._name!r}" if self._name else "an environment",
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def context_provider(self) -> ContextProvider:
        return self._context_provider

    @property
    def exception_handler(self) -> ExceptionHandler | None:
        return self._exception_handler

    @property
    def event_loop(self) -> asyncio.AbstractEventLoop:
        """The loop on which the engine runs; a closed one is replaced by the present one."""
        if self._loop.is_closed():
            self._loop = running_loop() or background_loop()
            self.sinks = Sinks(self._context_provider)
            for state in self._app_states.values():
                state.leave_loop()
        if not self._loop.is_running():
            ensure_running(self._loop)
        return self._loop

    @property
    def store(self) -> Store:
        self.check_usable()
        return self._store

    def get_context(self, key: ContextKey[T]) -> T:
        """The value provided under ``key`` (``KeyError`` if there is none)."""
        return self._context_provider.get(key)

    def check_usable(self) -> None:
        """Raises ``RuntimeError`` if this environment is closed, or was opened before a fork."""
        if self._pid != os.getpid():
            raise UsageError(
                f"environment {self._name!r} was opened in another process; open one of your "
                "own after forking"
            )
        if self._closed:
            raise UsageError(
                f"environment {self._name!r} is closed; open a new one (for the default "
                "environment: coco.start())"
            )

    @property
    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Write everything out, close the store and release its lock. Idempotent."""
        if self._closed or self._pid != os.getpid():
            return
        self._closed = True
        self._finalizer.detach()
        self.sinks.close()  # what they do belongs to the lease that goes with the store
        self._store.close()

    # --- for the engine --------------------------------------------------------------------------

    def app_state(self, app: App[Any, Any]) -> AppState:
        """The in-memory state of an app, made on first use."""
        self.check_usable()
        state = self._app_states.get(app.name)
        if state is None:
            limiter = Limiter(app.max_inflight_components)
            section = self._store.section(app.name)
            check_complete(section)
            state = self._app_states[app.name] = AppState(app.name, section, limiter)
        elif state.limiter.limit != app.max_inflight_components and state.limiter.is_idle:
            state.limiter = Limiter(app.max_inflight_components)  # another App of this name
        return state

    def run_started(self, run: Run) -> None:
        self._runs.add(run)

    def run_ended(self, run: Run) -> None:
        self._runs.discard(run)

    def is_run_of(self, run: Run, app_name: str) -> bool:
        return run in self._runs and run.app.name == app_name

    def live_runs(self) -> list[Run]:
        return list(self._runs)


def _close_store(store: Store, pid: int) -> None:
    """Close the store of an environment that was dropped without being closed."""
    if pid == os.getpid():
        store.close()


_environments: weakref.WeakSet[Environment] = weakref.WeakSet()


def register_environment(environment: Environment) -> None:
    _environments.add(environment)


def environments() -> list[Environment]:
    """Every environment of this process that is still referenced."""
    return list(_environments)
