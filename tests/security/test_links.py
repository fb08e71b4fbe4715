"""Links, pipes and devices put in the way of a directory target, before and during updates."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import threading
from contextlib import suppress

import pytest

from cocoindex.connectors.localfs import _dirs, _files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX")

FILES = {"a.txt": "1", "sub/a.txt": "2", "sub/b.txt": "3"}
CHANGED = {name: f"new {content}" for name, content in FILES.items()}


def swap_for_link(path, to):
    path.rename(path.with_name(f"{path.name}.aside"))
    path.symlink_to(to)


async def test_a_parent_swapped_for_a_link_is_not_followed(sandbox):
    await sandbox.declare(FILES)
    swap_for_link(sandbox.target / "sub", sandbox.victim / "sub")
    with pytest.raises(OSError, match="symbolic links below the root are not followed"):
        await sandbox.declare(CHANGED)
    sandbox.check_victim()
    assert (sandbox.target / "a.txt").read_text() == "new 1"


async def test_nothing_is_deleted_through_a_parent_swapped_for_a_link(sandbox, caplog):
    await sandbox.declare(FILES)
    swap_for_link(sandbox.target / "sub", sandbox.victim / "sub")
    await sandbox.declare({"a.txt": "1"})
    sandbox.check_victim()
    assert (sandbox.target / "sub").is_symlink()
    assert f"{sandbox.target / 'sub'} is a symbolic link now" in caplog.text
    assert "2 undeclared, first 'sub/" in caplog.text


async def test_what_others_moved_aside_while_it_was_undeclared_is_theirs(sandbox):
    await sandbox.declare(FILES)
    aside = sandbox.home / "aside"
    (sandbox.target / "sub").rename(aside)
    await sandbox.declare({"a.txt": "1"})
    aside.rename(sandbox.target / "sub")
    await sandbox.declare({"a.txt": "2", "sub/a.txt": "2"})
    assert sandbox.inside() == {"a.txt": "2", "sub/a.txt": "2", "sub/b.txt": "3"}
    await sandbox.run(lambda: None)
    assert sandbox.inside() == {"sub/b.txt": "3"}


async def test_a_link_in_place_of_a_file_is_replaced_not_written_through(sandbox):
    await sandbox.declare(FILES)
    for name in FILES:
        (sandbox.target / name).unlink()
        (sandbox.target / name).symlink_to(sandbox.victim / name)
    await sandbox.declare(CHANGED)
    assert sandbox.inside() == CHANGED


async def test_a_link_in_place_of_a_file_is_what_goes_when_the_file_is_undeclared(sandbox):
    await sandbox.declare(FILES)
    (sandbox.target / "a.txt").unlink()
    (sandbox.target / "a.txt").symlink_to(sandbox.victim / "a.txt")
    await sandbox.declare({})
    assert not (sandbox.target / "a.txt").is_symlink()


async def test_a_dangling_link_creates_nothing_where_it_points(sandbox):
    sandbox.target.mkdir()
    (sandbox.target / "a.txt").symlink_to(sandbox.victim / "new.txt")
    await sandbox.declare({"a.txt": "1"})
    assert sandbox.inside() == {"a.txt": "1"}


async def test_a_hard_link_to_a_foreign_file_is_broken_not_written_through(sandbox):
    sandbox.target.mkdir()
    os.link(sandbox.victim / "a.txt", sandbox.target / "a.txt")
    await sandbox.declare({"a.txt": "1"})
    os.link(sandbox.victim / "sub/b.txt", sandbox.target / "b.txt")
    await sandbox.declare({"a.txt": "2", "b.txt": "3"})
    assert sandbox.inside() == {"a.txt": "2", "b.txt": "3"}


async def test_the_mode_of_a_link_target_is_not_copied(sandbox):
    sandbox.target.mkdir()
    outside = sandbox.home / "setuid"
    outside.write_text("x")
    outside.chmod(0o6777)
    (sandbox.target / "a.txt").symlink_to(outside)
    await sandbox.declare({"a.txt": "1"})
    assert (sandbox.target / "a.txt").stat().st_mode & 0o7022 == 0


@pytest.mark.parametrize("options", [{}, {"on_conflict": "error"}], ids=str)
async def test_a_pipe_in_the_way_blocks_nothing(sandbox, options):
    sandbox.target.mkdir()
    os.mkfifo(sandbox.target / "a.txt")
    if options:
        with pytest.raises(FileExistsError):
            await sandbox.declare({"a.txt": "1"}, **options)
        return
    await sandbox.declare({"a.txt": "1"})
    assert sandbox.inside() == {"a.txt": "1"}
    (sandbox.target / "a.txt").unlink()
    os.mkfifo(sandbox.target / "a.txt")
    await sandbox.declare({"a.txt": "2"})
    assert sandbox.inside() == {"a.txt": "2"}


async def test_a_device_in_the_way_is_not_written_to(sandbox):
    sandbox.target.mkdir()
    try:
        os.mknod(sandbox.target / "a.txt", 0o600 | stat.S_IFCHR, os.makedev(1, 7))  # /dev/full
    except PermissionError:
        pytest.skip("needs the right to make devices")
    await sandbox.declare({"a.txt": "1"})
    assert sandbox.inside() == {"a.txt": "1"}


async def test_a_folder_of_others_where_a_file_is_declared_stays(sandbox):
    (sandbox.target / "a.txt").mkdir(parents=True)
    (sandbox.target / "a.txt" / "theirs").write_text("x")
    with pytest.raises(IsADirectoryError):
        await sandbox.declare({"a.txt": "1"})
    assert (sandbox.target / "a.txt" / "theirs").read_text() == "x"


async def test_purging_removes_links_but_not_what_they_lead_to(sandbox):
    await sandbox.declare(FILES, purge_foreign=True)
    (sandbox.target / "sub" / "link").symlink_to(sandbox.victim)
    (sandbox.target / "link").symlink_to(sandbox.victim)
    await sandbox.run(lambda: None)
    sandbox.check_victim()
    assert not sandbox.target.exists()


async def test_a_root_replaced_by_a_link_is_left_standing_when_the_target_goes(sandbox):
    await sandbox.declare(FILES)
    moved = sandbox.home / "moved"
    sandbox.target.rename(moved)
    (moved / "theirs").write_text("x")
    sandbox.target.symlink_to(moved)
    await sandbox.declare(CHANGED)
    assert (moved / "sub/a.txt").read_text() == "new 2"
    await sandbox.run(lambda: None)
    assert sandbox.target.is_symlink()
    assert [path.name for path in moved.iterdir()] == ["theirs"]


async def test_a_root_replaced_by_a_link_to_elsewhere_harms_nothing_there_but_our_names(sandbox):
    await sandbox.declare({"ours.txt": "1"})
    swap_for_link(sandbox.target, sandbox.victim)
    await sandbox.declare({})
    sandbox.check_victim()


class Flipper:
    """Somebody who swaps a folder for a link to the victim and back, all the time."""

    def __init__(self, sandbox):
        self._path = sandbox.target / "sub"
        self._aside = sandbox.target / "aside"
        self._victim = sandbox.victim / "sub"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._flip)

    def _flip(self):
        while not self._stop.is_set():
            try:
                self._path.rename(self._aside)
                self._path.symlink_to(self._victim)
                self._path.unlink()
                self._aside.rename(self._path)
            except OSError:  # the update has made the folder anew meanwhile
                shutil.rmtree(self._aside, ignore_errors=True)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        shutil.rmtree(self._aside, ignore_errors=True)


async def test_links_swapped_in_during_updates_lead_nowhere(sandbox):
    files = {f"sub/f{number}": "0" for number in range(30)}
    files |= {"sub/a.txt": "0", "sub/b.txt": "0"}
    await sandbox.declare(files)
    with Flipper(sandbox):
        for turn in range(25):
            wanted = files if turn % 2 else {"sub/f0": str(turn)}
            # An update may meet the link, and fails then.
            with suppress(OSError):
                await sandbox.declare({name: str(turn) for name in wanted})
            sandbox.check_victim()
    await sandbox.declare({"sub/f1": "last"})
    left = sandbox.inside()
    assert left.pop("sub/f1") == "last"
    # What was undeclared while it was out of reach came back with the folder. Nothing else did.
    assert left.keys() <= files.keys()
    assert set(left.values()) <= {str(turn) for turn in range(25)}


@pytest.mark.skipif(not _dirs.HAS_DIR_FDS, reason="no directory descriptors here")
@pytest.mark.parametrize("step", ["lstat", "open_file", "replace"])
async def test_a_parent_swapped_between_any_two_steps_of_a_write_leads_nowhere(
    sandbox, monkeypatch, step
):
    await sandbox.declare(FILES)
    real = getattr(_dirs.FdDir, step)
    swapped = []

    def swapping(self, *args):
        if not swapped and self.path.endswith("/sub"):
            swapped.append(step)
            swap_for_link(sandbox.target / "sub", sandbox.victim / "sub")
        return real(self, *args)

    monkeypatch.setattr(_dirs.FdDir, step, swapping)
    await sandbox.declare({**CHANGED, "a.txt": "1"})
    assert swapped
    sandbox.check_victim()
    assert (sandbox.target / "sub.aside" / "a.txt").read_text() == "new 2"


@pytest.mark.skipif(not _dirs.HAS_DIR_FDS, reason="no directory descriptors here")
@pytest.mark.parametrize("step", ["lstat", "unlink"])
async def test_a_parent_swapped_between_any_two_steps_of_a_removal_leads_nowhere(
    sandbox, monkeypatch, step
):
    await sandbox.declare(FILES)
    real = getattr(_dirs.FdDir, step)
    swapped = []

    def swapping(self, *args):
        if not swapped and self.path.endswith("/sub"):
            swapped.append(step)
            swap_for_link(sandbox.target / "sub", sandbox.victim / "sub")
        return real(self, *args)

    monkeypatch.setattr(_dirs.FdDir, step, swapping)
    await sandbox.declare({"a.txt": "1"})
    assert swapped
    sandbox.check_victim()


async def test_a_pipe_swapped_in_while_content_is_compared_does_not_block(sandbox, monkeypatch):
    sandbox.target.mkdir()
    (sandbox.target / "a.txt").write_text("1")
    real = _files._has_content

    def swapping(directory, name, status, content):
        (sandbox.target / name).unlink()
        os.mkfifo(sandbox.target / name)
        return real(directory, name, status, content)

    monkeypatch.setattr(_files, "_has_content", swapping)
    with pytest.raises(OSError):
        await sandbox.declare({"a.txt": "1"}, on_conflict="error")
