"""Code identity seen from an app: which calls run again (§B1)."""

from __future__ import annotations

from pathlib import Path

import pytest

import cocoindex as coco

PROGRAM = """
import cocoindex as coco
ran, calls, total, _model = [], ["seed"], 0, None
LIMIT = 3

def make(prefix):
    @coco.fn(memo=True)
    def named(x: str) -> str:
        ran.append(prefix + x)
        return prefix + x
    return named

@coco.fn(memo=True)
def limited(x: str) -> str:
    ran.append("limited")
    return x[:LIMIT]

@coco.fn(memo=True)
def counting(x: str) -> str:
    global total, _model
    total += 1
    _model = _model or "loaded"
    calls.append(x)
    ran.append("counting")
    return x

@coco.fn
async def main() -> list[str]:
    return [make("A")("x"), make("B")("x"), limited("abcdef"), counting("y")]
"""


@pytest.fixture
def run(tmp_path: Path, load):
    current = {}

    async def main() -> list[str]:
        return await current["main"]()

    environment = coco.Environment(coco.Settings(db_path=tmp_path / "db"))
    app = coco.App(coco.AppConfig("app", environment=environment), main)

    async def run_program(text: str = PROGRAM, module=None):
        module = module or load(text)
        module.ran.clear()
        current.update(main=module.main)
        return module, await app.update(), list(module.ran)

    return run_program


async def test_two_closures_of_one_factory_have_two_memos(run):
    _, result, ran = await run()
    assert result[:2] == ["Ax", "Bx"]
    assert ran == ["Ax", "Bx", "limited", "counting"]
    _, again, ran = await run()
    assert (again, ran) == (result, [])


async def test_an_edited_constant_runs_only_what_reads_it(run):
    await run()
    _, result, ran = await run(PROGRAM.replace("LIMIT = 3", "LIMIT = 4"))
    assert (result[2], ran) == ("abcd", ["limited"])


async def test_a_constant_edited_between_two_runs_of_one_process_is_noticed(run):
    module, _, _ = await run()
    module.LIMIT = 2
    _, result, ran = await run(module=module)
    assert (result[2], ran) == ("ab", ["limited"])


async def test_working_state_of_a_body_keeps_its_memo(run):
    module, _, _ = await run()
    assert (module.total, module.calls) == (1, ["seed", "y"])
    _, _, ran = await run(module=module)
    assert ran == []


async def test_form_keeps_memos(run):
    await run()
    _, _, ran = await run(PROGRAM.replace("ran.append(prefix", "# why\n        ran.append( prefix"))
    assert ran == []
