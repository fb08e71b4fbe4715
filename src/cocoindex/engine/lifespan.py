"""The default environment: started on first use through a registered lifespan function."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import os
import threading
import warnings
import weakref
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from cocoindex.core.introspect import display_name
from cocoindex.engine.context_values import ContextKey, ContextProvider
from cocoindex.engine.environment import AppRegistry, Environment, environments
from cocoindex.engine.exception_handlers import ExceptionHandler
from cocoindex.engine.loops import background_loop, outcome_of, running_loop, submit
from cocoindex.engine.settings import DATABASE_ENV_VAR, DB_ENV_VAR, Settings, get_default_db_path
from cocoindex.errors import UsageError, UsageValueError

if TYPE_CHECKING:
    from cocoindex.engine.app import App

T = TypeVar("T")
R = TypeVar("R")


class EnvironmentBuilder:
    """Passed to lifespan functions to set up the environment."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings if settings is not None else Settings.from_env()
        self.context_provider = ContextProvider()
        self.exception_handler: ExceptionHandler | None = None

    def provide(self, key: ContextKey[T], value: T) -> T:
        """Provide a context value; returns it."""
        return self.context_provider.provide(key, value)

    def provide_with(self, key: ContextKey[T], cm: AbstractContextManager[T]) -> T:
        """Enter a context manager for the environment's lifetime and provide what it yields."""
        return self.context_provider.provide_with(key, cm)

    async def provide_async_with(
        self, key: ContextKey[T], acm: AbstractAsyncContextManager[T]
    ) -> T:
        """Like :meth:`provide_with` for an async context manager."""
        return await self.context_provider.provide_async_with(key, acm)

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        """Set the handler that hears of background failures after all scoped ones."""
        self.exception_handler = handler


LifespanFn = Callable[[EnvironmentBuilder], Iterator[None] | AsyncIterator[None]]


_lazy_environments: weakref.WeakSet[LazyEnvironment] = weakref.WeakSet()


def lazy_environments() -> list[LazyEnvironment]:
    """Every lazily opened environment of this process that is still referenced."""
    return sorted(_lazy_environments, key=lambda env: env.name)


class LazyEnvironment:
    """An environment that is opened when it is first needed."""

    def __init__(self, name: str = "default") -> None:
        self._name = name
        self._lifespan: LifespanFn | None = None
        self._environment: Environment | None = None
        self._exits: contextlib.AsyncExitStack | None = None
        self._starting: concurrent.futures.Future[Environment] | None = None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self.apps = AppRegistry()
        _lazy_environments.add(self)

    @property
    def name(self) -> str:
        return self._name

    @property
    def started(self) -> Environment | None:
        """The open environment, if there is one."""
        return self._environment

    def lifespan(self, fn: LifespanFn) -> LifespanFn:
        """Register the function that sets the environment up; a second one warns and replaces."""
        if self._lifespan is not None and self._lifespan is not fn:
            warnings.warn(
                f"the lifespan function of environment {self._name!r} is replaced "
                f"({self._lifespan!r} by {fn!r})",
                UserWarning,
                stacklevel=3,
            )
        self._lifespan = fn
        return fn

    async def start(self) -> Environment:
        """Open the environment if it is not open; concurrent starters share one start."""
        self._check_process()
        with self._lock:
            if self._environment is not None:
                return self._environment
            starting, is_mine = self._starting, self._starting is None
            if starting is None:
                starting = self._starting = concurrent.futures.Future()
                starting.set_running_or_notify_cancel()
        if is_mine:  # in a task of its own: a starter that gives up does not stop the others
            loop = running_loop() or background_loop()
            submit(loop, self._start_into(starting))
        return await outcome_of(starting)

    async def _start_into(self, starting: concurrent.futures.Future[Environment]) -> None:
        try:
            environment = await self._open()
        except BaseException as error:  # noqa: BLE001 - carried to everybody who waits
            self._finish_start(None)
            starting.set_exception(error)
        else:
            self._finish_start(environment)
            starting.set_result(environment)

    def _finish_start(self, environment: Environment | None) -> None:
        with self._lock:
            self._environment = environment
            self._starting = None

    def _check_process(self) -> None:
        if self._pid != os.getpid() and self._environment is not None:
            self._environment.check_usable()

    async def _open(self) -> Environment:
        exits = contextlib.AsyncExitStack()
        async with exits:
            builder = EnvironmentBuilder()
            exits.push_async_callback(builder.context_provider.aclose)
            if self._lifespan is not None:
                await exits.enter_async_context(_lifespan_context(self._lifespan, builder))
            self._complete(builder.settings)
            environment = Environment(
                builder.settings,
                name=self._name,
                context_provider=builder.context_provider,
                exception_handler=builder.exception_handler,
            )
            self._exits = exits.pop_all()
        return environment

    def _complete(self, settings: Settings) -> None:
        """Let the environment variable say where the state is, if nothing else is given."""
        if settings.db_path is None:
            settings.db_path = get_default_db_path()
        if settings.db_path is None and settings.database is None:
            raise UsageValueError(
                "the default environment has no store location: Settings.db_path must be provided "
                f"by a lifespan function (builder.settings.db_path = ...), or {DB_ENV_VAR} set, or "
                f"{DATABASE_ENV_VAR} for state in Postgres"
            )

    async def stop(self) -> None:
        """Close the environment: the lifespan's tail, context values, then the store."""
        with self._lock:
            environment, self._environment = self._environment, None
            exits, self._exits = self._exits, None
        if environment is None:
            return
        try:
            if exits is not None:
                await exits.aclose()
        finally:
            environment.close()


@contextlib.asynccontextmanager
async def _lifespan_context(fn: LifespanFn, builder: EnvironmentBuilder) -> AsyncIterator[None]:
    """Run a lifespan function up to its yield, and its tail at the end."""
    produced: Any = fn(builder)
    if inspect.isasyncgen(produced):
        async with contextlib.asynccontextmanager(lambda: produced)():
            yield
    elif inspect.isgenerator(produced):
        with contextlib.contextmanager(lambda: produced)():
            yield
    else:
        raise UsageError(
            f"lifespan function {display_name(fn)} must be a generator or async generator with one "
            "yield"
        )


_default = LazyEnvironment("default")


class EnvironmentInfo(NamedTuple):
    """An environment of this process and its live apps."""

    env: Environment | LazyEnvironment

    @property
    def env_name(self) -> str:
        return self.env.name

    def get_apps(self) -> list[App[Any, Any]]:
        """The apps registered here that are still referenced, by name."""
        return self.env.apps.all()


def get_registered_environment_infos() -> list[EnvironmentInfo]:
    """Lazily opened environments, and every other open one that is still referenced."""
    lazy = lazy_environments()
    started = [env.started for env in lazy]
    others = [env for env in environments() if env not in started]
    return [*map(EnvironmentInfo, lazy), *map(EnvironmentInfo, others)]


def default_env_lazy() -> LazyEnvironment:
    return _default


def reset_default_env_for_tests() -> None:
    """Close the default environment and forget its lifespan function and apps."""
    if _default.started is not None:
        stop_blocking()
    fresh = LazyEnvironment("default")
    _default.__dict__.update(fresh.__dict__)


@overload
def lifespan(fn: LifespanFn) -> LifespanFn: ...
@overload
def lifespan() -> Callable[[LifespanFn], LifespanFn]: ...


def lifespan(fn: LifespanFn | None = None) -> Any:
    """Register the lifespan function of the default environment (a decorator)."""
    if fn is None:
        return _default.lifespan
    return _default.lifespan(fn)


async def start() -> None:
    """Start the default environment."""
    await _default.start()


async def default_env() -> Environment:
    """The default environment, started if need be."""
    return await _default.start()


def start_blocking() -> None:
    """Start the default environment on the background loop.

    Raises:
        RuntimeError: called on the background loop itself.
    """
    _block_on(background_loop(), _default.start())


def stop_blocking() -> None:
    """Stop the default environment."""
    environment = _default.started
    if environment is None:
        return
    _block_on(environment.event_loop, _default.stop())


def _block_on(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, R]) -> R:
    if running_loop() is loop:
        coro.close()
        raise UsageError("this would block the environment's own event loop: use await instead")
    return submit(loop, coro).result()


class StopOperation(Coroutine[Any, Any, None]):
    """What :func:`stop` returns: a coroutine that may be dropped without a warning."""

    def __init__(self) -> None:
        self._inner: Coroutine[Any, Any, None] | None = None

    def _coroutine(self) -> Coroutine[Any, Any, None]:
        if self._inner is None:
            self._inner = _stop_default()
        return self._inner

    def send(self, value: Any) -> Any:
        return self._coroutine().send(value)

    def throw(self, *args: Any) -> Any:
        return self._coroutine().throw(*args)

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._coroutine().__await__()


async def _stop_default() -> None:
    environment = _default.started
    if environment is None:
        return
    loop = environment.event_loop
    if running_loop() is loop:
        await _default.stop()
    else:
        await outcome_of(submit(loop, _default.stop()))


def stop() -> StopOperation:
    """Stop the default environment (await what this returns)."""
    return StopOperation()


class _Runtime:
    """``with runtime():`` or ``async with runtime():``."""

    def __enter__(self) -> None:
        if running_loop() is not None:
            raise UsageError(
                "Cannot use sync 'with coco.runtime()' while an event loop is running: "
                "use 'async with coco.runtime()'"
            )
        start_blocking()

    def __exit__(self, *_: object) -> None:
        stop_blocking()

    async def __aenter__(self) -> None:
        await start()

    async def __aexit__(self, *_: object) -> None:
        await stop()


def runtime() -> _Runtime:
    """A block in which the default environment is started; it stops at the end."""
    return _Runtime()
