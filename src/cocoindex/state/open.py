"""The one place that decides which store a location means."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cocoindex.errors import StoreError, UsageValueError
from cocoindex.state import registry
from cocoindex.state.base import Store
from cocoindex.state.postgres import is_postgres_url

if TYPE_CHECKING:
    from cocoindex.state.postgres.location import PostgresLocation

__all__ = ["DEFAULT_MAP_SIZE", "DEFAULT_MAX_DBS", "open_store", "store_exists"]

DEFAULT_MAX_DBS = 1024
DEFAULT_MAP_SIZE = 1 << 32

_DATA_FILE = "state.lmdb"
_FOREIGN = "mdb"

_log = logging.getLogger(__name__)


def open_store(
    location: str | os.PathLike[str] | PostgresLocation,
    *,
    map_size: int = DEFAULT_MAP_SIZE,
    max_dbs: int = DEFAULT_MAX_DBS,
    holder: str = "another user of the store",
    read_only: bool = False,
) -> Store:
    """Open a state store.

    Args:
        location: the directory that holds it, made with its parents if missing; or the URL of
            a Postgres database, whose parameter ``schema`` may name a schema in it.
        map_size: initial size in bytes (> 0); the store grows beyond it by itself.
        max_dbs: checked (>= 1) and otherwise unused.
        holder: who opens it, for the error of a second opener: ``"environment 'x'"``.
        read_only: for inspection; the store must exist, and nothing is created.

    Raises:
        UsageValueError: a size is out of range.
        StoreFormatError: something else is stored there, or a newer format.
        StoreError: it can't be opened, or is open in this process already.
    """
    _check("map_size", map_size)
    _check("max_dbs", max_dbs)
    location = _parsed(location)
    if not isinstance(location, (str, os.PathLike)):
        return _open_postgres(location, holder, read_only=read_only)
    directory = Path(location).absolute()
    if read_only and not store_exists(directory):
        raise StoreError(f"there is no state store at {directory}")
    _make(directory)
    key = registry.reserve_directory(directory, holder)
    try:
        # Here, so that importing cocoindex does not load lmdb.
        from cocoindex.state.lmdb_store import LmdbStore

        store = LmdbStore(
            directory,
            map_size=map_size,
            read_only=read_only,
            on_close=partial(registry.release, key),
        )
    except BaseException:
        registry.release(key)
        raise
    registry.adopt(key, store)
    _warn_of_foreign(directory)
    return store


def _parsed(
    location: str | os.PathLike[str] | PostgresLocation,
) -> str | os.PathLike[str] | PostgresLocation:
    """``location``, taken apart if it is a URL."""
    if not is_postgres_url(location):
        return location
    from cocoindex.state.postgres.location import PostgresLocation

    return PostgresLocation.of(str(location))


def _open_postgres(location: PostgresLocation, holder: str, *, read_only: bool) -> Store:
    key = str(location)
    registry.reserve(key, key, holder)
    try:
        from cocoindex.state.postgres.store import PostgresStore

        store = PostgresStore(
            location, read_only=read_only, on_close=partial(registry.release, key)
        )
    except BaseException:
        registry.release(key)
        raise
    registry.adopt(key, store)
    return store


def store_exists(location: str | os.PathLike[str] | PostgresLocation) -> bool:
    """Whether a state store is at ``location``. Creates nothing.

    Raises:
        StoreError: the database can't be reached.
    """
    location = _parsed(location)
    if not isinstance(location, (str, os.PathLike)):
        from cocoindex.state.postgres.store import is_there

        return is_there(location)
    return Path(location, _DATA_FILE).is_file()


def _check(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise UsageValueError(f"{name} must be an int above 0, got {value!r}")


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise StoreError(
            f"can't make the directory of the state store at {directory}: {cause.strerror}. "
            "db_path must be a directory."
        ) from cause


def _warn_of_foreign(directory: Path) -> None:
    if (directory / _FOREIGN).exists():
        _log.warning(
            "%s holds the state of another program or release; it is neither read nor changed, "
            "and the target states tracked there will not be cleaned up by this program.",
            directory / _FOREIGN,
        )
