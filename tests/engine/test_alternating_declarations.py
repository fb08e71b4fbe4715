"""A body that declares for several targets in turn, one target state at a time."""

from __future__ import annotations

import cocoindex as coco
from cocoindex.engine.takeover import Takeovers
from cocoindex.testing.targets import MemoryTarget


async def test_what_depends_on_all_of_a_target_is_found_out_once(bench, monkeypatch):
    targets = [MemoryTarget("tests/turns/a"), MemoryTarget("tests/turns/b")]
    looks: list[int] = []
    original = Takeovers.contested

    def contested(self, group):
        looks.append(len(group.owner_keys))
        return original(self, group)

    async def body():
        for key in range(50):
            for target in targets:
                target.declare(key, 1)

    monkeypatch.setattr(Takeovers, "contested", contested)
    await bench.run(body)
    assert looks == [50, 50]
    assert [sorted(target.rows) for target in targets] == [list(range(50))] * 2


async def test_a_limit_on_target_states_counts_those_of_all_targets(bench):
    targets = [MemoryTarget("tests/turns/c"), MemoryTarget("tests/turns/d")]
    bench.app_options["limits"] = coco.Limits(states_per_component=5)

    async def body():
        for key in range(3):
            for target in targets:
                target.declare(key, 1)

    assert "5" in str(await bench.fails(body))
    assert [target.rows for target in targets] == [{}, {}]
