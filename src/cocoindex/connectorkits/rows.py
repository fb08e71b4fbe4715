"""Rows: from what users declare to a key, fields, and one fingerprint."""

from __future__ import annotations

import datetime as dt
import logging
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any, Final, Literal, NamedTuple

from cocoindex.connectorkits.columns import Encoder
from cocoindex.connectorkits.row_fingerprints import fingerprinter
from cocoindex.connectorkits.row_keys import Key, key_part, key_text, key_value
from cocoindex.errors import UsageTypeError, UsageValueError

__all__ = [
    "Field",
    "RowCodec",
    "RowOptions",
    "fingerprinter",
    "key_part",
    "key_text",
    "key_value",
    "size_of",
    "zoned",
]

_log = logging.getLogger(__name__)

Extra = Literal["warn", "ignore", "error"]
NaiveTz = dt.tzinfo | Literal["local", "error"] | None
Fields = tuple[Any, ...]

ENCODER_ERRORS: Final = (ValueError, TypeError, OverflowError, AttributeError, struct.error)
"""What an encoder may raise about a value; everything else is a bug and goes through."""


@dataclass(frozen=True, slots=True)
class RowOptions:
    """How rows of one target are read.

    Attributes:
        extra: what to do about keys of a dict row that are no columns.
        naive_tz: how a naive datetime is read where a zone is needed: in this zone, in the
            machine's (``"local"``), or not at all (``"error"``). ``None``: the connector's way.
        own: options of the connector's own.
    """

    extra: Extra = "warn"
    naive_tz: NaiveTz = None
    own: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.extra not in ("warn", "ignore", "error"):
            raise UsageValueError(f"extra must be 'warn', 'ignore' or 'error', not {self.extra!r}")
        zone = self.naive_tz
        if not (zone is None or isinstance(zone, dt.tzinfo) or zone in ("local", "error")):
            raise UsageValueError(f"naive_tz must be a tzinfo, 'local' or 'error', not {zone!r}")


class Field(NamedTuple):
    """One column, as the codec needs it.

    Attributes:
        name: of the column, and of the row's attribute or dict key.
        nullable: whether ``None`` is allowed.
        encoder: of values that are not ``None``.
        key_encoder: for key columns: from the value to its part of the stable key.
    """

    name: str
    nullable: bool = True
    encoder: Encoder | None = None
    key_encoder: Encoder | None = None


class RowCodec:
    """Encodes rows of one table; compiled once per table and run.

    Args:
        fields: the columns, in the order of the encoded fields.
        primary_key: names of the key columns, in key order.
        title: how errors call the system (``"Postgres"``).
        table: how messages call the table.
        options: see :class:`RowOptions`.
    """

    __slots__ = (
        "_encoders",
        "_extractors",
        "_key",
        "_one_key",
        "_required",
        "_warned",
        "fields",
        "options",
        "table",
        "title",
    )

    def __init__(
        self,
        fields: Sequence[Field],
        primary_key: Sequence[str],
        *,
        title: str,
        table: str,
        options: RowOptions,
    ) -> None:
        self.fields = tuple(fields)
        self.title = title
        self.table = table
        self.options = options
        self._encoders = [f.encoder or _as_it_is for f in self.fields]
        position = {f.name: i for i, f in enumerate(self.fields)}
        self._key = [
            (position[name], self.fields[position[name]].key_encoder or key_part)
            for name in primary_key
        ]
        self._one_key = self._key[0] if len(self._key) == 1 else None
        # Key columns are looked at already.
        self._required = [
            i for i, f in enumerate(self.fields) if not f.nullable and f.name not in primary_key
        ]
        self._extractors: dict[type, Callable[[Any], Sequence[Any]]] = {}
        self._warned: set[str] = set()

    def encode(self, row: Any) -> tuple[Key, Fields]:
        """The key and the encoded fields of ``row``: a dict, or an object with attributes.

        Raises:
            ValueError: a key column is missing, ``None`` where none may be, or a value that the
                column can't hold. Messages name table, key and column, never a value.
            TypeError: a value of a type that the column can't hold.
        """
        # Called for every row of every run, so everything that is not needed for a good row is
        # left to `_explain`.
        extract = self._extractors.get(type(row))
        if extract is None:
            extract = self._extractors[type(row)] = self._extractor(row)
        try:
            values = extract(row)
        except AttributeError:
            raise self._no_attribute(row) from None
        try:
            if self._one_key is not None:
                i, encode = self._one_key
                if values[i] is None:
                    self._explain(values)
                key: Key = (encode(values[i]),)
            else:
                if any(values[i] is None for i, _ in self._key):
                    self._explain(values)
                key = tuple([encode(values[i]) for i, encode in self._key])
            fields = tuple(
                [
                    value if value is None else encode(value)
                    for encode, value in zip(self._encoders, values)  # noqa: B905 - as long
                ]
            )
        except ENCODER_ERRORS:
            self._explain(values)
            raise
        for i in self._required:
            if fields[i] is None:
                self._explain(values)
        return key, fields

    def _explain(self, values: Sequence[Any]) -> None:
        """Raise the error that says which column of a row is at fault.

        It does not say what with: the text of a foreign error may quote the value.
        """
        parts = []
        for i, encode in self._key:
            if values[i] is None:
                raise UsageValueError(
                    f"{self.title} primary key column {self.fields[i].name!r} cannot be None "
                    f"(table {self.table})"
                ) from None
            parts.append(self._tried(encode, i, values[i], ""))
        where = f", row {key_text(tuple(parts))}"
        for i, encode in enumerate(self._encoders):
            if values[i] is not None:
                self._tried(encode, i, values[i], where)
            elif not self.fields[i].nullable:
                raise UsageValueError(
                    f"{self._place(i)}{where}: None, but the column is NOT NULL"
                ) from None

    def _tried(self, encode: Encoder, i: int, value: Any, where: str) -> Any:
        try:
            return encode(value)
        except (UsageValueError, UsageTypeError) as error:
            kind: type[UsageValueError | UsageTypeError] = type(error)
            what = str(error)
        except (TypeError, AttributeError) as error:
            kind, what = UsageTypeError, f"the value can't be stored ({type(error).__name__})"
        except ENCODER_ERRORS as error:
            kind, what = UsageValueError, f"the value can't be stored ({type(error).__name__})"
        raise kind(f"{self._place(i)}{where}: {what}") from None

    def _place(self, i: int) -> str:
        return f"{self.title} table {self.table}, column {self.fields[i].name!r}"

    # --- extraction ------------------------------------------------------------------------

    def _extractor(self, row: Any) -> Callable[[Any], Sequence[Any]]:
        names = [f.name for f in self.fields]
        if isinstance(row, Mapping):
            return self._mapping_extractor(names)
        if isinstance(row, (str, bytes, int, float)) or row is None:
            raise UsageTypeError(
                f"{self.title} table {self.table}: a row must be a dict or a record, "
                f"not {type(row).__name__}"
            )
        get = attrgetter(*names)
        return get if len(names) > 1 else lambda row: (get(row),)

    def _no_attribute(self, row: Any) -> UsageTypeError:
        missing = [field.name for field in self.fields if not hasattr(row, field.name)]
        return UsageTypeError(
            f"{self.title} table {self.table}: {type(row).__name__} has no attribute "
            f"{', '.join(missing)}"
        )

    def _mapping_extractor(self, names: list[str]) -> Callable[[Any], Sequence[Any]]:
        get = itemgetter(*names)
        one = len(names) == 1
        count = len(names)

        def extract(row: Mapping[str, Any]) -> Sequence[Any]:
            try:
                values = get(row)
            except KeyError:
                return self._incomplete(row, names)
            if len(row) != count:
                self._extra_keys(row.keys() - names)
            return (values,) if one else values

        return extract

    def _incomplete(self, row: Mapping[str, Any], names: list[str]) -> list[Any]:
        for i, _ in self._key:
            if names[i] not in row:
                raise UsageValueError(
                    f"{self.title} row is missing primary key column {names[i]!r} "
                    f"(table {self.table})"
                ) from None
        for i in self._required:
            if names[i] not in row:
                key = tuple([encode(row[names[i]]) for i, encode in self._key])
                raise UsageValueError(
                    f"{self._place(i)}, row {key_text(key)}: missing, but the column is NOT NULL"
                ) from None
        extra = row.keys() - names
        if extra:
            self._extra_keys(extra)
        return [row.get(name) for name in names]

    def _extra_keys(self, keys: Iterable[str]) -> None:
        listed = ", ".join(sorted(map(str, keys)))
        what = f"{self.title} table {self.table}: rows have keys that are no columns: {listed}"
        if self.options.extra == "error":
            raise UsageValueError(what)
        if self.options.extra == "warn":
            self.warn_once(f"{what}. They are left out; extra='ignore' says that this is meant.")

    def warn_once(self, text: str) -> None:
        """Log a warning, the first time."""
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("%s", text)


def _as_it_is(value: Any) -> Any:
    return value


_SIZED: Final = (str, bytes, bytearray, memoryview)


def size_of(fields: Fields | None) -> int:
    """About how many bytes a row has."""
    if fields is None:
        return 64
    size = 16 * len(fields)
    for value in fields:
        if isinstance(value, _SIZED):
            size += len(value)
    return size


def zoned(naive_tz: NaiveTz, warn: Callable[[], None]) -> Callable[[dt.datetime], dt.datetime]:
    """From any datetime to an aware one in UTC.

    Args:
        naive_tz: see :class:`RowOptions`; ``None`` means ``"local"``, and a call of ``warn`` for
            each naive value.
        warn: says once that naive values are taken for local time.
    """
    utc = dt.UTC

    def encode(value: dt.datetime) -> dt.datetime:
        if value.tzinfo is not None:
            return value if value.tzinfo is utc else value.astimezone(utc)
        if naive_tz == "error":
            raise UsageValueError("a datetime without time zone (naive_tz='error')")
        if isinstance(naive_tz, dt.tzinfo):
            return value.replace(tzinfo=naive_tz).astimezone(utc)
        if naive_tz is None:
            warn()
        return value.astimezone(utc)

    return encode
