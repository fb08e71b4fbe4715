"""Whatever happens, a clean update makes the outside equal to what is declared (§E4.8)."""

from __future__ import annotations

import os

import pytest
from histories import mutants
from histories.exhaustive import SHAPES, cases
from histories.history import Divergence, History, Step, steps_of
from histories.shrink import from_text, shrink

SEEDS = int(os.environ.get("COCOINDEX_SIM_SEEDS", "400"))
STRIDE = int(os.environ.get("COCOINDEX_SIM_STRIDE", "97"))
"""1: every small case, every fault point (hours)."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("block", range(8))
def test_random_histories_end_with_the_outside_as_declared(block):
    kills = 0
    for seed in range(block, SEEDS, 8):
        try:
            kills += History().run(steps_of(seed)).faults["kill"]
        except Divergence as divergence:
            pytest.fail(f"{divergence}\nreplay: python tests/sim/run.py --seed {seed}")
    assert kills > 0


def test_a_seed_says_everything_about_a_history():
    def log_of(seed: int) -> list[str]:
        log: list[str] = []
        History(log=log).run(steps_of(seed))
        return log

    assert log_of(7) == log_of(7)
    assert log_of(7) != log_of(8)


def test_small_trees_survive_a_kill_at_every_point_between_any_two_edits():
    kills = sum(case.run(stride=3, offset=n % 3) for n, case in enumerate(cases(STRIDE)))
    assert kills > len(SHAPES)


# Histories that once went wrong, as the shrinker left them.
REGRESSIONS = {
    "a cancelled task that had not begun left its parent waiting for ever":
        "add_table:0,add:0,add:1,faulty:48804,clean:0",
    "the plan deleted what a take-over had moved":
        "add:0,clean:0,add:1,clean:1",
    "ids were given out again after a commit that failed":
        "add_table:5,faulty:4,faulty:6167,last:0",
    "a cancelled update ended while its tasks went on":
        "add:2,add:4,add:8,faulty:2,faulty:55869,last:0",
    "rows below a nested container stayed when another one beside it had gone":
        "add_table:5,add:0,add:36324,clean:0,remove:0,inner:0,last:0",
    "a component stayed because an inner container it had used was gone":
        "add_table:7,add:2,clean:0,inner:2,faulty:5,remove:0,last:0",
}  # fmt: skip


@pytest.mark.parametrize("steps", REGRESSIONS.values(), ids=REGRESSIONS)
def test_what_once_went_wrong_goes_right(steps):
    History().run(from_text(steps))


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulator_finds_the_mistake(mutant):
    steps = from_text(mutants.WITNESSES[mutant.name])
    History().run(steps)
    with mutants.applied(mutant), pytest.raises(Divergence):
        History().run(steps)


def test_a_failing_history_shrinks_to_ten_steps_or_fewer():
    chosen = next(m for m in mutants.MUTANTS if m.name == "taken_item_stays")
    with mutants.applied(chosen):
        seed = next(seed for seed in range(200) if _fails(steps_of(seed)))
        assert len(shrink(steps_of(seed))) <= 10


def _fails(steps: list[Step]) -> bool:
    try:
        History().run(steps)
    except Divergence:
        return True
    return False
