from __future__ import annotations

import pytest

from cocoindex.connectorkits.row_compiler import compile_encoder, leaves_alone
from cocoindex.connectorkits.rows import Field


class Incomplete(Exception):
    """Raised where a row lacks a value."""


class Encoders:
    """An encoder for integers that remembers what it was called for."""

    def __init__(self) -> None:
        self.called: list[object] = []

        @leaves_alone("type({v}) is int")
        def number(value):
            self.called.append(value)
            return None if value == "nothing" else int(value)

        self.number = number


@pytest.fixture
def encoders() -> Encoders:
    return Encoders()


def compiled(*fields, key=(0,)):
    def explain(values):
        raise Incomplete(values)

    return compile_encoder(fields, key, explain)


def test_an_encoder_is_not_called_for_what_it_leaves_alone(encoders):
    encode = compiled(Field("id", False, None, encoders.number), Field("n", True, encoders.number))

    assert encode((1, 2)) == ((1,), (1, 2))
    assert encoders.called == []
    assert encode((1, "2")) == ((1,), (1, 2))
    assert encoders.called == ["2"]


def test_an_encoder_that_says_nothing_is_called_for_every_value():
    encode = compiled(Field("id", False, None, str), Field("n", True, lambda value: -value))
    assert encode((1, 2)) == (("1",), (1, -2))


def test_the_key_is_made_of_what_was_declared_and_in_key_order(encoders):
    fields = Field("a", False, encoders.number, str), Field("b", False, None, encoders.number)
    assert compiled(*fields, key=(1, 0))(("7", 8)) == ((8, "7"), (7, 8))


def test_none_is_no_matter_for_encoders(encoders):
    encode = compiled(Field("id", False, None, str), Field("n", True, encoders.number), Field("m"))
    assert encode((1, None, None)) == (("1",), (1, None, None))
    assert encoders.called == []


@pytest.mark.parametrize("row", [(None, 1, 1), (1, None, 1), (1, "nothing", 1), (1, 1, None)])
def test_a_row_without_a_value_that_is_needed_is_explained(encoders, row):
    fields = (
        Field("id", False, None, str),
        Field("n", False, encoders.number),
        Field("m", nullable=False),
    )
    with pytest.raises(Incomplete):
        compiled(*fields)(row)
