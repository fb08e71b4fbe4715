"""Keys that come twice are found, in little memory."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from cocoindex.connectorkits.unique_keys import UniqueKeys


@given(st.lists(st.integers(0, 50) | st.text("ab", max_size=3) | st.tuples(st.integers(0, 3))))
def test_it_tells_as_which_a_key_came_first(keys):
    unique, first = UniqueKeys(), {}
    for key in keys:
        known = first.get((type(key), key))
        assert unique.add(key) == known
        if known is None:
            first[type(key), key] = len(first) + 1


def test_many_long_keys_take_little_memory():
    tracemalloc.start()
    unique = UniqueKeys()
    for i in range(20_000):
        assert unique.add(f"{i}" * 100) is None
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert unique.add("5" * 100) == 6
    assert size < 20_000 * 70
