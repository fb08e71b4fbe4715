"""Apps: a named pipeline, and the handles of its operations."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from dataclasses import KW_ONLY, dataclass, field
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar

from cocoindex.core.deadline import current_deadline
from cocoindex.engine import (
    declare,  # noqa: F401 - what bodies call is loaded now, not in the middle of the first run
    mapping,  # noqa: F401
    mount,  # noqa: F401
    operations,
)
from cocoindex.engine.environment import Environment
from cocoindex.engine.guard import DeletionGuard
from cocoindex.engine.lifespan import LazyEnvironment, default_env_lazy
from cocoindex.engine.limits import DEFAULT_LIMITS, Limits
from cocoindex.engine.loops import background_loop, outcome_of, running_loop, submit
from cocoindex.engine.run import Failure, Run, RunOptions
from cocoindex.engine.scope import current_or_none
from cocoindex.engine.stats import StatsGroup, UpdateSnapshot, UpdateStats, UpdateStatus
from cocoindex.errors import UsageError, UsageTypeError, UsageValueError

P = ParamSpec("P")
R = TypeVar("R")

MAX_INFLIGHT_ENV_VAR = "COCOINDEX_MAX_INFLIGHT_COMPONENTS"
DEFAULT_MAX_INFLIGHT = 1024


@dataclass(frozen=True)
class AppConfig:
    """What an app is called and where it runs.

    Attributes:
        name: unique among the live apps of the environment; names its state.
        environment: default: the lazily started default environment.
        max_inflight_components: components that execute at once; None: the environment
            variable ``COCOINDEX_MAX_INFLIGHT_COMPONENTS``, else 1024.
        deletion_guard: withholds suspicious removals; None disables.
        lease_wait: how long to wait for another process that runs this app; None: not at all.
        limits: sizes of keys, paths and components beyond which data is refused.
    """

    name: str
    environment: Environment | LazyEnvironment = field(default_factory=default_env_lazy)
    max_inflight_components: int | None = None
    _: KW_ONLY
    deletion_guard: DeletionGuard | None = field(default_factory=DeletionGuard.from_env)
    lease_wait: timedelta | None = None
    limits: Limits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageValueError("an app needs a non-empty name")
        if self.max_inflight_components is not None and self.max_inflight_components < 1:
            raise UsageValueError(
                f"max_inflight_components must be at least 1, not {self.max_inflight_components}"
            )


def _max_inflight(config: AppConfig) -> int:
    if config.max_inflight_components is not None:
        return config.max_inflight_components
    text = os.environ.get(MAX_INFLIGHT_ENV_VAR)
    if not text:
        return DEFAULT_MAX_INFLIGHT
    try:
        limit = int(text)
    except ValueError:
        limit = 0
    if limit < 1:
        raise UsageValueError(f"{MAX_INFLIGHT_ENV_VAR} must be a positive integer, not {text!r}")
    return limit


class App(Generic[P, R]):
    """A named pipeline: a main function with its arguments, run as the root component.

    Raises:
        ValueError: another live app of the environment has this name.
    """

    def __init__(
        self,
        name_or_config: str | AppConfig,
        main_fn: Callable[P, R | Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        if isinstance(name_or_config, str):
            name_or_config = AppConfig(name_or_config)
        if not callable(main_fn):
            raise UsageTypeError(f"main_fn must be callable, not {type(main_fn).__name__}")
        self._config = name_or_config
        self._main_fn = main_fn
        self._args: tuple[Any, ...] = args
        self._kwargs: dict[str, Any] = kwargs
        self.max_inflight_components = _max_inflight(name_or_config)
        self._host.apps.register(self)

    @property
    def _host(self) -> Environment | LazyEnvironment:
        return self._config.environment

    @property
    def name(self) -> str:
        return self._config.name

    @property
    def config(self) -> AppConfig:
        return self._config

    @property
    def main_fn(self) -> Callable[..., Any]:
        return self._main_fn

    @property
    def args(self) -> tuple[Any, ...]:
        return self._args

    @property
    def kwargs(self) -> dict[str, Any]:
        return self._kwargs

    @property
    def lease_wait(self) -> timedelta | None:
        return self._config.lease_wait

    @property
    def environment(self) -> Environment | LazyEnvironment:
        return self._host

    async def open_environment(self) -> Environment:
        """The environment this app runs in, started if need be."""
        host = self._host
        environment = await host.start() if isinstance(host, LazyEnvironment) else host
        environment.check_usable()
        return environment

    def update(
        self,
        *,
        full_reprocess: bool = False,
        live: bool = False,
        preview: bool = False,
        allow_deletes: bool = False,
        report_to_stdout: bool | timedelta = False,
    ) -> UpdateHandle[R]:
        """Bring the targets in step; starts when the returned handle is awaited or watched.

        Args:
            full_reprocess: ignore every memo and apply everything again.
            live: not available in this release.
            preview: compute the actions, apply and store nothing; the result is their list.
            allow_deletes: approve removals that the deletion guard would withhold.
            report_to_stdout: show progress (an interval, or True for every second).
        """
        _check_live(live)
        guard = None if allow_deletes else self._config.deletion_guard
        options = RunOptions(
            full_reprocess=full_reprocess,
            preview=preview,
            guard=guard,
            limits=self._config.limits,
        )
        return UpdateHandle(self, options, _interval(report_to_stdout))

    def update_blocking(
        self,
        *,
        report_to_stdout: bool | timedelta = False,
        full_reprocess: bool = False,
        live: bool = False,
        preview: bool = False,
        allow_deletes: bool = False,
    ) -> R:
        """Like :meth:`update`, for code that does not run on the environment's loop.

        Raises:
            RuntimeError: called on that loop, which it would block.
        """
        handle = self.update(
            full_reprocess=full_reprocess,
            live=live,
            preview=preview,
            allow_deletes=allow_deletes,
            report_to_stdout=report_to_stdout,
        )
        self._check_not_on_loop("update")
        return handle.wait()

    def start_drop(self, *, report_to_stdout: bool | timedelta = False) -> DropHandle:
        """The operation behind :meth:`drop`, as a handle that can be watched."""
        return DropHandle(self, RunOptions(is_drop=True), _interval(report_to_stdout))

    async def drop(self) -> None:
        """Delete every target state of this app, and its state.

        Raises:
            Exception: something could not be deleted; it stays tracked, call again.
        """
        await self.start_drop().result()

    def drop_blocking(self, *, report_to_stdout: bool | timedelta = False) -> None:
        """Like :meth:`drop`, for code that does not run on the environment's loop."""
        handle = self.start_drop(report_to_stdout=report_to_stdout)
        self._check_not_on_loop("drop")
        handle.wait()

    def runs(self, run: Run) -> bool:
        """Whether ``run`` is a run of this app."""
        host = self._host
        environment = host.started if isinstance(host, LazyEnvironment) else host
        return environment is not None and environment.is_run_of(run, self.name)

    def _check_not_on_loop(self, operation: str) -> None:
        host = self._host
        environment = host.started if isinstance(host, LazyEnvironment) else host
        here = running_loop()
        if here is None or (environment is not None and environment.is_closed):
            return
        own = background_loop() if environment is None else environment.event_loop
        if here is own:
            raise UsageError(
                f"{operation}_blocking() would block the environment's event loop: "
                f"use await app.{operation}() instead"
            )

    def __repr__(self) -> str:
        return f"App({self.name!r})"


def _check_live(live: bool) -> None:
    if live:
        raise UsageValueError("live mode is not available in this release; use live=False")


def _interval(report: bool | timedelta) -> timedelta | None:
    if isinstance(report, timedelta):
        if report <= timedelta(0):
            raise UsageValueError("report_to_stdout needs a positive duration")
        return report
    return timedelta(seconds=1) if report else None


class Operation(Generic[R]):
    """A lazily started operation of an app: runs once, may be awaited many times."""

    def __init__(self, app: App[Any, Any], options: RunOptions, report: timedelta | None) -> None:
        self._app = app
        self._options = options
        self._report = report
        self._deadline = current_deadline()
        self._run: Run | None = None
        self._started: concurrent.futures.Future[Run] = concurrent.futures.Future()
        self._future: concurrent.futures.Future[Any] | None = None
        self._lock = threading.Lock()

    # --- results ---------------------------------------------------------------------------------

    async def result(self) -> R:
        """Run to the end and return the result; the same result or error every time."""
        self._start()
        assert self._future is not None
        value: R = await outcome_of(self._future)
        return value

    def __await__(self) -> Generator[Any, Any, R]:
        return self.result().__await__()

    def wait(self) -> R:
        """Run to the end, blocking the calling thread. Interrupting the wait cancels the run."""
        self._start()
        assert self._future is not None
        try:
            value: R = self._future.result()
            return value
        except KeyboardInterrupt as error:
            if not self._future.done():
                self.cancel(error)
                concurrent.futures.wait([self._future])
            raise

    def cancel(self, cause: BaseException | None = None) -> None:
        """Cancel the operation if it runs; thread-safe."""
        run = self._run
        if run is None:
            return
        reason = cause if cause is not None else asyncio.CancelledError("cancelled")
        environment = self._environment
        if environment is not None:
            environment.event_loop.call_soon_threadsafe(run.cancel, reason)

    def stats(self) -> UpdateStats | None:
        """The latest counters; None if nothing was counted yet."""
        return None if self._run is None else self._run.stats.snapshot()

    @property
    def failures(self) -> tuple[int, list[Failure]]:
        """How many components failed, and the first of them."""
        if self._run is None:
            return 0, []
        return self._run.failure_count, list(self._run.failures)

    @property
    def withheld(self) -> list[tuple[str, int, int]]:
        """Removals that the deletion guard has withheld so far: path, removed, had."""
        return [] if self._run is None else list(self._run.withheld)

    # --- running ---------------------------------------------------------------------------------

    _environment: Environment | None = None

    def _start(self) -> None:
        scope = current_or_none()
        if scope is not None and self._future is None and self._app.runs(scope.execution.run):
            raise UsageError(
                f"app {self._app.name!r} can't be updated or dropped from inside its own run: "
                "it would wait for itself"
            )
        with self._lock:
            if self._future is None:
                self._future = submit(self._starting_loop(), self._run_on_its_loop())
                self._future.add_done_callback(self._never_started)

    def _starting_loop(self) -> asyncio.AbstractEventLoop:
        host = self._app.environment
        environment = host.started if isinstance(host, LazyEnvironment) else host
        if environment is not None and not environment.is_closed:
            environment.check_usable()
            return environment.event_loop
        return running_loop() or background_loop()

    async def _run_on_its_loop(self) -> Any:
        environment = await self._app.open_environment()
        if running_loop() is environment.event_loop:
            return await self._perform(environment)
        return await outcome_of(submit(environment.event_loop, self._perform(environment)))

    async def _perform(self, environment: Environment) -> Any:
        self._environment = environment
        self._run = run = operations.new_run(environment, self._app, self._options)
        self._started.set_result(run)
        display = _start_display(run, self._report)
        try:
            return await self._operate(environment, run)
        finally:
            run.stats.terminate()
            if display is not None:
                await display

    async def _operate(self, environment: Environment, run: Run) -> Any:
        host = self._app.environment
        host.apps.register(self._app)
        if run.is_drop:
            await operations.drop(environment, self._app, run)
            host.apps.unregister(self._app)
            return None
        return await operations.update(environment, self._app, run, self._deadline)

    def _never_started(self, future: concurrent.futures.Future[Any]) -> None:
        """Release watchers if the environment could not even be opened."""
        if not self._started.done():
            error = future.exception() if not future.cancelled() else None
            self._started.set_exception(error or asyncio.CancelledError())

    async def _snapshots(self) -> AsyncIterator[UpdateSnapshot[Any]]:
        self._start()
        run = await outcome_of(self._started)
        async for snapshot in run.stats.changes():
            yield snapshot


class UpdateHandle(Operation[R]):
    """An update: await it for the result, or watch its progress."""

    async def watch(self) -> AsyncIterator[UpdateSnapshot[R]]:
        """Snapshots of the counters on every change (coalesced); the last one has the result.

        Raises:
            TypeError: for a preview.
        """
        if self._options.preview:
            raise UsageTypeError("watch() is not supported when preview=True")
        async for snapshot in self._snapshots():
            yield snapshot
        value = await self.result()
        yield UpdateSnapshot(self.stats(), UpdateStatus.READY, value)


class DropHandle(Operation[None]):
    """A drop: await it, or watch its progress."""

    async def watch(self) -> AsyncIterator[UpdateSnapshot[None]]:
        """Snapshots of the counters on every change (coalesced), the last one is READY."""
        async for snapshot in self._snapshots():
            yield snapshot
        await self.result()
        yield UpdateSnapshot(self.stats(), UpdateStatus.READY)


async def show_progress(handle: UpdateHandle[R], *, refresh_interval: timedelta | None = None) -> R:
    """Run an operation with the progress display and return its result."""
    from cocoindex.display.progress import display

    interval = _interval(refresh_interval if refresh_interval is not None else True)
    assert interval is not None
    await display(handle, refresh_interval=interval)
    return await handle.result()


class _Progress:
    """What a progress display sees of a run."""

    def __init__(self, group: StatsGroup) -> None:
        self._group = group

    def stats(self) -> UpdateStats | None:
        return self._group.snapshot()

    def watch(self) -> AsyncIterator[UpdateSnapshot[None]]:
        return self._group.changes()


def _start_display(run: Run, interval: timedelta | None) -> asyncio.Task[None] | None:
    if interval is None:
        return None
    from cocoindex.display.progress import display

    return asyncio.get_running_loop().create_task(
        display(_Progress(run.stats), refresh_interval=interval)
    )


def cancel_all() -> None:
    """Cancel every run of every environment of this process; thread-safe."""
    from cocoindex.engine.environment import environments

    for environment in environments():
        for run in environment.live_runs():
            cause = asyncio.CancelledError("cancelled")
            environment.event_loop.call_soon_threadsafe(run.cancel, cause)
