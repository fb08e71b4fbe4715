"""What a conformance suite needs to know about a connector, and a world to try it in."""

# ruff: noqa: ARG002 - defaults take what overriding methods need

from __future__ import annotations

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cocoindex as coco

__all__ = ["Container", "TargetAdapter", "World"]

Row = Mapping[str, Any]
Key = tuple[Any, ...]


class TargetAdapter(ABC):
    """Speaks to one empty database (or whatever the connector writes to) for one test.

    What the adapter itself does goes past the connector, as another program would.
    """

    key: coco.ContextKey[Any]
    """Under which the connector's client is provided."""

    @abstractmethod
    async def open(self) -> Any:
        """A client, as users provide it. Opened for each update, and closed after it."""

    @abstractmethod
    async def close(self, client: Any) -> None:
        """Close what :meth:`open` gave."""

    @abstractmethod
    async def mount(
        self, name: str, record_type: type[Any], primary_key: Sequence[str], **options: Any
    ) -> Any:
        """Mount the container ``name`` with columns from a dataclass, inside a component."""

    def declare(self, target: Any, row: Row) -> None:
        """Declare one row in what :meth:`mount` gave."""
        target.declare_row(row=row)

    @abstractmethod
    async def read(self, name: str) -> dict[Key, dict[str, Any]] | None:
        """All rows of a container by key, as Python values; ``None`` if there is none."""

    @property
    @abstractmethod
    def trips(self) -> int:
        """How many requests the connector has sent so far. In a process without a server, how
        many times it has called its library to write or to look something up.
        """

    @abstractmethod
    def failing(
        self, trip: int, when: Literal["before", "after"]
    ) -> contextlib.AbstractContextManager[Any]:
        """A block in which the connection breaks at one request, counted from 1: before it
        reaches the system, or after it was carried out. Later requests work again.
        """

    def small_chunks(self, rows: int) -> contextlib.AbstractContextManager[Any]:
        """A block in which at most ``rows`` rows are written at once.

        For connectors made with the table kit, set :attr:`dialect` instead of overriding this.
        """
        if self.dialect is None:
            return contextlib.nullcontext()
        return _limited(self.dialect, rows)

    dialect: Any = None
    """The dialect of a connector made with the table kit."""

    trips_per_chunk: int = 8
    """Most requests for one chunk of rows, whatever its size."""
    trips_per_container: int = 16
    """Most requests to create or change a container."""

    # --- needed by some of the suites only ------------------------------------------------------

    async def create(self, name: str, record_type: type[Any], primary_key: Sequence[str]) -> None:
        """Make a container by hand, fit for the rows of a dataclass of ``int`` and ``str``."""
        raise AssertionError(f"{type(self).__name__}.create is needed by this suite")

    async def insert(self, name: str, row: Row) -> None:
        """Write a row by hand."""
        raise AssertionError(f"{type(self).__name__}.insert is needed by this suite")

    async def columns(self, name: str) -> dict[str, bool]:
        """The columns of a container, and whether they may be empty."""
        raise AssertionError(f"{type(self).__name__}.columns is needed by this suite")

    async def refuse(self, name: str, column: str, value: Any) -> None:
        """Have the system refuse rows with this value, for good."""
        raise AssertionError(f"{type(self).__name__}.refuse is needed by this suite")


@contextlib.contextmanager
def _limited(dialect: Any, rows: int) -> Iterator[None]:
    cls = type(dialect)
    before = cls.max_rows
    cls.max_rows = rows
    try:
        yield
    finally:
        cls.max_rows = before


@dataclasses.dataclass
class Container:
    """A container as a program declares it.

    Attributes:
        record_type: dataclass of its rows.
        rows: dicts.
        key: names of the key columns.
        spread: how rows are declared: all in one component, each in one of its own, or each in
            a memoized one.
        options: of the connector.
    """

    record_type: type[Any]
    rows: list[dict[str, Any]]
    key: tuple[str, ...] = ("id",)
    spread: Literal["together", "each", "memo"] = "together"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


class World:
    """A program that declares containers, its state, and a database.

    Every update is that of a process that has just started: environment, app and client are
    new; only the state store and the database are the old ones.
    """

    def __init__(self, adapter: TargetAdapter, folder: Path, *, app: str = "conformance") -> None:
        self.adapter = adapter
        self.folder = folder
        self.containers: dict[str, Container] = {}
        self._app_name = app
        self._states = 0
        self.failures: list[BaseException] = []
        """What failed in the background of the last update."""

    def _note_failure(self, error: BaseException, _context: coco.ExceptionContext) -> None:
        self.failures.append(error)

    def lose_state(self) -> None:
        """Continue with an empty state store."""
        self._states += 1

    async def update(self, **options: Any) -> int:
        """Run the program; returns how many requests the connector has sent.

        What failed in the background is raised once the update is through: alone, or as a
        group.
        """
        before = self.adapter.trips
        async with self._app() as app:
            await app.update(**options)
        if len(self.failures) == 1:
            raise self.failures[0]
        if self.failures:
            raise BaseExceptionGroup("several components failed", self.failures)
        return self.adapter.trips - before

    async def preview(self) -> list[Any]:
        """What an update would do, without any client at hand."""
        async with self._app(with_client=False) as app:
            planned: list[Any] = await app.update(preview=True)
            return planned

    async def drop(self) -> None:
        """Drop the app."""
        async with self._app() as app:
            await app.drop()

    @contextlib.asynccontextmanager
    async def _app(self, *, with_client: bool = True) -> AsyncIterator[coco.App[..., Any]]:
        state = self.folder / f"state{self._states}"
        self.failures.clear()
        environment = coco.Environment(
            coco.Settings(db_path=state), exception_handler=self._note_failure
        )
        client = await self.adapter.open() if with_client else None
        try:
            if with_client:
                environment.context_provider.provide(self.adapter.key, client)
            yield coco.App(coco.AppConfig(self._app_name, environment), self._main)
        finally:
            environment.close()
            if with_client:
                await self.adapter.close(client)

    async def _main(self) -> None:
        for name, container in self.containers.items():
            target = await self.adapter.mount(
                name, container.record_type, container.key, **container.options
            )
            if container.spread == "together":
                for row in container.rows:
                    self.adapter.declare(target, row)
                continue
            declare = _declare_memoized if container.spread == "memo" else _declare
            items = [(_name(row, container.key), row) for row in container.rows]
            with coco.component_subpath(name):
                await coco.mount_each(declare, items, self.adapter, target)


def _name(row: Row, key: Sequence[str]) -> str:
    return repr([row[name] for name in key])


@coco.fn
async def _declare(row: Row, adapter: TargetAdapter, target: Any) -> None:
    adapter.declare(target, row)


@coco.fn(memo=True, memo_key={"adapter": None})
async def _declare_memoized(row: Row, adapter: TargetAdapter, target: Any) -> None:
    adapter.declare(target, row)
