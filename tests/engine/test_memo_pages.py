"""How the function memos of a component are laid out in the store."""

from __future__ import annotations

import logging

import pytest

from cocoindex.engine import rows
from cocoindex.engine.memo_pages import MemoPages, file_page
from cocoindex.engine.rows import Dependencies, FunctionMemoRow, Terms
from cocoindex.state.memory import MemoryStore

COMPONENT = 7
PREFIX = rows.function_memo_prefix(COMPONENT)
TERMS = rows.encode(Terms(Dependencies(), (), b"", (), [], b""))


def memo(number, value=b"small"):
    return FunctionMemoRow(number.to_bytes(16, "big"), value, TERMS, b"")


def by_fingerprint(*memos):
    return {each.fingerprint: each for each in memos}


@pytest.fixture
def section():
    store = MemoryStore()
    yield store.section("app")
    store.close()


def replace(section, *new, keep=()):
    """Store ``new`` memos and let only those and ``keep`` live on; returns what is written."""
    alive = {each.fingerprint for each in (*new, *keep)}
    changes = MemoPages(section, COMPONENT).changes(by_fingerprint(*new), alive)
    section.write(changes)
    return dict(changes)


def stored(section):
    return set(MemoPages(section, COMPONENT).memos.values())


def test_many_small_memos_share_a_row(section):
    memos = [memo(number) for number in range(30)]

    written = replace(section, *memos)

    assert len(written) == 1
    assert list(MemoPages(section, COMPONENT).memos.values()) == memos


def test_a_large_result_has_a_row_of_its_own(section):
    written = replace(section, *(memo(number, bytes(5_000)) for number in range(3)))
    assert len(written) == 3


@pytest.mark.parametrize("size", [0, 100, 700])
def test_a_row_of_several_memos_fits_on_a_page(section, size):
    written = replace(section, *(memo(number, bytes(size)) for number in range(200)))
    assert all(2_000 < len(row) <= 4_080 for row in list(written.values())[:-1])


def test_nothing_is_written_when_nothing_changes(section):
    memos = [memo(number) for number in range(3)]
    replace(section, *memos)

    assert replace(section, keep=memos) == {}


def test_only_the_row_with_the_changed_memo_is_written_again(section):
    first, second = memo(1, bytes(5_000)), memo(2, bytes(5_000))
    replace(section, first, second)
    changed = memo(2, b"other")

    written = replace(section, changed, keep=[first])

    assert written == dict([file_page(PREFIX, [changed])])
    assert stored(section) == {first, changed}


def test_what_is_left_of_a_changed_row_moves_in_with_the_new(section):
    one, two, three = memo(1), memo(2), memo(3)
    replace(section, one, two)

    written = replace(section, three, keep=[two])

    assert written == {PREFIX + one.fingerprint: None, **dict([file_page(PREFIX, [three, two])])}
    assert stored(section) == {two, three}


def test_the_last_memo_takes_its_row_with_it(section):
    replace(section, memo(1))
    replace(section)
    assert section.scan(PREFIX) == []


@pytest.mark.parametrize(
    ("damaged", "reports"), [(b"\xc1", 1), (b"\x90", 0)], ids=["rubbish", "empty"]
)
def test_a_damaged_row_is_removed(section, caplog, damaged, reports):
    key = PREFIX + bytes(16)
    section.write([(key, damaged)])

    with caplog.at_level(logging.WARNING):
        assert replace(section) == {key: None}

    assert caplog.text.count("stored memos of component 7 are unreadable") == reports


def test_a_row_under_a_key_of_another_is_filed_anew(section):
    one = memo(1)
    astray = PREFIX + bytes(16)
    section.write([(astray, rows.encode([one]))])

    written = replace(section, memo(2), keep=[one])

    assert written[astray] is None
    assert stored(section) == {one, memo(2)}
