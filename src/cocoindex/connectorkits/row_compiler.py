"""From the columns of a table to one function that encodes its rows.

A row passes one encoder per column, and nearly always each gives back what it got. The calls
would cost more than anything else that is done to a row which has not changed. So an encoder may
say which values it leaves alone (:func:`leaves_alone`), and the function made here tests for that
in place. For a nullable column of type ``bigint`` the line reads::

    if not (type(c1) is int and -9223372036854775808 <= c1 <= 9223372036854775807):
        c1 = None if c1 is None else encode1(c1)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from cocoindex.connectorkits.row_keys import Key
    from cocoindex.connectorkits.rows import Field

__all__ = ["compile_encoder", "leaves_alone"]

E = TypeVar("E", bound=Callable[..., Any])
Encode = Callable[[Sequence[Any]], tuple["Key", tuple[Any, ...]]]

_CONDITION: Final = "__cocoindex_leaves_alone__"


def leaves_alone(condition: str) -> Callable[[E], E]:
    """Says of an encoder which values, never ``None``, it returns as they are.

    Args:
        condition: an expression, such as ``"type({v}) is bytes"``.

    The condition becomes part of a program: never make it from data.
    """

    def note(encoder: E) -> E:
        setattr(encoder, _CONDITION, condition)
        return encoder

    return note


def compile_encoder(
    fields: Sequence[Field], key: Sequence[int], explain: Callable[[Sequence[Any]], object]
) -> Encode:
    """A function from a row's values to its key and its encoded fields.

    Args:
        fields: the columns.
        key: positions of the key columns, in key order; their fields have key encoders.
        explain: raises the error about a row without value where one is needed.
    """
    names: dict[str, Any] = {"explain": explain}
    for i, field in enumerate(fields):
        names[f"encode{i}"], names[f"key{i}"] = field.encoder, field.key_encoder
    exec("\n".join(_source(fields, key)), names)  # noqa: S102 - of conditions in connectors' code
    encode: Encode = names["encode"]
    return encode


def _source(fields: Sequence[Field], key: Sequence[int]) -> Iterator[str]:
    columns = "".join(f"c{i}, " for i in range(len(fields)))
    yield "def encode(values):"
    yield f"    {columns}= values"
    for i, field in enumerate(fields):
        yield from _key_column(i, field) if i in key else _column(i, field)
    yield f"    return ({''.join(f'k{i}, ' for i in key)}), ({columns})"


def _key_column(i: int, field: Field) -> Iterator[str]:
    conditions = {_condition(field.key_encoder, i), _condition(field.encoder, i)}
    yield f"    k{i} = c{i}"
    yield f"    if not ({' and '.join(sorted(conditions))}):"
    yield f"        if c{i} is None: explain(values)"
    yield f"        k{i} = key{i}(c{i})"
    if field.encoder is not None:
        yield f"        c{i} = encode{i}(c{i})"


def _column(i: int, field: Field) -> Iterator[str]:
    if field.encoder is not None:
        yield f"    if not {_condition(field.encoder, i)}:"
        yield f"        c{i} = None if c{i} is None else encode{i}(c{i})"
        if not field.nullable:
            yield f"        if c{i} is None: explain(values)"
    elif not field.nullable:
        yield f"    if c{i} is None: explain(values)"


def _condition(encoder: Callable[..., Any] | None, i: int) -> str:
    condition = "{v} is not None" if encoder is None else getattr(encoder, _CONDITION, "False")
    return f"({condition.format(v=f'c{i}')})"
