"""Connections of a pool, and where they lead."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import asyncpg

from cocoindex.connectorkits.retry import NotConnected

__all__ = ["acquired", "acquired_here"]

_FAILURES: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


@asynccontextmanager
async def acquired(pool: asyncpg.Pool[Any]) -> AsyncIterator[Any]:
    """A connection of the pool; that there is none to be had is told apart from what follows.

    Raises:
        NotConnected: the server can't be reached, or refuses the connection.
    """
    try:
        connection: Any = await pool.acquire()
    except _FAILURES as error:
        raise NotConnected(_place_of(pool), error) from None
    try:
        yield connection
    finally:
        await pool.release(connection)


def acquired_here(
    pool: asyncpg.Pool[Any], *, for_long: bool = False
) -> AbstractAsyncContextManager[Any]:
    """As :func:`acquired`; or a connection like those of the pool, where another loop runs, or
    where taking the only one for as long as rows are worked on would leave none to write with.
    """
    is_here = pool._loop is asyncio.get_running_loop()  # noqa: SLF001 - nothing public tells
    if is_here and not (for_long and pool.get_max_size() < 2):
        return acquired(pool)
    return _connected(pool)


@asynccontextmanager
async def _connected(pool: Any) -> AsyncIterator[Any]:
    try:
        connection = await asyncpg.connect(*pool._connect_args, **pool._connect_kwargs)  # noqa: SLF001 - as above
    except _FAILURES as error:
        raise NotConnected(_place_of(pool), error) from None
    try:
        yield connection
    finally:
        await connection.close()


_HOSTS: Final = re.compile(r"(?:^|,)(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d+)?(?=,|\Z)")


def _place_of(pool: Any) -> str:
    """``Postgres at host:port/database``, as far as options tell; never a user or a password."""
    arguments: tuple[Any, ...] = getattr(pool, "_connect_args", ())
    options: dict[str, Any] = getattr(pool, "_connect_kwargs", None) or {}
    hosts, database = _of_url(arguments[0] if arguments else options.get("dsn"))
    if options.get("host"):
        hosts = str(options["host"])
        hosts += f":{options['port']}" if options.get("port") else ""
    database = options.get("database") or database
    place = hosts + (f"/{database}" if database else "")
    return f"Postgres at {place}" if place else "Postgres"


def _of_url(url: object) -> tuple[str, str]:
    """Hosts and database, or nothing if any of it might be part of a password."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
    except ValueError:
        return "", ""
    hosts = parts.netloc.rpartition("@")[2]
    rest = f"{parts.path}{parts.query}{parts.fragment}"
    if not parts.netloc or "@" in rest or "".join(_HOSTS.findall(hosts)) != hosts:
        return "", ""
    return hosts, unquote(parts.path.lstrip("/"))
