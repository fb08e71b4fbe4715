"""The three libraries that speak to SQLite, made alike."""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from cocoindex.errors import UsageError, UsageValueError

__all__ = ["BUSY_CODES", "ROW_CODES", "Driver", "DriverName", "choose", "error_code", "vec_path"]

DriverName = Literal["sqlite3", "pysqlite3", "apsw"]

BUSY_CODES: Final = (5, 6)
"""SQLITE_BUSY and SQLITE_LOCKED."""

ROW_CODES: Final = (18, 19, 20)
"""SQLITE_TOOBIG, SQLITE_CONSTRAINT and SQLITE_MISMATCH."""

_INSTALL: Final = "Please install cocoindex[sqlite]."


class Driver(NamedTuple):
    """One library.

    Attributes:
        name: of its module.
        open: ``(database, timeout in seconds, options) -> connection`` in autocommit mode, usable
            from any thread.
        loads_extensions: whether its connections can.
        error: the base class of its errors.
    """

    name: str
    open: Callable[[str, float, dict[str, Any]], Any]
    loads_extensions: bool
    error: type[Exception]


def choose(name: DriverName) -> Driver:
    """The driver of that name.

    Never another one than was asked for: two copies of SQLite in one process don't see each
    other's locks, so the program has to know which one it uses.

    Raises:
        ImportError: the driver is not installed.
    """
    if name not in _MAKERS:
        raise UsageValueError(f"driver must be 'sqlite3', 'pysqlite3' or 'apsw', not {name!r}")
    return _MAKERS[name]()


def _standard() -> Driver:
    return _dbapi("sqlite3", sqlite3)


def _pysqlite3() -> Driver:
    return _dbapi("pysqlite3", _imported("pysqlite3", "pysqlite3-binary").dbapi2)


def _dbapi(name: str, module: Any) -> Driver:
    def open_connection(database: str, timeout: float, options: dict[str, Any]) -> Any:
        return module.connect(
            database, timeout=timeout, isolation_level=None, check_same_thread=False, **options
        )

    loads_extensions = hasattr(module.Connection, "enable_load_extension")
    return Driver(name, open_connection, loads_extensions, module.Error)


def _apsw() -> Driver:
    apsw = _imported("apsw", "apsw")

    def open_connection(database: str, timeout: float, options: dict[str, Any]) -> Any:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        if options.pop("uri", False):
            flags |= apsw.SQLITE_OPEN_URI
        if options:
            raise UsageValueError(f"driver 'apsw' has no options {', '.join(sorted(options))}")
        connection = apsw.Connection(database, flags)
        connection.setbusytimeout(int(timeout * 1000))
        return connection

    return Driver("apsw", open_connection, True, apsw.Error)


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"the SQLite driver {module!r} needs the package {package}. {_INSTALL}"
        ) from error


_MAKERS: Final[dict[str, Callable[[], Driver]]] = {
    "sqlite3": _standard,
    "pysqlite3": _pysqlite3,
    "apsw": _apsw,
}


def vec_path(driver: Driver, database: str) -> str:
    """The file of the sqlite-vec extension, for a connection to ``database``.

    Raises:
        ImportError: sqlite-vec is not installed.
        RuntimeError: the driver can't load extensions.
    """
    try:
        sqlite_vec = importlib.import_module("sqlite_vec")
    except ImportError as error:
        then = "" if driver.loads_extensions else f" Then {_other_driver(database)}"
        raise ImportError(
            "vectors in SQLite need the package sqlite-vec: pip install 'cocoindex[sqlite]'."
            f"{then} {_INSTALL}"
        ) from error
    if not driver.loads_extensions:
        raise UsageError(
            "sqlite-vec extension must be loaded to use vectors, but the sqlite3 module of this "
            f"Python can't load extensions: {_other_driver(database)} (Another way out is a Python "
            "built with --enable-loadable-sqlite-extensions.)"
        )
    return str(Path(sqlite_vec.loadable_path()))


def _other_driver(database: str) -> str:
    return (
        "open the database with the driver that cocoindex[sqlite] brings, "
        f"sqlite.managed_connection({database!r}, driver='apsw')."
    )


def error_code(error: BaseException) -> int | None:
    """SQLite's primary result code of an error from any driver, if it has one."""
    code = getattr(error, "sqlite_errorcode", None)  # sqlite3
    if code is None:
        code = getattr(error, "result", None)  # apsw
    if isinstance(code, int):
        return code & 0xFF
    if type(error).__name__ == "IntegrityError":  # pysqlite3 has no codes
        return 19
    locked = "is locked" in str(error) and type(error).__name__ == "OperationalError"
    return 5 if locked else None
