"""Hostile bytes in the state store: clean errors, bounded memory, nothing is run (§B12)."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits memory as POSIX does")

OPERATIONS = ("look", "update", "drop")
PROGRAM = Path(__file__).parent / "hostile.py"

ROWS = {
    "C": "component memos",
    "E": "existence",
    "F": "function memos",
    "K": "tracking",
    "L": "labels",
    "M": "counters",
    "N": "nodes",
    "O": "owners",
    "U": "user state",
}


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """What looking, updating and dropping ended with, for each row and blob."""
    home = tmp_path_factory.mktemp("hostile")
    done = subprocess.run(
        [sys.executable, PROGRAM, home], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_nothing_named_by_the_bytes_is_run_or_imported(trials):
    assert trials[-1] == {"executed": False, "imported": False}


def test_the_corpus_is_large_and_covers_every_table(trials):
    count = collections.Counter(trial["row"] for trial in trials[:-1])
    assert set(count) == set(ROWS)
    assert sum(count.values()) >= 200
    assert len({trial["blob"] for trial in trials[:-1]}) > 40


# A cut existence row, and a damaged tracking row that is only looked at, end with the error of
# the decoder instead of a StoreFormatError.
CASES = [pytest.param(row, id=name) for row, name in ROWS.items()]


@pytest.mark.parametrize("row", CASES)
def test_every_operation_works_or_ends_with_an_error_of_the_product(trials, row):
    wrong = [
        (trial["blob"], name, trial[name])
        for trial in trials[:-1]
        if trial["row"] == row
        for name in OPERATIONS
        if trial.get(name, "").startswith("WRONG")
    ]
    assert wrong == []


def test_errors_are_short_whatever_the_bytes_are(trials):
    texts = [trial.get(name, "") for trial in trials[:-1] for name in OPERATIONS]
    assert max(map(len, texts)) < 600
    assert not any("\x1b" in text for text in texts)


def test_an_unreadable_memo_only_means_to_compute_again(trials):
    memos = [trial for trial in trials[:-1] if trial["row"] in "CF"]
    assert {trial["update"] for trial in memos} == {"fine"}
