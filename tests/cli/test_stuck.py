"""Synchronous bodies that do not return."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import cocoindex as coco
from cocoindex.cli.stuck import running_bodies, waiting_lines


async def test_bodies_that_run_now_are_known_by_name_and_path(env: Any) -> None:
    started, release = threading.Event(), threading.Event()

    @coco.fn
    def process_file() -> None:
        started.set()
        release.wait(20)

    async def main() -> None:
        await coco.mount(coco.component_subpath("a.pdf"), process_file)

    handle = coco.App(coco.AppConfig("stuck", environment=env), main).update()
    running = asyncio.ensure_future(handle)
    assert await asyncio.to_thread(started.wait, 20)
    name = process_file.__qualname__
    assert running_bodies() == [(name, '/"a.pdf"')]
    release.set()
    await running
    assert running_bodies() == []


def test_bodies_that_do_not_return_are_named() -> None:
    assert waiting_lines([("process_file", '/"a.pdf"')]) == [
        'Waiting for process_file at /"a.pdf"… press Ctrl-C again to quit now.'
    ]
    assert waiting_lines([("f", "/")] * 5)[-1] == "(and 2 more)"
