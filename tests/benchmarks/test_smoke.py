"""Each benchmark at its tiniest size: it runs, and does the work it says it measures."""

import dataclasses
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def harness(monkeypatch, tmp_path):
    from benchmarks import harness

    monkeypatch.setattr(harness, "WORK", tmp_path)
    return harness


def run(harness, name, number=0, side="this"):
    """Phase -> (bodies run, actions applied), of one case of a workload."""
    case = harness.load(name).cases("tiny")[number]
    samples = harness.run_case(name, case, side, sys.executable, harness.fresh_folder(name))
    return {
        sample.phase: tuple(int(sample.figures.get(key, 0)) for key in ("bodies", "actions"))
        for sample in samples
    }


def test_state_without_targets_runs_what_changed(harness):
    assert run(harness, "state") == {
        "cold": (100, 0),
        "unchanged": (0, 0),
        "1% changed": (1, 0),
        "drop": (0, 0),
    }


def test_state_with_targets_applies_what_changed(harness):
    assert run(harness, "state", 1) == {
        "cold": (100, 1000),
        "unchanged": (0, 0),
        "1% changed": (1, 10),
        "drop": (0, 1000),
    }


def test_state_without_memos_runs_all_and_applies_what_changed(harness):
    assert run(harness, "state", 3) == {
        "cold": (10, 100),
        "unchanged": (10, 0),
        "1% changed": (10, 10),
        "drop": (0, 100),
    }


def test_memo_runs_the_calls_whose_argument_or_callee_is_new(harness):
    assert run(harness, "memo") == {
        "cold": (300, 0),
        "unchanged": (0, 0),
        "1% changed": (3, 0),
        "helper changed": (300, 0),
    }


def test_files_reads_what_was_edited(harness):
    assert run(harness, "files") == {
        "cold": (100, 0),
        "unchanged": (0, 0),
        "1% edited": (1, 0),
        "10% deleted": (0, 0),
    }


def test_rows_of_one_component_are_all_declared_again(harness):
    assert run(harness, "rows") == {
        "cold": (1, 100),
        "unchanged": (1, 0),
        "1% changed": (1, 1),
    }


def test_rows_of_many_components_are_declared_where_the_component_changed(harness):
    assert run(harness, "rows", 1) == {
        "cold": (100, 300),
        "unchanged": (0, 0),
        "1% changed": (1, 3),
    }


@pytest.mark.parametrize("number", [0, 1], ids=["async", "sync"])
def test_fanout_runs_all_leaves(harness, number):
    assert run(harness, "fanout", number) == {
        "cold": (100, 100),
        "unchanged": (100, 0),
        "1% changed": (100, 1),
    }


def test_batching_computes_what_is_not_remembered(harness):
    assert run(harness, "batching") == {
        "cold": (200, 0),
        "unchanged": (0, 0),
        "1% changed": (2, 0),
    }


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("side", ["this", "floor"])
def test_tables_hold_what_was_declared(harness, pg18_server, monkeypatch, number, side):
    from benchmarks import tables

    monkeypatch.setattr(tables, "server", lambda: pg18_server.url)
    bodies = 1 if side == "this" else 0
    assert run(harness, "tables", number, side) == {
        "cold": (bodies, 0),
        "unchanged": (bodies, 0),
        "1% changed": (bodies, 0),
    }


def test_startup_finds_nothing_to_do(harness):
    phases = ("import", "import, make an app", "update, nothing to do")
    assert run(harness, "startup") == dict.fromkeys(phases, (0, 0))


def test_a_program_that_did_other_work_than_expected_has_no_figures(harness, monkeypatch):
    from benchmarks import state

    broken = dataclasses.replace(state.WORKLOAD, expect=lambda phase, size: harness.Expected(7))
    monkeypatch.setattr(state, "WORKLOAD", broken)
    with pytest.raises(AssertionError, match=r"state, .*, cold: .* not .*bodies=7"):
        run(harness, "state")


def test_the_page_gets_times_sizes_and_reaches(harness, monkeypatch, tmp_path, capsys):
    from benchmarks import report

    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench:state -->\nstale\n<!-- /bench:state -->\nafter\n")
    monkeypatch.setattr(report, "PAGE", page)
    case = harness.Case(
        "N = 2", {"n": 2}, units=2, phases=("cold",), reach={"cold": 10.0}, memory_reach=2.0
    )
    sides = {"this": (1.0, 30e6), "1.0.26": (12.0, 90e6), "floor": (0.5, 0.0)}
    samples = [
        harness.Sample(side, "N = 2", "cold", {"seconds": s * k, "memory": m, "store": 1e6})
        for side, (s, m) in sides.items()
        for k in (0.5, 1.0, 4.0)
    ]
    report.publish("state", [case], samples, write=True)
    text = page.read_text()
    assert "| N = 2 | cold | 1.00 s | 12.0 s | **12.0×** | ≥ 10× | 500 ms | 250 ms | 2.00 |" in text
    assert "| N = 2 | 30.0 MB | 90.0 MB | **3.00×** | ≥ 2× | 1.00 MB | 1.00 MB |" in text
    assert text.startswith("before\n<!-- bench:state -->\n")
    assert text.endswith("<!-- /bench:state -->\nafter\n")
    assert "stale" not in text
    assert "Medians of 3 rounds" in capsys.readouterr().out


def test_profiling_prints_the_top_functions_of_a_phase():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.profile", "memo", "cold", "--tiny", "--top", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    start = next(
        i for i, line in enumerate(lines) if "threads, per unit" in line or "loop thread" in line
    )
    assert [len(line.split()) >= 4 for line in lines[start + 1 : start + 4]] == [True] * 3


@pytest.mark.parametrize("name", ["files", "rows", "startup"])
def test_floors_of_their_own_run_in_all_phases(harness, name):
    case = harness.load(name).cases("tiny")[0]
    folder = harness.fresh_folder(name)
    timed = {
        sample.phase
        for sample in harness.run_case(name, case, harness.FLOOR, sys.executable, folder)
        if "seconds" in sample.figures
    }
    imports = {"import", "import, make an app"}  # of which all is avoidable
    assert timed == set(case.phases) - imports


def test_the_floor_does_the_same_work(harness, tmp_path):
    from benchmarks import floor

    done = []
    for phase in ("cold", "unchanged", "1% changed", "drop", "unchanged"):
        floor.bare_loop(
            tmp_path, phase, floor.Work(100, 10, memo=True), lambda keys: done.append(len(keys))
        )
        done.append(phase)
    assert done == [1000, "cold", "unchanged", 10, "1% changed", 1000, "drop", 1000, "unchanged"]
