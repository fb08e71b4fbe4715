"""Settings of an environment; one class for apps and flows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocoindex.errors import UsageValueError
from cocoindex.state.postgres import is_postgres_url

if TYPE_CHECKING:
    from cocoindex.engine.database import DatabaseConnectionSpec
    from cocoindex.state.postgres.location import PostgresLocation

DB_ENV_VAR = "COCOINDEX_DB"
DATABASE_ENV_VAR = "COCOINDEX_DATABASE_URL"


@dataclass
class LmdbSettings:
    """Settings of the embedded state store.

    Attributes:
        max_dbs: kept for existing programs; at least 1.
        map_size: initial size in bytes; the store grows by itself.
    """

    max_dbs: int = 1024
    map_size: int = 4 * 1024**3

    def __post_init__(self) -> None:
        if self.max_dbs < 1:
            raise UsageValueError(f"LmdbSettings.max_dbs must be at least 1, not {self.max_dbs}")
        if self.map_size <= 0:
            raise UsageValueError(f"LmdbSettings.map_size must be positive, not {self.map_size}")


class Settings:
    """Where an environment keeps its state, and how.

    Args:
        db_path: directory of the embedded store; None: the environment variable
            ``COCOINDEX_DB`` (default environment only).
        database: the Postgres database that holds the state if there is no ``db_path``.
        db_schema_name: the schema in it, made if missing; None: the connection's default.
        db_settings: settings of the embedded store.
        lmdb_max_dbs, lmdb_map_size: the same, spelt as keywords.
        global_execution_options: read back as given; apps ignore it.
    """

    def __init__(
        self,
        db_path: os.PathLike[str] | str | None = None,
        db_settings: LmdbSettings | None = None,
        *,
        database: DatabaseConnectionSpec | None = None,
        db_schema_name: str | None = None,
        lmdb_max_dbs: int | None = None,
        lmdb_map_size: int | None = None,
        global_execution_options: Any = None,
    ) -> None:
        if db_settings is not None and (lmdb_max_dbs is not None or lmdb_map_size is not None):
            raise UsageValueError("give db_settings or lmdb_max_dbs/lmdb_map_size, not both")
        self.db_path = None if db_path is None else _directory(db_path, "db_path")
        self.database = database
        self.db_schema_name = db_schema_name
        self.db_settings = db_settings if db_settings is not None else LmdbSettings()
        if lmdb_max_dbs is not None:
            self.lmdb_max_dbs = lmdb_max_dbs
        if lmdb_map_size is not None:
            self.lmdb_map_size = lmdb_map_size
        self.global_execution_options = global_execution_options

    def store_location(self) -> Path | PostgresLocation | None:
        """Where the state is: ``db_path``, else the database; None if neither is given."""
        if self.db_path is not None:
            return _directory(self.db_path, "db_path")
        return self.database.location(self.db_schema_name) if self.database is not None else None

    @property
    def lmdb_max_dbs(self) -> int:
        return self.db_settings.max_dbs

    @lmdb_max_dbs.setter
    def lmdb_max_dbs(self, value: int) -> None:
        self.db_settings = LmdbSettings(value, self.db_settings.map_size)

    @property
    def lmdb_map_size(self) -> int:
        return self.db_settings.map_size

    @lmdb_map_size.setter
    def lmdb_map_size(self, value: int) -> None:
        self.db_settings = LmdbSettings(self.db_settings.max_dbs, value)

    @classmethod
    def from_env(cls, db_path: os.PathLike[str] | str | None = None) -> Settings:
        """Settings from environment variables (``COCOINDEX_LMDB_*``, ``COCOINDEX_DATABASE_*``;
        not ``COCOINDEX_DB``).

        Raises:
            ValueError: a variable can't be parsed; the message names it and its value.
        """
        return cls(
            db_path,
            database=_database_from_env(),
            db_schema_name=os.environ.get("COCOINDEX_DATABASE_SCHEMA_NAME") or None,
            lmdb_max_dbs=_int_from_env("COCOINDEX_LMDB_MAX_DBS"),
            lmdb_map_size=_int_from_env("COCOINDEX_LMDB_MAP_SIZE"),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"Settings(db_path={self.db_path!r}, db_settings={self.db_settings!r}, "
            f"database={self.database!r}, db_schema_name={self.db_schema_name!r})"
        )


def _database_from_env() -> DatabaseConnectionSpec | None:
    url = os.environ.get(DATABASE_ENV_VAR)
    limits = {
        "max_connections": _int_from_env("COCOINDEX_DATABASE_MAX_CONNECTIONS"),
        "min_connections": _int_from_env("COCOINDEX_DATABASE_MIN_CONNECTIONS"),
    }
    if not url:
        return None
    from cocoindex.engine.database import DatabaseConnectionSpec

    return DatabaseConnectionSpec(
        url,
        user=os.environ.get("COCOINDEX_DATABASE_USER") or None,
        password=os.environ.get("COCOINDEX_DATABASE_PASSWORD") or None,
        **{name: limit for name, limit in limits.items() if limit is not None},
    )


def _int_from_env(name: str) -> int | None:
    text = os.environ.get(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageValueError(f"failed to parse environment variable {name}: {text}") from None


def get_default_db_path() -> Path | None:
    """The store location from ``COCOINDEX_DB``, if set."""
    text = os.environ.get(DB_ENV_VAR)
    return _directory(text, DB_ENV_VAR) if text else None


def _directory(path: os.PathLike[str] | str, name: str) -> Path:
    if is_postgres_url(path):
        raise UsageValueError(
            f"{name} is the directory of an embedded store; for state in Postgres, give "
            f"database=DatabaseConnectionSpec(url) or {DATABASE_ENV_VAR}"
        )
    return Path(path)
