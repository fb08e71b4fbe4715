"""The tables of a store, and every statement on them.

``cocoindex_state`` has the rows, ``cocoindex_state_sections`` one row per app with its lease, and
``cocoindex_state_meta`` the format. A section has an *epoch*, which grows whenever somebody else
may write from then on, and the number (``seq``) of the last batch written under that epoch. Both
are checked and advanced by the statement that writes a batch. So a batch of an earlier holder, or
one that was sent again after its connection was lost, can't be applied late or twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

from cocoindex.errors import StoreError, StoreFormatError
from cocoindex.state.base import FORMAT_VERSION

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["Statements", "exists", "open_tables"]

_META, _SECTIONS, _ROWS = "cocoindex_state_meta", "cocoindex_state_sections", "cocoindex_state"
_CREATION_LOCK = 0x636F636F
"""Key of the advisory lock under which the tables are made: "coco"."""

_TABLES: tuple[LiteralString, ...] = (
    "CREATE TABLE {meta} (name text PRIMARY KEY, value text NOT NULL)",
    """CREATE TABLE {sections} (
        section integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name text NOT NULL UNIQUE,
        epoch bigint NOT NULL DEFAULT 0,
        seq bigint NOT NULL DEFAULT 0,
        holder_pid integer,
        holder_host text,
        holder_process text,
        expires timestamptz
    ) WITH (fillfactor = 50)""",
    """CREATE TABLE {rows} (
        section integer NOT NULL,
        key bytea NOT NULL,
        value bytea NOT NULL,
        PRIMARY KEY (section, key)
    ) WITH (fillfactor = 90)""",
    "INSERT INTO {meta} VALUES ('format', {format})",
)

_STATEMENTS: dict[str, LiteralString] = {
    "get": "SELECT value FROM {rows} WHERE section = %s AND key = %s",
    "get_many": "SELECT key, value FROM {rows} WHERE section = %s AND key = ANY(%s)",
    "page": """
        SELECT key, CASE WHEN octet_length(value) <= %s THEN value END FROM {rows}
        WHERE section = %s AND key >= %s ORDER BY key LIMIT %s""",
    "names": """
        SELECT s.section, s.name FROM {sections} s
        WHERE EXISTS (SELECT FROM {rows} r WHERE r.section = s.section)""",
    "number": "SELECT section FROM {sections} WHERE name = %s",
    "add_section": "INSERT INTO {sections} (name) VALUES (%s) ON CONFLICT DO NOTHING",
    "size": """
        SELECT pg_total_relation_size({rows_name}::regclass)
             + pg_total_relation_size({sections_name}::regclass)""",
    # A precondition that does not hold makes ``seq`` NULL, which the column refuses: so the
    # whole statement fails, and the transaction it may be a part of.
    "write": """
        WITH fence AS (
            UPDATE {sections} s SET
                seq = CASE WHEN s.epoch = held.epoch AND s.seq = held.seq - 1 THEN held.seq END,
                expires = CASE WHEN expires IS NOT NULL
                    THEN greatest(expires, clock_timestamp() + %(lease)s * interval '1 second') END
            FROM unnest(%(sections)s::int[], %(epochs)s::bigint[], %(seqs)s::bigint[])
                AS held (section, epoch, seq)
            WHERE s.section = held.section
            RETURNING s.section
        ), gone AS (
            DELETE FROM {rows} r
            USING unnest(%(gone_from)s, %(gone)s) AS old (section, key)
            WHERE r.section = old.section AND r.key = old.key
                AND (SELECT count(*) FROM fence) >= 0
        ), put AS (
            INSERT INTO {rows} (section, key, value)
            SELECT * FROM unnest(%(put_into)s, %(keys)s, %(values)s)
            WHERE (SELECT count(*) FROM fence) >= 0
            ON CONFLICT (section, key) DO UPDATE SET value = excluded.value
        )
        SELECT count(*) FROM fence""",
    "clear": "DELETE FROM {rows} WHERE section = ANY(%(sections)s::int[])",
    "holder": """
        SELECT epoch, seq, holder_pid, holder_host, holder_process,
               extract(epoch FROM expires - clock_timestamp())::float8
        FROM {sections} WHERE section = %s""",
    # Writing without a lease: nobody else may be running the app.
    "claim": """
        UPDATE {sections} SET
            epoch = epoch + 1, seq = 0, expires = NULL,
            holder_pid = NULL, holder_host = NULL, holder_process = NULL
        WHERE section = %s AND coalesce(expires < clock_timestamp(), true)
        RETURNING epoch""",
    "acquire": """
        UPDATE {sections} SET
            epoch = epoch + 1, seq = 0, holder_pid = %(pid)s, holder_host = %(host)s,
            holder_process = %(process)s,
            expires = clock_timestamp() + %(lease)s * interval '1 second'
        WHERE section = %(section)s AND (
            coalesce(expires < clock_timestamp(), true) OR epoch = %(dead)s::bigint)
        RETURNING epoch""",
    "renew": """
        UPDATE {sections} s
        SET expires = clock_timestamp() + %(lease)s * interval '1 second'
        FROM unnest(%(sections)s::int[], %(epochs)s::bigint[]) AS held (section, epoch)
        WHERE s.section = held.section AND s.epoch = held.epoch AND expires IS NOT NULL
        RETURNING s.section""",
    "release": """
        UPDATE {sections}
        SET expires = NULL, holder_pid = NULL, holder_host = NULL, holder_process = NULL
        WHERE section = %s AND epoch = %s""",
    "vacuum": "VACUUM (FULL, ANALYZE) {rows}",
}


class Statements:
    """Every statement with the tables of one schema in it, by name."""

    def __init__(self, schema: str) -> None:
        from psycopg import sql

        self.schema = schema
        self._names = {
            "meta": sql.Identifier(schema, _META),
            "sections": sql.Identifier(schema, _SECTIONS),
            "rows": sql.Identifier(schema, _ROWS),
            "rows_name": sql.Literal(_quoted(schema, _ROWS)),
            "sections_name": sql.Literal(_quoted(schema, _SECTIONS)),
            "format": sql.Literal(str(FORMAT_VERSION)),
        }
        self._made = {name: self.of(text) for name, text in _STATEMENTS.items()}

    def of(self, text: LiteralString) -> bytes:
        from psycopg import sql

        return sql.SQL(text).format(**self._names).as_bytes(None)

    def __getitem__(self, name: str) -> bytes:
        return self._made[name]

    def scan(self, *, values: bool, until: bool, limited: bool) -> bytes:
        """Rows of a section from a key on; parameters ``section, low, high?, limit?``."""
        name = f"scan{values:d}{until:d}{limited:d}"
        if name not in self._made:
            text: LiteralString = "SELECT key, value FROM" if values else "SELECT key FROM"
            text += " {rows} WHERE section = %s AND key >= %s"
            text += " AND key < %s" if until else ""
            text += " ORDER BY key"
            text += " LIMIT %s" if limited else ""
            self._made[name] = self.of(text)
        return self._made[name]


def _quoted(schema: str, table: str) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (schema, table))


def exists(connection: Connection[Any], schema: str | None) -> bool:
    """Whether there is a store in ``schema``."""
    # Not to_regclass(), which may answer from a cache while another process makes the tables.
    statement = """
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = coalesce(%s, current_schema()) AND c.relname = %s"""
    return connection.execute(statement, [schema, _META]).fetchone() is not None


def open_tables(
    connection: Connection[Any], schema: str | None, *, location: str, read_only: bool
) -> Statements:
    """The statements for the store in ``schema``, whose tables are made if missing.

    Raises:
        StoreFormatError: it is of a newer release, or no store.
        StoreError: there is none and it can't be made.
    """
    statements = Statements(_check_database(connection, schema, location))
    if not exists(connection, statements.schema):
        if read_only:
            raise StoreError(f"there is no state store at {location}")
        _create(connection, statements)
    _check_format(connection, statements, location)
    return statements


def _check_database(connection: Connection[Any], schema: str | None, location: str) -> str:
    """The name of the schema to use."""
    facts = "SELECT coalesce(%s, current_schema()), current_setting('server_encoding')"
    row = connection.execute(facts, [schema]).fetchone()
    assert row is not None
    if row[1] != "UTF8":
        raise StoreError(f"the database at {location} must have the encoding UTF8, not {row[1]}")
    if row[0] is None:
        raise StoreError(
            f"the connection to {location} has no default schema (search_path). Name one in "
            "db_schema_name or COCOINDEX_DATABASE_SCHEMA_NAME."
        )
    return str(row[0])


def _create(connection: Connection[Any], statements: Statements) -> None:
    from psycopg import sql

    with connection.transaction():
        # Several processes may start at once.
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_CREATION_LOCK])
        if exists(connection, statements.schema):
            return
        known = "SELECT FROM pg_namespace WHERE nspname = %s"
        if connection.execute(known, [statements.schema]).fetchone() is None:
            connection.execute(
                sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(statements.schema))
            )
        connection.execute(b";".join(map(statements.of, _TABLES)))


def _check_format(connection: Connection[Any], statements: Statements, location: str) -> None:
    text = statements.of("SELECT value FROM {meta} WHERE name = 'format'")
    row = connection.execute(text).fetchone()
    try:
        version = int(row[0]) if row is not None else 0
    except ValueError:
        version = 0
    if version < 1:
        raise StoreFormatError(
            f"the header of the state store at {location} is damaged. Restore it from a backup, "
            "or drop its tables cocoindex_state* and update again."
        )
    if version > FORMAT_VERSION:
        raise StoreFormatError(
            f"the state store at {location} has format version {version}; this release of "
            f"cocoindex reads up to {FORMAT_VERSION}. Upgrade cocoindex, or use another schema "
            "(db_schema_name)."
        )
