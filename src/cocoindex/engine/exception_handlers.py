"""Who hears of failures in the background."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from cocoindex.engine.scope import current_scope, entered

if TYPE_CHECKING:
    from cocoindex.engine.exception_context import ExceptionContext
    from cocoindex.engine.run import Run

_logger = logging.getLogger("cocoindex.engine")

ExceptionHandler = Callable[[BaseException, "ExceptionContext"], Awaitable[None] | None]


class HandlerChain(msgspec.Struct, frozen=True):
    """Handlers from the innermost scope outwards."""

    handler: ExceptionHandler
    outer: HandlerChain | None


@contextlib.asynccontextmanager
async def exception_handler(handler: ExceptionHandler) -> AsyncIterator[None]:
    """Route failures of components mounted in this block (and below them) to ``handler``.

    A handler that returns swallows the failure; one that raises passes its own exception on
    to the next outer handler.
    """
    scope = current_scope()
    with entered(scope.derive(handlers=HandlerChain(handler, scope.handlers))):
        yield


async def route(
    chain: HandlerChain | None,
    error: BaseException,
    context: ExceptionContext,
    *,
    is_told: bool = False,
) -> BaseException | None:
    """Pass ``error`` along the chain; return what nobody swallowed.

    ``is_told``: the log has its traceback already.
    """
    if chain is None:
        _logger.error(
            "component %s (%s) failed: %s",
            context.stable_path,
            context.processor_name or "<unknown>",
            error,
            exc_info=None if is_told else error,
        )
        return None
    original = error
    while chain is not None:
        try:
            outcome = chain.handler(error, context)
            if inspect.isawaitable(outcome):
                await outcome
            return None
        except asyncio.CancelledError as cancelled:
            return cancelled
        except Exception as raised:  # noqa: BLE001 - goes to the next outer handler
            error = raised
            context = replace(context, source="handler", original_exception=original)
            chain = chain.outer
    return error


async def route_in_run(
    run: Run, chain: HandlerChain | None, error: BaseException, context: ExceptionContext
) -> BaseException | None:
    """:func:`route`, where an interrupt that a handler raises must not reach the event loop."""
    is_told, run.last_failure = run.last_failure is error, error  # of a sink, for many components
    try:
        return await route(chain, error, context, is_told=is_told)
    except asyncio.CancelledError:
        return None
    except (KeyboardInterrupt, SystemExit) as interrupt:
        run.cancel(interrupt)
        return None
