"""Where a Postgres store is: parsed and checked without a driver, and printable without secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from cocoindex.errors import UsageValueError
from cocoindex.state.postgres import is_postgres_url

__all__ = ["PostgresLocation"]

_AUTHORITY = re.compile(r"(?:(?P<user>[^:@]*)(?::(?P<password>[^@]*))?@)?(?P<hosts>[^@]*)")


@dataclass(frozen=True, slots=True)
class PostgresLocation:
    """A database and the schema in it that holds the store.

    ``str`` of it is fit for messages: it has neither user nor password.

    Attributes:
        url: without our own parameter ``schema``, and without user and password.
        user, password: ``None`` leaves them to libpq (``PGUSER``, ``~/.pgpass``, ...).
        schema: ``None`` means the default schema of the connection.
        max_connections: limit of connections that are open at a time.
    """

    url: str = field(repr=False)  # there are more secrets among libpq's parameters
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    max_connections: int = 25

    @classmethod
    def of(
        cls,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        schema: str | None = None,
        max_connections: int = 25,
    ) -> PostgresLocation:
        """Take ``url`` apart. ``user`` and ``password`` override those in it.

        Raises:
            UsageValueError: it is no URL of a Postgres database. The message never quotes it.
        """
        if not is_postgres_url(url):
            raise UsageValueError("the database URL must start with postgresql://")
        _, authority, path, query, fragment = urlsplit(url)
        match = _AUTHORITY.fullmatch(authority)
        if match is None or "@" in path or "@" in fragment or fragment:
            # What follows a stray / or # may be the rest of a password.
            raise UsageValueError(
                "the database URL can't be read. Characters such as @ : / ? # in a user name or "
                "password have to be percent-encoded in it."
            )
        if max_connections < 1:
            raise UsageValueError(f"max_connections must be at least 1, not {max_connections}")
        parameters = parse_qsl(query, keep_blank_values=True)
        named = dict(parameters)
        rest = [(n, v) for n, v in parameters if n not in {"schema", "user", "password"}]
        tail = f"?{urlencode(rest, quote_via=quote)}" if rest else ""
        return cls(
            f"postgresql://{match['hosts']}{path}{tail}",
            user or named.get("user") or _decoded(match["user"]),
            password or named.get("password") or _decoded(match["password"]),
            schema or named.get("schema") or None,
            max_connections,
        )

    @property
    def host(self) -> str:
        """The host (and port) for messages."""
        parts = urlsplit(self.url)
        return parts.netloc or dict(parse_qsl(parts.query)).get("host") or "localhost"

    def without_secrets(self, text: str) -> str:
        """``text``, with the password masked wherever it appears."""
        for secret in {self.password, quote(self.password or "", safe="")}:
            if secret:
                text = text.replace(secret, "***")
        return text

    def __str__(self) -> str:
        base, _, query = self.url.partition("?")
        shown = [(name, value) for name, value in parse_qsl(query) if name in {"host", "port"}]
        if self.schema is not None:
            shown.append(("schema", self.schema))
        return f"{base}?{urlencode(shown, safe='/')}" if shown else base


def _decoded(text: str | None) -> str | None:
    return unquote(text) if text else None
