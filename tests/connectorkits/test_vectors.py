from __future__ import annotations

import struct
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cocoindex.connectorkits.vectors import encoder
from cocoindex.resources.schema import VectorSchema

ENCODE = encoder(VectorSchema(3))
EXPECTED = struct.pack("<3f", 1, 2, 3)


class Tensor:
    """As torch's look from outside."""

    def __init__(self, values):
        self.values = values

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return np.array(self.values, np.float32)


@pytest.mark.parametrize(
    "value",
    [
        np.array([1, 2, 3], np.float32),
        np.array([1, 2, 3], np.float64),
        np.array([1, 2, 3]),
        np.array([1, 2, 3], ">f4"),
        np.array([1, 0, 2, 0, 3], np.float32)[::2],
        [1, 2, 3],
        (1.0, 2.0, 3.0),
        Tensor([1, 2, 3]),
    ],
)
def test_vectors_of_any_kind(value):
    assert ENCODE(value) == EXPECTED


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([1, 2], ValueError, "3 elements is expected, not of 2"),
        ([[1, 2, 3]], ValueError, r"not of shape \(1, 3\)"),
        (5, ValueError, r"not of shape \(\)"),
        ([1, float("nan"), 3], ValueError, "NaN"),
        ([1, float("inf"), 3], ValueError, "infinities"),
        ([1, 1e300, 3], ValueError, "too large"),
        ("123", TypeError, "not str"),
        (b"123", TypeError, "not bytes"),
        ({1: 2}, TypeError, "not dict"),
        (["a", "b", "c"], TypeError, "numbers"),
        ([1, [2], 3], TypeError, "vector"),
        (object(), TypeError, "vector"),
    ],
)
def test_what_is_no_such_vector_is_refused(value, error, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=message):
            ENCODE(value)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_large_and_tiny_elements_are_fine(dtype):
    most = float(np.finfo(dtype).max)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = encoder(VectorSchema(dtype, 2))(np.array([most, -most], dtype))
    assert np.frombuffer(data, dtype).tolist() == [most, -most]


def test_integers_must_fit():
    encode = encoder(VectorSchema(np.int8, 2))
    assert encode([-128, 127]) == bytes([128, 127])
    for bad in ([128, 0], [0.5, 0]):
        with pytest.raises(ValueError, match="int8"):
            encode(bad)


def test_the_stored_form_is_the_connector_s():
    encode = encoder(VectorSchema(2), lambda array: array.tolist())
    assert encode([1, 2]) == [1.0, 2.0]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_every_vector_comes_back(values):
    data = encoder(VectorSchema(len(values)))(values)
    assert np.frombuffer(data, "<f4").tolist() == values
