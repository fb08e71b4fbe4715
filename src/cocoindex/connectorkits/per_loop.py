"""Clients that belong to an event loop: one per loop, shared by all who use it there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["ClientCache"]

C = TypeVar("C")

_log = logging.getLogger(__name__)


class ClientCache(Generic[C]):
    """Opens a client on first use in each event loop, and keeps it.

    Args:
        open: opens a client in the running loop.
        close: closes one, in the loop it belongs to.
        name: what the clients are, for warnings.
    """

    def __init__(
        self,
        open: Callable[[], Awaitable[C]],
        close: Callable[[C], Awaitable[object]],
        *,
        name: str = "client",
    ) -> None:
        self._open = open
        self._close = close
        self._name = name
        self._clients: dict[asyncio.AbstractEventLoop, asyncio.Future[C]] = {}

    async def acquire(self) -> C:
        """The running loop's client. Who comes while it opens waits for the same one."""
        loop = asyncio.get_running_loop()
        known = self._clients.get(loop)
        while known is not None:
            try:
                return await asyncio.shield(known)
            except asyncio.CancelledError:
                if not known.cancelled():
                    raise  # this caller was cancelled, not the opening
                known = self._clients.get(loop)
        self._forget_closed_loops()
        return await self._open_in(loop)

    async def _open_in(self, loop: asyncio.AbstractEventLoop) -> C:
        future: asyncio.Future[C] = loop.create_future()
        self._clients[loop] = future
        try:
            client = await self._open()
        except BaseException as error:  # raised again: whoever waits for the client must hear of it
            del self._clients[loop]
            if isinstance(error, Exception):
                future.set_exception(error)
                future.exception()  # seen: the caller gets it below
            else:
                future.cancel()
            raise
        future.set_result(client)
        return client

    async def close(self) -> None:
        """Close the running loop's client; warn of clients that other loops still hold."""
        mine = self._clients.pop(asyncio.get_running_loop(), None)
        self._forget_closed_loops()
        if self._clients:
            _log.warning(
                "%s: %d clients of other event loops stay open; close() must run in each loop",
                self._name,
                len(self._clients),
            )
        if mine is not None:
            await self._close(await mine)

    def _forget_closed_loops(self) -> None:
        for loop in [loop for loop in self._clients if loop.is_closed()]:
            del self._clients[loop]
