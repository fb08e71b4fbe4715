"""Source trees that strangers can write to: §B3, §C-FS2."""

from __future__ import annotations

import logging
import os
import sys

import pytest

import cocoindex as coco
from cocoindex.connectors import localfs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes of POSIX")


async def read_all(sandbox, **options):
    """Key -> text of all files, read in an update."""
    found = {}

    async def body():
        walker = localfs.walk_dir(sandbox.source_key, recursive=True, **options)
        async for key, file in walker.items():
            found[key] = await file.read_text()

    await sandbox.run(body)
    return found


@pytest.fixture
def hostile(sandbox):
    """A source with one honest file, and links of all kinds that lead out."""
    source, victim = sandbox.source, sandbox.victim
    (source / "honest").write_text("mine")
    (source / "absolute").symlink_to(victim / "a.txt")
    (source / "relative").symlink_to("../victim/a.txt")
    (source / "folder").symlink_to(victim)
    (source / "chain").symlink_to("absolute")
    (source / "up").symlink_to("..")
    (source / "dangling").symlink_to("nowhere")
    (source / "loop").symlink_to("loop")
    (source / "inside").symlink_to("honest")
    (source / "twin").symlink_to("../source-evil/a")
    (sandbox.home / "source-evil").mkdir()
    (sandbox.home / "source-evil" / "a").write_text("secret of a neighbour")
    os.mkfifo(source / "pipe")
    return sandbox


async def test_nothing_outside_is_read_with_follow_symlinks_false(hostile):
    assert await read_all(hostile, follow_symlinks=False) == {"honest": "mine", "inside": "mine"}


async def test_links_that_lead_out_are_named_in_one_warning_by_default(hostile, caplog):
    (hostile.source / "up").unlink()  # the whole sandbox lies above
    with caplog.at_level(logging.WARNING):
        found = await read_all(hostile)
    assert found["absolute"] == "secret of a.txt"
    warnings = [r.getMessage() for r in caplog.records if "follow_symlinks" in r.getMessage()]
    assert len(warnings) == 1
    for name in ("absolute", "relative", "folder", "chain", "twin"):
        assert f"{name} -> " in warnings[0]
    assert "inside ->" not in warnings[0]


async def test_a_file_swapped_for_a_link_after_the_listing_is_not_read_through(sandbox):
    (sandbox.source / "sub").mkdir()
    for name in ("a.txt", "sub/a.txt"):
        (sandbox.source / name).write_text("mine")
    seen = []

    async def body():
        walker = localfs.walk_dir(sandbox.source_key, recursive=True, follow_symlinks=False)
        files = [file async for _, file in walker.items()]
        (sandbox.source / "a.txt").unlink()
        (sandbox.source / "a.txt").symlink_to(sandbox.victim / "a.txt")
        (sandbox.source / "sub").rename(sandbox.home / "aside")
        (sandbox.source / "sub").symlink_to(sandbox.victim / "sub")
        for file in files:
            with pytest.raises(OSError):
                seen.append(await file.read())

    await sandbox.run(body)
    assert seen == []


@pytest.mark.parametrize("options", [{"follow_symlinks": False}, {}], ids=str)
async def test_a_file_swapped_for_a_pipe_after_the_listing_does_not_block(sandbox, options):
    (sandbox.source / "a.txt").write_text("mine")

    async def body():
        walker = localfs.walk_dir(sandbox.source_key, **options)
        (file,) = [file async for _, file in walker.items()]
        (sandbox.source / "a.txt").unlink()
        os.mkfifo(sandbox.source / "a.txt")
        with pytest.raises(OSError, match=r"a\.txt"):
            await file.read()
        (sandbox.source / "a.txt").unlink()
        os.mkfifo(sandbox.source / "a.txt")
        with pytest.raises(OSError, match=r"a\.txt"):
            async with file.open() as stream:
                await stream.read()

    await sandbox.run(body)


async def test_a_folder_swapped_for_a_link_during_the_listing_is_not_entered(sandbox, monkeypatch):
    from cocoindex.connectors.localfs import _scan

    (sandbox.source / "sub").mkdir()
    (sandbox.source / "sub" / "mine").write_text("mine")
    real = _scan.Scan._entries

    def swapping(self, directory):
        if directory.key == "sub":
            (sandbox.source / "sub").rename(sandbox.home / "aside")
            (sandbox.source / "sub").symlink_to(sandbox.victim / "sub")
        return real(self, directory)

    monkeypatch.setattr(_scan.Scan, "_entries", swapping)
    assert await read_all(sandbox, follow_symlinks=False) == {}


async def test_control_characters_in_names_do_not_reach_a_terminal_raw(sandbox):
    (sandbox.source / "\x1b[31mred\nline").write_text("x")

    async def fail(file):
        raise RuntimeError("boom")

    async def body():
        walker = localfs.walk_dir(sandbox.source_key)
        await coco.use_mount(coco.component_subpath("f"), failing, walker)

    async def failing(walker):
        async for key, file in walker.items():
            await coco.use_mount(coco.component_subpath(key), fail, file)

    with pytest.raises(RuntimeError):
        await sandbox.run(body)
    from cocoindex import inspect

    paths = [str(path) for path in await inspect.list_stable_paths(sandbox.app)]
    assert not any("\x1b" in path or "\n" in path for path in paths)
