from __future__ import annotations

import codecs
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.connectorkits.fingerprint import fingerprint_bytes
from cocoindex.connectors.localfs import FilePath
from cocoindex.resources.file import FileLike, FileMetadata

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Stored(FileLike[Path]):
    """A file of a made-up backend that counts what is asked of it."""

    def __init__(
        self,
        content: bytes,
        *,
        modified: datetime = LONG_AGO,
        native: bytes | None = None,
        listed: bool = True,
    ) -> None:
        self.content = content
        self.modified = modified
        self.native = native
        self.reads: list[int] = []
        self.fetches = 0
        super().__init__(FilePath("a.txt"), _metadata=self.facts() if listed else None)

    def facts(self) -> FileMetadata:
        return FileMetadata(len(self.content), self.modified, self.native)

    async def _fetch_metadata(self) -> FileMetadata:
        self.fetches += 1
        return self.facts()

    async def _read_impl(self, size: int = -1) -> bytes:
        self.reads.append(size)
        return self.content if size < 0 else self.content[:size]


async def state_of(file: FileLike[Any], prev: Any = coco.NON_EXISTENCE) -> Any:
    outcome = file.__coco_memo_state__(prev)
    return outcome if isinstance(outcome, tuple) else await outcome


async def valid(file: FileLike[Any], prev: Any) -> bool:
    return bool((await state_of(file, prev)).memo_valid)


async def test_metadata_is_fetched_once() -> None:
    file = Stored(b"abc", listed=False)
    assert await file.size() == 3
    assert await file.metadata() == FileMetadata(3, LONG_AGO)
    assert file.fetches == 1


async def test_full_reads_are_cached_and_serve_partial_ones() -> None:
    file = Stored(b"abcdef")
    assert await file.read(2) == b"ab"
    assert await file.read() == b"abcdef"
    assert await file.read() == b"abcdef"
    assert await file.read(3) == b"abc"
    assert file.reads == [2, -1]


async def test_reading_nothing_does_no_io() -> None:
    file = Stored(b"abc")
    assert await file.read(0) == b""
    assert file.reads == []


async def test_content_above_the_limit_is_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stored, "content_cache_limit", 3)
    file = Stored(b"abcd")
    await file.read()
    await file.read()
    assert file.reads == [-1, -1]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        ("é".encode(), "é"),
        (codecs.BOM_UTF8 + "é".encode(), "é"),
        (codecs.BOM_UTF16_LE + "é".encode("utf-16-le"), "é"),
        (codecs.BOM_UTF16_BE + "é".encode("utf-16-be"), "é"),
        (codecs.BOM_UTF32_LE + "é".encode("utf-32-le"), "é"),
        (codecs.BOM_UTF32_BE + "é".encode("utf-32-be"), "é"),
        (b"a\xffb", "a\ufffdb"),
    ],
)
async def test_text_is_decoded_by_its_byte_order_mark(data: bytes, text: str) -> None:
    assert await Stored(data).read_text() == text


async def test_a_given_encoding_wins_and_the_mark_is_no_text() -> None:
    assert await Stored(b"\xe9").read_text("latin-1") == "é"
    assert await Stored(codecs.BOM_UTF8 + b"a").read_text("utf-8") == "a"
    with pytest.raises(UnicodeDecodeError):
        await Stored(b"\xff").read_text(errors="strict")


async def test_the_fingerprint_is_the_backends_or_one_of_the_content() -> None:
    assert await Stored(b"abc", native=b"etag").content_fingerprint() == b"etag"
    file = Stored(b"abc")
    assert await file.content_fingerprint() == fingerprint_bytes(b"abc")
    assert await file.content_fingerprint() == fingerprint_bytes(b"abc")
    assert file.reads == [-1]


async def test_large_content_is_fingerprinted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stored, "content_cache_limit", 3)
    content = b"x" * 3_000_000
    assert await Stored(content).content_fingerprint() == fingerprint_bytes(content)


async def test_content_can_be_read_in_pieces() -> None:
    file = Stored(b"abcdefg")
    assert [block async for block in file.iter_bytes(3)] == [b"abc", b"def", b"g"]
    async with file.open() as opened:
        assert await opened.read(2) == b"ab"
        assert await opened.read() == b"cdefg"
        assert await opened.read(5) == b""
    with pytest.raises(ValueError, match="block_size"):
        [block async for block in file.iter_bytes(0)]


# --- memo state ---


async def test_an_unchanged_old_file_is_valid_without_reading_or_waiting() -> None:
    first = await state_of(Stored(b"abc"))
    assert not first.memo_valid
    again = Stored(b"abc")
    outcome = again.__coco_memo_state__(first.state)
    assert outcome == coco.MemoStateOutcome(first.state, True)
    assert again.reads == []


async def test_a_file_that_was_read_tells_its_state_without_waiting() -> None:
    for content, native in ((b"abc", None), (b"abc", b"etag"), (b"", None)):
        unread, file = Stored(content, native=native), Stored(content, native=native)
        await file.read()
        outcome = file.__coco_memo_state__(coco.NON_EXISTENCE)
        assert isinstance(outcome, coco.MemoStateOutcome)
        assert outcome == await state_of(unread)
        assert file.reads == [-1]
        assert outcome.state.fingerprint == (native or fingerprint_bytes(content))


async def test_a_touched_file_is_read_once_and_its_new_time_remembered() -> None:
    first = await state_of(Stored(b"abc"))
    touched = Stored(b"abc", modified=LONG_AGO + timedelta(days=1))
    outcome = await state_of(touched, first.state)
    assert outcome.memo_valid
    assert outcome.state != first.state
    assert touched.reads == [-1]
    third = Stored(b"abc", modified=LONG_AGO + timedelta(days=1))
    assert await valid(third, outcome.state)
    assert third.reads == []


async def test_changed_content_is_a_change() -> None:
    first = await state_of(Stored(b"abc"))
    later = LONG_AGO + timedelta(days=1)
    assert not await valid(Stored(b"xyz", modified=later), first.state)
    assert not await valid(Stored(b"longer"), first.state)


async def test_a_recent_time_is_not_trusted() -> None:
    now = datetime.now(UTC)
    first = await state_of(Stored(b"abc", modified=now))
    same_tick = Stored(b"xyz", modified=now)
    assert not await valid(same_tick, first.state)
    unchanged = Stored(b"abc", modified=now)
    assert await valid(unchanged, first.state)
    assert unchanged.reads == [-1]


async def test_a_backend_fingerprint_decides_whatever_the_time_says() -> None:
    first = await state_of(Stored(b"abc", native=b"1"))
    later = LONG_AGO + timedelta(days=1)
    assert await valid(Stored(b"abc", native=b"1", modified=later), first.state)
    same_time = Stored(b"abc", native=b"2")
    assert not await valid(same_time, first.state)
    assert same_time.reads == []


async def test_switching_between_kinds_of_fingerprint_recomputes_once() -> None:
    content = fingerprint_bytes(b"abc")
    plain = await state_of(Stored(b"abc"))
    native = await state_of(Stored(b"abc", native=content), plain.state)
    assert not native.memo_valid
    assert await valid(Stored(b"abc", native=content), native.state)
    assert not await valid(Stored(b"abc"), native.state)


async def test_a_large_file_that_changed_while_it_was_read_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Stored, "content_cache_limit", 2)
    file = Stored(b"abc")
    assert await file.read() == b"abc"
    file.content, file.modified = b"xyz", LONG_AGO + timedelta(days=1)
    first = await state_of(file)
    assert not await valid(Stored(b"xyz", modified=file.modified), first.state)


async def test_the_memo_key_is_that_of_the_path() -> None:
    assert Stored(b"").__coco_memo_key__() == "a.txt"
