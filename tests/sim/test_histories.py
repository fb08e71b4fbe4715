"""Whatever happens, a clean update makes the outside equal to what is declared (§E4.8)."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from histories import mutants
from histories.exhaustive import cases
from histories.history import History, steps_of
from histories.shrink import shrink

RUN = Path(__file__).with_name("run.py")
SEEDS = int(os.environ.get("COCOINDEX_SIM_SEEDS", "2000"))
STRIDE = int(os.environ.get("COCOINDEX_SIM_STRIDE", "397"))
"""1: every small case, as ``make sim-small`` runs them."""

pytestmark = pytest.mark.slow


def test_random_histories_end_with_the_outside_as_declared():
    done = subprocess.run(
        [sys.executable, RUN, "--seeds", str(SEEDS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert f"{SEEDS} histories" in done.stdout


def test_a_seed_says_everything_about_a_history():
    def log_of(seed: int) -> list[str]:
        log: list[str] = []
        History(log=log).run(steps_of(seed))
        return log

    assert log_of(7) == log_of(7)
    assert log_of(7) != log_of(8)


def test_small_trees_survive_a_kill_at_every_point_between_any_two_edits():
    kills = sum(case.run()["kills"] for case in cases(STRIDE))
    assert kills > 100


def test_a_history_leaves_no_process_behind(monkeypatch):
    made = []
    start = History._start_process

    def note(history, random):
        made.append(weakref.ref(start(history, random)))
        return made[-1]()

    monkeypatch.setattr(History, "_start_process", note)
    for seed in range(3):
        History().run(steps_of(seed))
    gc.collect()
    assert len(made) > 10
    assert [ref for ref in made[:-1] if ref() is not None] == []  # the last is not replaced yet


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulator_finds_the_mistake(mutant):
    with mutants.applied(mutant):
        assert mutants.find(mutant, first=mutants.FOUND_BY.get(mutant.name)) is not None


def test_the_docs_list_every_mistake():
    text = (Path(__file__).parents[2] / "docs" / "trust.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| (.+) \| (\d+) \| \d+ \|$", text, re.MULTILINE)
    known = [(m.name, m.mistake, str(mutants.FOUND_BY[m.name])) for m in mutants.MUTANTS]
    assert listed == known


def test_a_failing_history_shrinks_to_ten_steps_or_fewer():
    chosen = next(m for m in mutants.MUTANTS if m.name == "taken_item_stays")
    with mutants.applied(chosen):
        seed = mutants.find(chosen)
        assert seed is not None
        assert len(shrink(steps_of(seed))) <= 10
