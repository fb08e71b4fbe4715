"""``cocoindex update``."""

from __future__ import annotations

import json
import re
from typing import Any

TWO_APPS = """
import cocoindex as coco
from main import app_main

first = coco.App("first", app_main)
second = coco.App("second", app_main)
"""


def test_an_update_names_the_app_and_ends_with_its_counters(folders: Any) -> None:
    done = folders.run("update", "main.py")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "Running app 'Folders' from environment 'default' (db path: store)"
    assert lines[-5:-2] == [
        "[Stats] (terminated)",
        "✅ app_main: 1 total | 1 added",
        "✅ process_file: 2 total | 2 added",
    ]
    assert re.fullmatch(r"⏳ Elapsed: \d+\.\ds", lines[-2])
    assert folders.read("out/a.txt") == "ALPHA"


def test_a_second_update_finds_nothing_to_do(folders: Any) -> None:
    folders.run("update", "main.py")
    assert "✅ process_file: 2 total | 2 unchanged" in folders.run("update", "main.py").stdout
    again = folders.run("update", "main.py", "--full-reprocess")
    assert "✅ process_file: 2 total | 2 reprocessed" in again.stdout


def test_quiet_prints_nothing(folders: Any) -> None:
    done = folders.run("update", "main.py", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_failed_components_are_named_at_the_end_and_fail_the_command(folders: Any) -> None:
    folders.write("in/c.txt", "bad")
    done = folders.run("update", "main.py", "-q")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "1 component(s) failed; see the log above.",
        '  /"files"/"c.txt": ValueError: c.txt is bad',
    ]
    assert "ERROR cocoindex.engine: component" in done.stderr
    assert 'main.py", line' in done.stderr
    assert "cocoindex/engine" not in done.stderr
    assert folders.read("out/b.txt") == "BETA"


def test_a_failing_main_function_shows_the_users_traceback_only(folders: Any) -> None:
    folders.root.joinpath("in").rename(folders.root / "gone")
    done = folders.run("update", "main.py")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert "main.py" in done.stderr.splitlines()[1]
    assert "cocoindex/engine" not in done.stderr
    assert "FileNotFoundError" in done.stderr


def test_a_preview_prints_the_plan_and_changes_nothing(folders: Any) -> None:
    done = folders.run("update", "main.py", "--preview")
    assert done.returncode == 0
    assert "Preview: planned target actions\n  ('write', 'a.txt', 'ALPHA')\n" in done.stdout
    assert done.stdout.endswith("Total: 2 actions\n")
    assert not folders.root.joinpath("out").exists()
    folders.run("update", "main.py")
    done = folders.run("update", "main.py", "--preview")
    assert done.stdout.endswith("  No target actions planned.\n")


def test_a_preview_can_be_data_and_tell_by_its_status_whether_there_is_work(folders: Any) -> None:
    done = folders.run("update", "main.py", "--preview", "--json", "--exit-code")
    assert done.returncode == 1
    assert json.loads(done.stdout)["total"] == 2
    folders.run("update", "main.py")
    assert folders.run("update", "main.py", "--preview", "--exit-code").returncode == 0


def test_what_the_program_prints_does_not_mix_with_data(folders: Any) -> None:
    program = folders.read("main.py").replace("    files = ", "    print('busy')\n    files = ")
    folders.write("main.py", "print('loading')\n" + program)
    done = folders.run("update", "main.py", "--preview", "--json")
    assert json.loads(done.stdout)["total"] == 2
    assert done.stderr == "loading\nbusy\n"


def test_a_preview_with_failed_components_fails(folders: Any) -> None:
    folders.write("in/c.txt", "bad")
    done = folders.run("update", "main.py", "--preview")
    assert done.returncode == 1
    assert "Total: 2 actions" in done.stdout
    assert "1 component(s) failed; see the log above." in done.stderr


def test_options_that_exclude_each_other_are_usage_errors(folders: Any) -> None:
    for option in ("--reset", "--live"):
        done = folders.run("update", "main.py", "--preview", option)
        assert done.returncode == 2
        assert f"--preview and {option} cannot be used together." in done.stderr


def test_reset_asks_and_says_what_it_drops(folders: Any) -> None:
    folders.run("update", "main.py")
    done = folders.run("update", "main.py", "--reset", answer="no\n")
    assert done.returncode == 0
    assert done.stdout.endswith("Update operation aborted.\n")
    assert "  @test/files: 2 target states\n" in done.stderr
    assert "Type 'yes' to reset app 'Folders' (drop existing state): " in done.stderr


def test_reset_drops_first(folders: Any) -> None:
    folders.run("update", "main.py")
    done = folders.run("update", "main.py", "--reset", answer="YES\n")
    assert "✅ process_file: 2 total | 2 added" in done.stdout
    assert "2 added" in folders.run("update", "main.py", "--reset", "-f").stdout


def test_without_an_answer_a_question_aborts_and_names_the_option(folders: Any) -> None:
    folders.run("update", "main.py")
    done = folders.run("update", "main.py", "--reset")
    assert done.returncode == 1
    assert "Aborted!" in done.stderr
    assert "-f" in done.stderr.splitlines()[-1]


def test_an_app_that_never_ran_is_not_asked_about(folders: Any) -> None:
    assert "2 added" in folders.run("update", "main.py", "--reset").stdout


def test_every_app_of_a_program_can_be_updated_in_order(folders: Any) -> None:
    folders.write("apps.py", TWO_APPS)
    done = folders.run("update", "apps.py", "--all")
    assert done.returncode == 0
    assert re.findall(r"^Running app '(\w+)'", done.stdout, re.MULTILINE) == [
        "Folders",
        "first",
        "second",
    ]


def test_withheld_deletions_have_a_status_of_their_own(folders: Any) -> None:
    program = folders.read("main.py").replace(
        'coco.App("Folders", app_main)',
        'coco.App(coco.AppConfig("Folders", deletion_guard=coco.DeletionGuard(0.5, 2)), app_main)',
    )
    each = (
        "    items = [(p.name, p.read_text()) for p in files]\n"
        '    await coco.mount_each(coco.component_subpath("files"), one, items)\n'
    )
    head, tail = program.split("    for path in files:")
    tail = tail[tail.index("\napp = ") :]
    one = (
        "@coco.fn\nasync def one(text):\n"
        "    coco.declare_target_state(FILES.target_state(text, text))\n\n"
    )
    head = head.replace("@coco.fn\nasync def app_main", one + "@coco.fn\nasync def app_main")
    folders.write("main.py", head + each + tail)
    assert folders.run("update", "main.py").returncode == 0
    for name in ("a.txt", "b.txt"):
        folders.root.joinpath("in", name).unlink()
    done = folders.run("update", "main.py", "-q")
    assert done.returncode == 3
    assert "--allow-deletes" in done.stderr
    assert folders.root.joinpath("out", "alpha").exists()
    assert folders.run("update", "main.py", "--allow-deletes").returncode == 0
    assert not folders.root.joinpath("out", "alpha").exists()
