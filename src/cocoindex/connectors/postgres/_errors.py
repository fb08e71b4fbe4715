"""Errors of the server and the driver: which may pass, and what may be said about them."""

from __future__ import annotations

import re
import socket
from typing import Any, Final

import asyncpg

__all__ = ["blames_row", "describe", "is_blocked", "is_transient"]

_TRANSIENT: Final = (
    OSError,  # connection refused or reset; timeouts
    asyncpg.PostgresConnectionError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)

_OF_ROWS: Final = ("21", "22", "23")
_BLAMES_ROW: Final = (*_OF_ROWS, "44", "54000", "P0001")
"""Besides: check options of views, limits of the server, RAISE in a trigger."""
_WITH_DATA: Final = (*_OF_ROWS, "P0", "XX")
"""Classes of errors whose texts quote what was in a row."""

_LOWER_TO_UPPER: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN  # no such host is no passing reason
    if isinstance(error, asyncpg.InterfaceError):
        # A connection that broke between two requests; not a closed pool, not a wrong argument.
        return not isinstance(error, ValueError) and str(error).startswith(_BROKEN)
    return isinstance(error, _TRANSIENT)


_BROKEN: Final = (
    "connection is closed",
    "cannot call Connection",
    "cannot call Transaction",
    "cannot call PreparedStatement",
    "cannot perform operation: connection is closed",
    "the underlying connection is closed",
)


def blames_row(error: BaseException) -> bool:
    """Whether the error is about the values of some row, so that the others may be fine."""
    return (getattr(error, "sqlstate", None) or "").startswith(_BLAMES_ROW)


def is_blocked(error: BaseException) -> bool:
    """Whether something could not be dropped because something else depends on it."""
    return isinstance(error, asyncpg.DependentObjectsStillExistError)


def describe(error: BaseException) -> str:
    """What happened, without data of rows and without secrets."""
    state = getattr(error, "sqlstate", None)
    if state is None:
        return _of_client(error)
    return f"{_told(error, state)}{_function_of(error)} [{state}]"


def _told(error: Any, state: str) -> str:
    if not state.startswith(_WITH_DATA):
        detail = f" ({error.detail})" if state == "2BP01" and error.detail else ""
        advice = (
            "; drop them first, or declare the table with cascade=True" if state == "2BP01" else ""
        )
        return f"{_message(error)}{detail}{advice}"
    return _without_data(error)


_FUNCTION: Final = re.compile(r"^PL/\w+ function ([^\n]*?\))", re.MULTILINE)


def _function_of(error: Any) -> str:
    """Which function it happened in: mostly that of a trigger which others have made."""
    found = _FUNCTION.search(getattr(error, "context", None) or "")
    return f", in function {found[1]}" if found else ""


def _of_client(error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, asyncpg.ClientConfigurationError):  # its text may quote the URL
        return (
            f"{name}: the URL or the options of the pool are not valid; a URL is like "
            "postgresql://me@host:5432/database"
        )
    if not isinstance(error, OSError | asyncpg.InterfaceError) or isinstance(error, ValueError):
        return name
    text = " ".join(str(error).split())
    if text == "pool is not initialized":
        text += ": provide it with 'async with asyncpg.create_pool(...) as pool'"
    return f"{name}: {text}" if text else name


def _message(error: Any) -> str:
    return str(error.args[0] if error.args else type(error).__name__)


def _without_data(error: Any) -> str:
    """``check violation, constraint n_is_positive, column n``, from the error's fields."""
    name = _LOWER_TO_UPPER.sub(" ", type(error).__name__.removesuffix("Error")).lower()
    name = "invalid data" if name == "data" else name
    for field in ("constraint", "column", "data_type"):
        value = getattr(error, f"{field}_name", None)
        if value:
            name += f", {field.replace('_', ' ')} {value}"
    return name
