"""The sink of the directory target, called directly."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from cocoindex.connectors.localfs import _dirs, _files, _temp
from cocoindex.connectors.localfs._entries import EntryAction, Options, Tree
from cocoindex.connectors.localfs._writer import apply_actions

FAST = Options(fsync=False)


class Context:
    """A context provider with one value."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def get(self, key: str) -> Any:
        return self.values[key]


@pytest.fixture(params=["descriptors", "paths"], autouse=True)
def means(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to work below a root: relative to descriptors, and by path."""
    monkeypatch.setattr(_dirs, "HAS_DIR_FDS", request.param == "descriptors")
    return str(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


class Writer:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = Tree(None, str(root))

    def write(self, path: str, content: bytes = b"new", **fields: Any) -> EntryAction:
        return self._action("write", path, content=content, **fields)

    def mkdir(self, path: str, **fields: Any) -> EntryAction:
        return self._action("mkdir", path, **fields)

    def delete(self, path: str, **fields: Any) -> EntryAction:
        return self._action("delete", path, **{"was_file": True, **fields})

    def rmdir(self, path: str, **fields: Any) -> EntryAction:
        return self._action("delete", path, was_dir=True, **fields)

    def _action(self, op: Any, path: str, options: Options = FAST, **fields: Any) -> EntryAction:
        return EntryAction(op, self.tree, path, options, **fields)

    def apply(self, *actions: EntryAction) -> None:
        apply_actions(Context(), actions)

    def tree_now(self) -> dict[str, str | None]:
        return {
            path.relative_to(self.root).as_posix(): None if path.is_dir() else path.read_text()
            for path in sorted(self.root.rglob("*"))
        }


@pytest.fixture
def writer(root: Path) -> Writer:
    return Writer(root)


def test_files_and_directories_are_made_changed_and_removed(writer: Writer) -> None:
    writer.apply(writer.write("a", b"1"), writer.mkdir("d"), writer.mkdir("d/e"))
    writer.apply(writer.write("d/e/f", b"2"), writer.write("a", b"3"))
    assert writer.tree_now() == {"a": "3", "d": None, "d/e": None, "d/e/f": "2"}
    writer.apply(writer.rmdir("d"), writer.rmdir("d/e"), writer.delete("d/e/f"), writer.delete("a"))
    assert writer.tree_now() == {}


def test_everything_may_be_repeated(writer: Writer) -> None:
    first = [writer.mkdir("d"), writer.write("d/x", fresh=True), writer.delete("gone")]
    second = [writer.delete("d/x"), writer.rmdir("d"), writer.delete("no/where")]
    for actions, expected in ((first, {"d": None, "d/x": "new"}), (second, {})):
        for _ in range(2):
            writer.apply(*actions)
            assert writer.tree_now() == expected


def test_the_root_is_made_with_its_parents_if_asked(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "p/q")
    with pytest.raises(FileNotFoundError):
        writer.apply(writer.mkdir(""))
    writer.apply(writer.mkdir("", create_parents=True, options=Options()))
    assert (tmp_path / "p/q").is_dir()
    writer.apply(writer.rmdir(""))
    assert not (tmp_path / "p/q").exists()
    assert (tmp_path / "p").is_dir()


def test_missing_parents_are_an_error_unless_asked_for(writer: Writer) -> None:
    with pytest.raises(FileNotFoundError, match="root/sub"):
        writer.apply(writer.write("sub/dir/x"))
    writer.apply(writer.write("sub/dir/x", create_parents=True))
    assert writer.tree_now() == {"sub": None, "sub/dir": None, "sub/dir/x": "new"}


def test_parents_go_when_empty_unless_declared_themselves(writer: Writer) -> None:
    writer.apply(writer.write("a/b/x", create_parents=True), writer.write("a/y"))
    writer.apply(writer.delete("a/b/x", prune=2))
    assert writer.tree_now() == {"a": None, "a/y": "new"}
    writer.apply(writer.write("a/b/x", create_parents=True))
    gone = [writer.delete("a/y", prune=1, keep={"a"}), writer.delete("a/b/x", prune=2, keep={"a"})]
    writer.apply(*gone)
    assert writer.tree_now() == {"a": None}


def test_many_files_in_many_directories(writer: Writer) -> None:
    names = [f"{d}/{f}" for d in range(7) for f in range(60)]
    writer.apply(*(writer.write(n, n.encode(), create_parents=True) for n in names))
    assert {n: c for n, c in writer.tree_now().items() if c} == {n: n for n in names}
    writer.apply(*(writer.delete(n, prune=1) for n in names))
    assert writer.tree_now() == {}


def test_a_failing_action_does_not_stop_the_others(writer: Writer) -> None:
    actions = [writer.write("ok", b"1"), writer.write("no/x"), writer.delete("old")]
    (writer.root / "old").touch()
    with pytest.raises(FileNotFoundError, match="root/no"):
        writer.apply(*actions)
    assert writer.tree_now() == {"ok": "1"}


# --- atomicity ---


def test_a_failed_write_leaves_the_old_content_and_no_temporary_file(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.apply(writer.write("x", b"old"))

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="root/x"):
        writer.apply(writer.write("x", b"new"))
    monkeypatch.undo()
    assert writer.tree_now() == {"x": "old"}


def test_one_failed_sync_fails_one_file(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter("ab")

    def sync(_: int) -> None:
        if next(calls) == "a":
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(_files, "_sync_content", sync)
    with pytest.raises(OSError, match="root/a"):
        writer.apply(*(writer.write(n, options=Options()) for n in "ab"))
    assert writer.tree_now() == {"b": "new"}


def test_all_content_is_handed_over_before_the_first_wait_for_the_disk(
    writer: Writer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[int] = []
    monkeypatch.setattr(_files, "_sync_content", lambda _: there.append(len([*root.iterdir()])))
    writer.apply(*(writer.write(n, options=Options()) for n in "abc"))
    assert there == [3, 3, 3]


def test_one_of_many_files_that_fails_to_sync_fails_alone(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(fd: int) -> None:
        if os.fstat(fd).st_size == len(b"bad"):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(_files, "_sync_content", sync)
    names = [f"d{n % 3}/{n}" for n in range(150)]
    actions = [writer.write(n, b"fine", options=Options(), create_parents=True) for n in names]
    actions[77] = writer.write("d2/77", b"bad", options=Options(), create_parents=True)
    with pytest.raises(OSError, match="root/d2/77"):
        writer.apply(*actions)
    assert {n for n, content in writer.tree_now().items() if content} == {*names} - {"d2/77"}


def test_each_of_many_files_is_synced_before_it_gets_its_name(
    writer: Writer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def sync(fd: int) -> None:
        inode = os.fstat(fd).st_ino
        synced.append(inode)
        assert [p.name[:5] for p in root.iterdir() if p.stat().st_ino == inode] == [".coco"]

    monkeypatch.setattr(_files, "_sync_content", sync)
    writer.apply(*(writer.write(str(n), options=Options()) for n in range(20)))
    assert sorted(synced) == sorted(p.stat().st_ino for p in root.iterdir())
    assert len(synced) == 20


@pytest.mark.parametrize("most", [0, 1, 2])
def test_where_threads_cannot_be_started_fewer_wait_for_the_disk(
    writer: Writer, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_some(thread: threading.Thread) -> None:
        if len(started) == most:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    def sync(fd: int) -> None:
        if os.fstat(fd).st_size == len(b"bad"):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(threading.Thread, "start", start_some)
    monkeypatch.setattr(_files, "_sync_content", sync)
    names = [str(n) for n in range(150)]
    actions = [writer.write(n, b"fine", options=Options()) for n in names]
    actions[77] = writer.write("77", b"bad", options=Options())
    with pytest.raises(OSError, match="root/77"):
        writer.apply(*actions)
    assert writer.tree_now().keys() == {*names} - {"77"}


@pytest.mark.parametrize("per_directory", [1, 3, 64, 300])
def test_files_and_their_directories_are_few_at_a_time(
    writer: Writer, per_directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path("/proc/self/fd")
    if not opened.is_dir():
        pytest.skip("nobody tells what is open")
    before = len([*opened.iterdir()])
    most = 0

    def sync(fd: int) -> None:
        nonlocal most
        most = max(most, len([*opened.iterdir()]) - before)

    monkeypatch.setattr(_files, "_sync_content", sync)
    names = [f"d{n // per_directory}/{n}" for n in range(300)]
    writer.apply(*(writer.write(n, options=Options(), create_parents=True) for n in names))
    assert {n for n, content in writer.tree_now().items() if content} == {*names}
    assert most < 75  # each of the threads looks by one more


@pytest.mark.parametrize("count", [3, 20])
def test_an_interrupt_leaves_neither_temporary_files_nor_descriptors(
    writer: Writer, root: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []

    def interrupted(fd: int) -> None:
        opened.append(fd)
        raise KeyboardInterrupt

    monkeypatch.setattr(_files, "_sync_content", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.apply(*(writer.write(str(n), options=Options()) for n in range(count)))
    assert not any(root.iterdir())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


def test_a_disk_that_fails_at_the_close_too_is_left_without_temporary_files(
    writer: Writer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = os.close

    def fail(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fail_to_close(fd: int) -> None:
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        close(fd)
        if is_file:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(_files, "_sync_content", fail)
        patch.setattr(os, "close", fail_to_close)
        with pytest.raises(OSError, match=r"No space left on device.*a'"):
            writer.apply(*(writer.write(n, options=Options()) for n in "abc"))
    assert not any(root.iterdir())


def test_short_writes_are_continued(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:3])))
    writer.apply(writer.write("x", b"0123456789"))
    assert writer.tree_now() == {"x": "0123456789"}


def test_content_and_each_directory_are_synced_once_per_call(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, means: str
) -> None:
    synced: list[str] = []

    def kind(fd: int) -> None:
        synced.append("dir" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")

    monkeypatch.setattr(os, "fsync", kind)
    monkeypatch.setattr("cocoindex.connectors.localfs._files._sync_content", kind)
    writer.apply(*(writer.write(n, options=Options()) for n in "abc"))
    assert synced == ["file"] * 3 + ["dir"] * (means == "descriptors")
    synced.clear()
    writer.apply(*(writer.write(n) for n in "abc"))
    assert synced == []


def test_leftovers_of_dead_processes_are_removed(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = _temp.temp_name()
    dead = ours.replace(f"-{os.getpid()}-", "-999999999-")
    reused = ours.replace(_temp._process, "0" * 8)
    foreign = ours.replace(_temp._host, "0" * 8)
    alive = ours.replace(f"-{os.getpid()}-", f"-{os.getppid()}-")
    other = ".cocoindex-notes"
    for name in (ours, dead, reused, foreign, alive, other):
        (writer.root / name).touch()
    monkeypatch.setattr(_temp, "_swept", set())
    writer.apply(writer.write("x"))
    assert set(writer.tree_now()) == {"x", ours, foreign, alive, other}
    os.utime(writer.root / foreign, (0, 0))
    monkeypatch.setattr(_temp, "_swept", set())
    writer.apply(writer.write("x"))
    assert set(writer.tree_now()) == {"x", ours, alive, other}


def test_a_leftover_does_not_keep_a_directory_alive(writer: Writer) -> None:
    writer.apply(writer.mkdir("d"))
    dead = _temp.temp_name().replace(f"-{os.getpid()}-", "-999999999-")
    (writer.root / "d" / dead).touch()
    writer.apply(writer.rmdir("d"))
    assert writer.tree_now() == {}


# --- permissions ---


def test_the_mode_of_an_existing_file_is_kept(writer: Writer) -> None:
    writer.apply(writer.write("x"))
    (writer.root / "x").chmod(0o640)
    writer.apply(writer.write("x", b"again"))
    assert (writer.root / "x").stat().st_mode & 0o777 == 0o640


def test_a_mode_can_be_asked_for(writer: Writer) -> None:
    (writer.root / "x").touch(mode=0o600)
    writer.apply(writer.write("x", options=Options(fsync=False, mode=0o664)))
    assert (writer.root / "x").stat().st_mode & 0o777 == 0o664


# --- containment ---


def test_a_link_standing_for_a_file_is_replaced(writer: Writer, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept")
    (writer.root / "x").symlink_to(outside)
    writer.apply(writer.write("x"))
    assert not (writer.root / "x").is_symlink()
    assert outside.read_text() == "kept"


@pytest.mark.parametrize("op", ["write", "mkdir"])
def test_a_link_on_the_way_is_refused(writer: Writer, tmp_path: Path, op: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (writer.root / "sub").symlink_to(outside)
    for parents in (False, True):
        action = getattr(writer, op)("sub/x", create_parents=parents)
        with pytest.raises(OSError, match="symbolic links below the root are not followed"):
            writer.apply(action)
    assert list(outside.iterdir()) == []


def test_a_link_in_place_of_a_declared_directory_is_refused(writer: Writer, tmp_path: Path) -> None:
    (writer.root / "d").symlink_to(tmp_path)
    with pytest.raises(OSError, match="something else is where a directory is declared"):
        writer.apply(writer.mkdir("d", fresh=True))


def test_nothing_is_removed_through_a_link(writer: Writer, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").touch()
    (writer.root / "sub").symlink_to(outside)
    writer.apply(writer.delete("sub/x", prune=1), writer.rmdir("sub"))
    assert (outside / "x").exists()
    assert (writer.root / "sub").is_symlink()


def test_the_root_may_be_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    writer = Writer(tmp_path / "link")
    writer.apply(writer.mkdir(""), writer.write("x"))
    assert (tmp_path / "real/x").read_text() == "new"


# --- what others put there ---


def test_a_directory_with_foreign_files_stays_and_is_named(
    writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    writer.apply(writer.mkdir("d"), writer.write("d/ours"))
    (writer.root / "d/theirs").touch()
    with caplog.at_level(logging.WARNING):
        writer.apply(writer.delete("d/ours"), writer.rmdir("d"))
    assert writer.tree_now() == {"d": None, "d/theirs": ""}
    assert "root/d stays" in caplog.text


def test_foreign_files_can_be_purged(writer: Writer, tmp_path: Path) -> None:
    writer.apply(writer.mkdir("d"))
    (writer.root / "d/theirs").touch()
    (writer.root / "d/link").symlink_to(tmp_path)
    writer.apply(writer.rmdir("d", options=Options(fsync=False, purge_foreign=True)))
    assert writer.tree_now() == {}
    assert tmp_path.exists()


def test_a_directory_that_replaced_our_file_stays(
    writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    (writer.root / "x").mkdir()
    writer.apply(writer.delete("x"))
    (writer.root / "y").touch()
    writer.apply(writer.rmdir("y"))
    assert set(writer.tree_now()) == {"x", "y"}
    assert len(caplog.records) == 2


def test_a_foreign_file_under_a_new_name_is_overwritten_or_refused(writer: Writer) -> None:
    careful = Options(fsync=False, on_conflict="error")
    (writer.root / "x").write_text("theirs")
    with pytest.raises(FileExistsError, match="on_conflict='error'"):
        writer.apply(writer.write("x", options=careful, fresh=True))
    assert writer.tree_now() == {"x": "theirs"}
    writer.apply(writer.write("x", options=careful))
    assert writer.tree_now() == {"x": "new"}
    # The same content may be ours, from a call that was cut short.
    writer.apply(writer.write("x", options=careful, fresh=True))
    (writer.root / "y").write_text("theirs")
    writer.apply(writer.write("y", fresh=True))
    assert writer.tree_now() == {"x": "new", "y": "new"}


def test_a_foreign_directory_in_the_way_of_a_file_is_an_error(writer: Writer) -> None:
    (writer.root / "x").mkdir()
    with pytest.raises(IsADirectoryError, match="root/x"):
        writer.apply(writer.write("x", fresh=True))


# --- type switches ---


def test_a_file_becomes_a_directory_in_one_call(writer: Writer) -> None:
    writer.apply(writer.write("x"))
    writer.apply(writer.mkdir("x", was_file=True), writer.write("x/y"))
    assert writer.tree_now() == {"x": None, "x/y": "new"}


def test_a_directory_becomes_a_file_in_one_call(writer: Writer) -> None:
    writer.apply(writer.mkdir("x"), writer.write("x/y"))
    writer.apply(writer.write("x", was_dir=True), writer.delete("x/y"))
    assert writer.tree_now() == {"x": "new"}
    writer.apply(writer.delete("x/y"))
    assert writer.tree_now() == {"x": "new"}


def test_a_removed_file_makes_way_for_a_parent_directory(writer: Writer) -> None:
    writer.apply(writer.write("x"))
    writer.apply(writer.write("x/y", create_parents=True), writer.delete("x"))
    assert writer.tree_now() == {"x": None, "x/y": "new"}


def test_a_directory_with_foreign_files_does_not_become_a_file(writer: Writer) -> None:
    (writer.root / "x").mkdir()
    (writer.root / "x/theirs").touch()
    with pytest.raises(OSError, match="did not write"):
        writer.apply(writer.write("x", was_dir=True))
    purging = Options(fsync=False, purge_foreign=True)
    writer.apply(writer.write("x", was_dir=True, options=purging))
    assert writer.tree_now() == {"x": "new"}


# --- names that differ in case only ---


@pytest.fixture
def caseless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the file system takes names for equal that differ in case only."""

    def find(names: list[str], name: str) -> str:
        return next((n for n in names if n.casefold() == name.casefold()), name)

    for cls in (_dirs.FdDir, _dirs.PathDir):
        for method in ("lstat", "unlink"):
            real = getattr(cls, method)
            monkeypatch.setattr(
                cls, method, lambda self, name, real=real: real(self, find(self.names(), name))
            )


@pytest.mark.usefixtures("caseless")
def test_the_later_of_two_names_that_fold_to_one_fails(writer: Writer) -> None:
    with pytest.raises(FileExistsError, match=r"collides with 'a\.txt'"):
        writer.apply(writer.write("a.txt", fresh=True), writer.write("A.txt", b"2", fresh=True))
    assert writer.tree_now() == {"a.txt": "new"}
    writer.apply(writer.mkdir("dir", fresh=True))
    with pytest.raises(FileExistsError, match="collides with 'dir'"):
        writer.apply(writer.mkdir("Dir", fresh=True))


@pytest.mark.usefixtures("caseless")
def test_a_file_can_be_renamed_by_case_alone(writer: Writer) -> None:
    writer.apply(writer.write("a.txt", fresh=True))
    writer.apply(writer.write("A.txt", fresh=True), writer.delete("a.txt"))
    assert writer.tree_now() == {"A.txt": "new"}


# --- base directories ---


def test_the_base_directory_is_looked_up_when_actions_are_applied(root: Path) -> None:
    action = EntryAction("write", Tree("base", "."), "x", FAST, content=b"new")
    apply_actions(Context(base=root), [action])
    assert (root / "x").read_text() == "new"


@pytest.mark.parametrize(
    ("context", "error", "text"),
    [(Context(), KeyError, "context key 'base'"), (Context(base=3), TypeError, "got int")],
)
def test_a_base_that_is_missing_or_no_path_is_named(
    context: Context, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        apply_actions(context, [EntryAction("mkdir", Tree("base", "out"), "", FAST)])
