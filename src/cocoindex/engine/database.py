"""The Postgres database that keeps the state, for those who have one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cocoindex.state.postgres.location import PostgresLocation


@dataclass(repr=False)
class DatabaseConnectionSpec:
    """A Postgres database, and how to connect to it. Its ``repr`` has no password in it.

    Attributes:
        url: ``postgresql://...``.
        user, password: override those in ``url``.
        max_connections: how many connections may be open at a time; at least 1.
        min_connections: how many a pool keeps open; at least 0.
    """

    url: str
    user: str | None = None
    password: str | None = None
    max_connections: int = 25
    min_connections: int = 5

    def location(self, schema: str | None = None) -> PostgresLocation:
        """Raises ``ValueError`` if ``url`` can't be read; the message does not quote it."""
        from cocoindex.state.postgres.location import PostgresLocation

        return PostgresLocation.of(
            self.url,
            user=self.user,
            password=self.password,
            schema=schema,
            max_connections=self.max_connections,
        )

    def __repr__(self) -> str:
        try:
            shown = str(self.location())
        except ValueError:
            shown = "(unreadable)"
        secret = "" if self.password is None else ", password='***'"
        return (
            f"DatabaseConnectionSpec(url={shown!r}, user={self.user!r}{secret}, "
            f"max_connections={self.max_connections}, min_connections={self.min_connections})"
        )
