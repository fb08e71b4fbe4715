from __future__ import annotations

import uuid
from typing import Any, Optional

import pytest

from cocoindex.core.type_check import TypeChecker


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        (int, 1),
        (str, "a"),
        (uuid.UUID, uuid.UUID(int=1)),
        (None, None),
        (Any, [object]),
        (int | str, "a"),
        (Optional[int], None),  # noqa: UP045
        (tuple[int, str], (1, "a")),
        (tuple[int, ...], ()),
        (tuple[int, ...], (1, 2, 3)),
        (tuple, (1, "a")),
        (tuple[()], ()),
        (tuple[tuple[int, ...], Any], ((1,), None)),
        (tuple[int, str] | None, None),
    ],
    ids=str,
)
def test_a_fitting_value_is_returned_itself(expected: Any, value: Any) -> None:
    assert TypeChecker(expected).check(value) is value


@pytest.mark.parametrize(
    ("expected", "value", "message"),
    [
        (int, "a", "expected int, got str: 'a'"),
        (None, 1, "expected None, got int: 1"),
        (int | str, 1.5, "expected int | str, got float: 1.5"),
        (tuple[int, str], (1, 2), r"expected str at [1], got int: 2"),
        (tuple[int, ...], (1, "a"), r"expected int at [1], got str: 'a'"),
        (tuple[int, str], (1,), "expected tuple of length 2, got length 1: (1,)"),
        (tuple[int, str], [1, "a"], "expected tuple, got list: [1, 'a']"),
        (tuple, [1], "expected tuple, got list: [1]"),
        (tuple[str, tuple[int, str]], ("a", (1, 2)), "expected str at [1][1], got int: 2"),
        (tuple[str, tuple[int, ...]], ("a", ("b",)), "expected int at [1][0], got str: 'b'"),
        (tuple[int | None, str], ("a", "b"), "expected int | None at [0], got str: 'a'"),
    ],
)
def test_another_value_is_refused_saying_where(expected: Any, value: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        TypeChecker(expected).check(value)
    assert str(caught.value) == message


@pytest.mark.parametrize("annotation", [list[int], dict[str, int], "int", 3, tuple[list[int], str]])
def test_other_annotations_are_refused_at_construction(annotation: Any) -> None:
    with pytest.raises(ValueError, match="Unsupported type for TypeChecker"):
        TypeChecker(annotation)
