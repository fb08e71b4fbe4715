"""A simulated process: one loop, one open store, one environment, until it is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context
from random import Random
from typing import Any, Literal, NamedTuple

import cocoindex as coco
from cocoindex.engine import faults as points
from cocoindex.engine.workers import Job, Pool, use_pool
from cocoindex.state.memory import MemoryDisk
from cocoindex.testing.simulation.faults import Fault, FaultPlan
from cocoindex.testing.simulation.loop import Killed, SeededLoop
from cocoindex.testing.simulation.store import SimulatedStore

__all__ = ["InlinePool", "Outcome", "SimulatedProcess"]


class Outcome(NamedTuple):
    """How an operation ended."""

    kind: Literal["done", "failed", "cancelled", "killed"]
    value: Any
    plan: FaultPlan


class InlinePool(Pool):
    """Runs synchronous user code on the loop's own thread, out of sight of the loop."""

    def __init__(self, delay: Callable[[], float]) -> None:
        self._delay = delay

    def start(self, job: Job) -> None:
        """Run ``job`` after a virtual delay."""
        asyncio.get_running_loop().call_later(self._delay(), self._run, job, context=Context())

    @staticmethod
    def _run(job: Job) -> None:
        if not job.is_wanted:
            return
        loop = asyncio.get_running_loop()
        value, error = None, None
        asyncio._set_running_loop(None)  # noqa: SLF001 - as on a thread of its own
        try:
            value = job.context.run(job.run)
        except BaseException as raised:  # noqa: BLE001 - carried to whoever waits
            error = raised
        finally:
            asyncio._set_running_loop(loop)  # noqa: SLF001
        job.ended(value, error)


class SimulatedProcess:
    """An environment over ``disk`` on a :class:`SeededLoop`.

    Args:
        disk: what earlier processes have left.
        seed: of task order, delays, and of what a kill leaves on disk.
        context: values for ``use_context``.
        on_kill: told when the process dies, before anything else of it runs.
        on_error: hears of background failures.
    """

    def __init__(
        self,
        disk: MemoryDisk,
        seed: int,
        *,
        context: coco.ContextProvider | None = None,
        on_kill: Callable[[], None] = lambda: None,
        on_error: Callable[[BaseException, Any], None] = lambda _error, _context: None,
    ) -> None:
        self.random = Random(seed)  # noqa: S311 - repeatable on purpose
        self.loop = SeededLoop(self.random.getrandbits(32))
        self.store = SimulatedStore(disk, reach=self.reach, random=self.random)
        self.environment = coco.Environment(
            coco.Settings(),
            context_provider=context,
            event_loop=self.loop,
            exception_handler=on_error,
            store=self.store,
        )
        self.is_alive = True
        self._on_kill = on_kill
        self._plan: FaultPlan | None = None
        self._handle: Any = None
        self._pool = InlinePool(self.delay)

    def delay(self) -> float:
        """Virtual seconds that something takes: mostly none, sometimes long."""
        return self.random.choice((0.0, 0.0, 0.01, 1.0))

    def reach(self, point: str, where: object) -> None:
        """Pass a fault point."""
        if not self.is_alive:
            raise Killed
        if self._plan is not None:
            self._plan.reach(point, where)

    def run(self, start: Callable[[], Any], faults: Iterable[Fault] = ()) -> Outcome:
        """Run the operation whose handle ``start()`` returns (say, ``app.update``)."""
        self._plan = plan = FaultPlan(faults, kill=self._kill, cancel=self._cancel)
        try:
            with self._installed():
                return Outcome("done", self.loop.run(self._operate(start)), plan)
        except Killed:
            self.loop.bury()
            return Outcome("killed", None, plan)
        except asyncio.CancelledError as error:
            return Outcome("cancelled", error, plan)
        except Exception as error:  # noqa: BLE001 - the outcome, whatever it is
            return Outcome("failed", error, plan)
        finally:
            plan.end()
            self._plan = self._handle = None

    async def _operate(self, start: Callable[[], Any]) -> Any:
        self._handle = start()
        return await self._handle

    @contextmanager
    def _installed(self) -> Iterator[None]:
        points.install(self.reach)
        use_pool(self._pool)
        try:
            yield
        finally:
            points.install(None)
            use_pool(None)

    def settle(self) -> None:
        """Run on until no task is left: sink calls that a cancelled update has abandoned, queued
        ones included, are still carried out.
        """
        if self.is_alive:
            with self._installed():
                self.loop.run_while(lambda: bool(self.loop.tasks()))

    def _kill(self) -> None:
        self.is_alive = False
        self._on_kill()
        self.loop.kill()
        self.store.crash()
        # A global registry would keep the store, and through it all of this process, for ever.
        self.environment._finalizer.detach()  # noqa: SLF001
        raise Killed

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def end(self) -> None:
        """End the process in an orderly way."""
        if self.is_alive:
            self.environment.close()
            self.is_alive = False
            self.loop.bury()
