from __future__ import annotations

import errno
import itertools
import logging
import os
from datetime import timedelta
from pathlib import Path, PurePath
from typing import Any

import pytest

from cocoindex.connectorkits.sources import Unlisted
from cocoindex.connectors import localfs
from cocoindex.connectors.localfs import _scan, source
from cocoindex.resources.file import PatternFilePathMatcher


def make_tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


async def keys(path: Path, **options: Any) -> list[str]:
    walker = localfs.walk_dir(path, **{"recursive": True, **options})
    return [item[0] for item in [item async for item in walker.items()] if isinstance(item, tuple)]


async def test_files_come_before_subdirectories_sorted_by_name(tmp_path: Path) -> None:
    make_tree(tmp_path, "b/y", "b/x", "a/z", "d", "c", "a/s/t")
    assert await keys(tmp_path) == ["c", "d", "a/z", "a/s/t", "b/x", "b/y"]
    assert await keys(tmp_path, recursive=False) == ["c", "d"]


async def test_bare_iteration_gives_files_with_paths_below_the_root(tmp_path: Path) -> None:
    make_tree(tmp_path, "a/b.txt")
    files = [file async for file in localfs.walk_dir(tmp_path, recursive=True)]
    assert [file.file_path for file in files] == [localfs.FilePath(tmp_path / "a/b.txt")]
    assert await files[0].read_text() == "a/b.txt"
    assert await files[0].size() == 7
    metadata = await files[0].metadata()
    assert metadata.modified_time.utcoffset() == timedelta(0)
    assert metadata.content_fingerprint is None


async def test_matchers_choose_files_and_prune_directories(tmp_path: Path) -> None:
    make_tree(tmp_path, "a.py", "a.txt", ".git/x.py", "src/b.py", "src/node_modules/c.py")
    matcher = PatternFilePathMatcher(["*.py"], ["**/.*", "**/node_modules"])
    assert await keys(tmp_path, path_matcher=matcher) == ["a.py", "src/b.py"]


async def test_a_matcher_of_ones_own_gets_relative_paths(tmp_path: Path) -> None:
    make_tree(tmp_path, "a/x", "b/y")
    asked: list[PurePath] = []

    class OnlyA:
        def is_dir_included(self, path: PurePath) -> bool:
            asked.append(path)
            return path.name == "a"

        def is_file_included(self, path: PurePath) -> bool:
            asked.append(path)
            return True

    assert await keys(tmp_path, path_matcher=OnlyA()) == ["a/x"]
    assert asked == [PurePath("a"), PurePath("b"), PurePath("a/x")]


async def test_files_outside_the_size_limits_count_as_absent(tmp_path: Path) -> None:
    for size in (1, 5, 9):
        (tmp_path / str(size)).write_bytes(b"x" * size)
    assert await keys(tmp_path, min_file_size=2, max_file_size=8) == ["5"]
    assert await keys(tmp_path, max_file_size=5) == ["1", "5"]


@pytest.mark.parametrize("follow", [None, True, False])
async def test_links_inside_the_root_are_followed(tmp_path: Path, follow: bool | None) -> None:
    make_tree(tmp_path, "a/x")
    (tmp_path / "file").symlink_to("a/x")
    (tmp_path / "dir").symlink_to("a")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "self").symlink_to("self")
    assert await keys(tmp_path, follow_symlinks=follow) == ["file", "a/x", "dir/x"]
    walker = localfs.walk_dir(tmp_path, recursive=True, follow_symlinks=follow)
    assert [await file.read_text() async for file in walker] == ["a/x"] * 3


@pytest.mark.parametrize("follow", [None, True, False])
async def test_a_link_cycle_ends(tmp_path: Path, follow: bool | None) -> None:
    make_tree(tmp_path, "a/b/x")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "top").symlink_to(tmp_path)
    assert await keys(tmp_path, follow_symlinks=follow) == ["a/b/x"]


async def test_a_link_out_of_the_root_is_followed_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_tree(tmp_path / "outside", "x", "d/y")
    root = make_tree(tmp_path / "root", "in")
    (root / "out.txt").symlink_to(tmp_path / "outside/x")
    (root / "out").symlink_to(tmp_path / "outside/d")
    with caplog.at_level(logging.WARNING):
        assert await keys(root) == ["in", "out.txt", "out/y"]
    (record,) = caplog.records
    assert "out.txt -> " in record.getMessage()
    assert "out -> " in record.getMessage()


@pytest.mark.parametrize(("follow", "expected"), [(True, ["in", "o"]), (False, ["in"])])
async def test_following_links_out_of_the_root_can_be_decided(
    tmp_path: Path, follow: bool, expected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    make_tree(tmp_path / "outside", "x")
    root = make_tree(tmp_path / "root", "in")
    (root / "o").symlink_to(tmp_path / "outside/x")
    with caplog.at_level(logging.WARNING):
        assert await keys(root, follow_symlinks=follow) == expected
    assert not caplog.records


async def test_a_file_swapped_for_a_link_is_not_read_when_confined(tmp_path: Path) -> None:
    secret = make_tree(tmp_path / "outside", "secret") / "secret"
    root = make_tree(tmp_path / "root", "a/f")
    walker = localfs.walk_dir(root, recursive=True, follow_symlinks=False)
    (file,) = [file async for file in walker]
    (root / "a/f").unlink()
    (root / "a").rmdir()
    (root / "a").symlink_to(secret.parent)
    (secret.parent / "f").write_text("secret")
    with pytest.raises(OSError, match="root/a"):
        await file.read()


async def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    make_tree(tmp_path / "real", "x")
    (tmp_path / "link").symlink_to("real")
    assert await keys(tmp_path / "link", follow_symlinks=False) == ["x"]


async def test_what_is_no_regular_file_is_ignored(tmp_path: Path) -> None:
    make_tree(tmp_path, "x")
    os.mkfifo(tmp_path / "fifo")
    for follow in (None, False):
        assert await keys(tmp_path, follow_symlinks=follow) == ["x"]


async def test_names_that_are_not_utf8_are_listed(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    (tmp_path / name).write_text("x")
    assert await keys(tmp_path) == [name]


@pytest.mark.parametrize("name", ["missing", "file"])
async def test_a_root_that_is_no_directory_raises(tmp_path: Path, name: str) -> None:
    make_tree(tmp_path, "file")
    for on_error in ("raise", "skip"):
        with pytest.raises(ValueError, match="Path is not a directory: ") as caught:
            await keys(tmp_path / name, on_error=on_error)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.fixture
def deny(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make listing one directory fail; permissions don't stop a superuser."""
    real = os.scandir

    def denying(path: Path) -> None:
        def scandir(asked: Any) -> Any:
            if asked == str(path):
                raise PermissionError(13, "Permission denied", asked)
            return real(asked)

        monkeypatch.setattr(_scan.os, "scandir", scandir)

    return denying


async def test_a_directory_that_cannot_be_listed_is_an_error_naming_it(
    tmp_path: Path, deny: Any
) -> None:
    make_tree(tmp_path, "a/x", "b/y")
    deny(tmp_path / "b")
    with pytest.raises(PermissionError) as caught:
        await keys(tmp_path)
    assert caught.value.filename == str(tmp_path / "b")


async def test_skipping_reports_what_is_unlisted(
    tmp_path: Path, deny: Any, caplog: pytest.LogCaptureFixture
) -> None:
    make_tree(tmp_path, "a/x", "b/y", "c/z")
    deny(tmp_path / "b")
    walker = localfs.walk_dir(tmp_path, recursive=True, on_error="skip")
    found = [item async for item in walker.items()]
    assert [item[0] for item in found if isinstance(item, tuple)] == ["a/x", "c/z"]
    (unlisted,) = [item for item in found if isinstance(item, Unlisted)]
    assert [k for k in ("a/x", "b", "b/y", "b/q/r", "bb", 3) if unlisted.match(k)] == [
        "b",
        "b/y",
        "b/q/r",
    ]
    assert str(tmp_path / "b") in caplog.text


async def test_bare_iteration_raises_after_the_readable_part_even_when_skipping(
    tmp_path: Path, deny: Any
) -> None:
    make_tree(tmp_path, "a/x", "b/y", "c/z")
    deny(tmp_path / "b")
    walker = aiter(localfs.walk_dir(tmp_path, recursive=True, on_error="skip"))
    assert [(await anext(walker)).file_path.name for _ in range(2)] == ["x", "z"]
    with pytest.raises(PermissionError):
        await anext(walker)


async def test_an_unreadable_root_is_wholly_unlisted_when_skipping(
    tmp_path: Path, deny: Any
) -> None:
    deny(tmp_path)
    walker = localfs.walk_dir(tmp_path, on_error="skip")
    (unlisted,) = [item async for item in walker.items()]
    assert unlisted.match("anything")


async def test_a_directory_that_vanishes_during_the_scan_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tmp_path, "a/x", "b/y")
    real = os.scandir

    def scandir(asked: Any) -> Any:
        if asked == str(tmp_path / "a"):
            raise FileNotFoundError(2, "gone", asked)
        return real(asked)

    monkeypatch.setattr(_scan.os, "scandir", scandir)
    assert await keys(tmp_path) == ["b/y"]


async def test_reading_a_file_that_vanished_says_so(tmp_path: Path) -> None:
    make_tree(tmp_path, "x")
    (file,) = [file async for file in localfs.walk_dir(tmp_path)]
    (tmp_path / "x").unlink()
    with pytest.raises(FileNotFoundError):
        await file.read()


async def test_a_tree_larger_than_one_step_is_listed_completely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_scan, "_ENTRIES_PER_STEP", 3)
    names = [f"{d}/{f}" for d in "abcde" for f in "12345"]
    make_tree(tmp_path, *names)
    assert await keys(tmp_path) == names


async def test_a_constructed_file_reads_like_a_listed_one(tmp_path: Path) -> None:
    path = make_tree(tmp_path, "x") / "x"
    file = localfs.File(localfs.FilePath(path))
    assert await file.read() == b"x"
    assert await file.read(0) == b""
    assert (await file.metadata()).size == 1
    known = localfs.File(localfs.FilePath(path), _stat=path.stat())
    assert await known.metadata() == await file.metadata()


async def test_reads_can_be_partial_and_piecewise(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abcdefg")
    (file,) = [file async for file in localfs.walk_dir(tmp_path)]
    assert await file.read(3) == b"abc"
    assert [block async for block in file.iter_bytes(4)] == [b"abcd", b"efg"]
    async with file.open() as opened:
        assert await opened.read() == b"abcdefg"


async def test_large_files_are_read_whole(tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "x").write_bytes(content)
    (file,) = [file async for file in localfs.walk_dir(tmp_path)]
    assert await file.read() == content


@pytest.mark.parametrize("size", [0, 1, 1000, 1 << 16, (1 << 16) + 1])
@pytest.mark.parametrize(
    "answer", ["cached", "not cached", "can't tell", "not allowed", "no such flag", "no such call"]
)
async def test_content_is_the_same_whatever_the_system_says_of_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, size: int
) -> None:
    errors = {
        "not cached": errno.EAGAIN,
        "can't tell": errno.EOPNOTSUPP,
        "not allowed": errno.EPERM,
        "no such flag": errno.EINVAL,
    }

    def refuse(*_: object) -> int:
        raise OSError(errors[answer], "refused")

    if answer in errors:
        monkeypatch.setattr(os, "preadv", refuse, raising=False)
    if answer == "no such call":
        monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
    contents = [os.urandom(size) for _ in range(3)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}").write_bytes(content)
    assert [await file.read() async for file in localfs.walk_dir(tmp_path)] == contents


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="elsewhere threads read everything")
@pytest.mark.parametrize(("step", "tries"), [(0.0, 10), (0.1, 4)])
async def test_where_opening_takes_long_files_are_soon_left_to_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float, tries: int
) -> None:
    make_tree(tmp_path, *(f"{number}" for number in range(10)))
    asked: list[int] = []
    preadv = os.preadv

    def counted(*arguments: Any) -> int:
        asked.append(1)
        return preadv(*arguments)

    monkeypatch.setattr(os, "preadv", counted)
    monkeypatch.setattr(source, "perf_counter", itertools.count(step=step).__next__)
    assert len([await file.read() async for file in localfs.walk_dir(tmp_path)]) == 10
    assert len(asked) == tries


@pytest.mark.parametrize("now", [b"", b"sho", b"longer than it was"])
async def test_a_file_of_another_length_than_listed_is_read_whole(
    tmp_path: Path, now: bytes
) -> None:
    (tmp_path / "x").write_bytes(b"before")
    (file,) = [file async for file in localfs.walk_dir(tmp_path)]
    (tmp_path / "x").write_bytes(now)
    assert await file.read() == now


async def test_reads_respect_rate_limit_and_prefetch(tmp_path: Path) -> None:
    make_tree(tmp_path, "x", "y")

    class Limiter:
        acquired = 0

        async def acquire(self, n: int = 1) -> None:
            self.acquired += n

    limiter = Limiter()
    walker = localfs.walk_dir(tmp_path, rate_limit=limiter, prefetch=1)
    assert [await file.read_text() async for file in walker] == ["x", "y"]
    assert limiter.acquired == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"live": True}, "live watching is not available"),
        ({"rescan_interval": timedelta(0)}, "rescan_interval must be positive"),
        ({"poll_interval": timedelta(seconds=-1)}, "poll_interval must be positive"),
        ({"prefetch": 0}, "prefetch must be at least 1"),
        ({"on_error": "ignore"}, "on_error must be"),
        ({"max_file_size": -1}, "max_file_size must not be negative"),
    ],
)
def test_options_out_of_range_are_refused_at_once(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        localfs.walk_dir(Path(), **options)
