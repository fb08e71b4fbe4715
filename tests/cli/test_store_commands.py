"""``cocoindex ls``, ``show`` and ``drop`` on a store with state."""

from __future__ import annotations

import json
from typing import Any

import pytest

EXPLICIT = """
import pathlib
import cocoindex as coco

alpha = coco.Environment(coco.Settings(db_path=pathlib.Path("db_alpha")), name="alpha")

def app_main():
    pass

one = coco.App(coco.AppConfig("MyApp", environment=alpha), app_main)
"""


# --- ls ------------------------------------------------------------------------------------


def test_ls_marks_apps_that_never_ran_and_makes_no_store(folders: Any) -> None:
    done = folders.run("ls", "main.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "default (./store):\n  Folders [+]\n\nNotes:\n"
        "  [+]: Apps present in module, but not yet run (no persisted state).\n"
    )
    assert not folders.root.joinpath("store").exists()


def test_ls_lists_what_ran(read_only: Any) -> None:
    assert read_only.run("ls", "main.py").stdout == "default (./store):\n  Folders\n"
    done = read_only.run("ls", "main.py", "--json")
    assert json.loads(done.stdout) == {
        "environments": [
            {
                "name": "default",
                "db_path": "./store",
                "apps": [{"name": "Folders", "persisted": True}],
            }
        ]
    }


def test_ls_lists_explicit_environments_first(read_only: Any) -> None:
    read_only.write("more.py", EXPLICIT + "\nimport main\n")
    done = read_only.run("ls", "more.py")
    assert done.stdout.startswith(
        "alpha (./db_alpha):\n  MyApp [+]\n\ndefault (./store):\n  Folders\n\nNotes:\n"
    )


def test_ls_reads_a_store_without_a_program(read_only: Any) -> None:
    assert read_only.run("ls", "--db", "store").stdout == "./store:\n  Folders\n"
    assert read_only.run("ls", COCOINDEX_DB="store").stdout == "./store:\n  Folders\n"
    done = read_only.run("ls", "main.py", "--db", "store")
    assert done.stderr == "Warning: --db is ignored when APP_TARGET is specified.\n"


def test_ls_of_nothing_explains_itself(project: Any) -> None:
    project.write("main.py", "")
    assert project.run("ls", "main.py").stdout == "No apps are defined in 'main.py'.\n"
    done = project.run("ls", "--db", "nope")
    assert (done.returncode, done.stderr) == (1, "Error: Database path does not exist: nope\n")
    done = project.run("ls", "--db", ".")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Failed to open database: ")
    done = project.run("ls")
    assert done.returncode == 1
    assert "Please specify either APP_TARGET or --db option" in done.stderr


# --- show ----------------------------------------------------------------------------------


def test_show_lists_paths(read_only: Any) -> None:
    expected = 'Stable paths:\n  /\n  /"files"\n  /"files"/"a.txt"\n  /"files"/"b.txt"\n'
    assert read_only.run("show", "main.py").stdout == expected
    assert read_only.run("show", "--db", "store", "--app-name", "Folders").stdout == expected
    done = read_only.run("show", "main.py", "--depth", "1")
    assert done.stdout == 'Stable paths:\n  /\n  /"files"\n'
    done = read_only.run("show", "main.py", "--json")
    assert json.loads(done.stdout)[1] == {"path": '/"files"', "type": "directory"}


def test_show_draws_a_tree(read_only: Any) -> None:
    assert read_only.run("show", "main.py", "--tree").stdout == (
        "Stable paths:\n- / [component]\n  - files\n"
        "    - a.txt [component] states:1 memos:1\n    - b.txt [component] states:1 memos:1\n"
    )


def test_show_tells_the_details_of_one_path_however_it_is_written(read_only: Any) -> None:
    done = read_only.run("show", "main.py", '/"files"/"a.txt"')
    assert done.stdout == (
        '  /"files"/"a.txt"\n'
        "    type:component version:1 processor:process_file\n"
        "    has_memoization:true target_state_count:1\n"
        "    Target states:\n"
        '      - path:/@test/files/"a.txt"\n'
        "        states:1:Existing schema_version:0 generation:None\n\n"
    )
    assert read_only.run("show", "main.py", "/files/a.txt").stdout == done.stdout
    from_store = read_only.run("show", "--db", "store", "--app-name", "Folders", "/files/a.txt")
    assert from_store.stdout == done.stdout


def test_show_goes_down_and_up_from_a_path(read_only: Any) -> None:
    def heads(*args: str) -> list[str]:
        out = read_only.run("show", "main.py", *args).stdout
        return [line.strip() for line in out.splitlines() if line.startswith("  /")]

    assert heads("/files", "-r") == ['/"files"', '/"files"/"a.txt"', '/"files"/"b.txt"']
    assert heads("/files/a.txt", "-p") == ["/", '/"files"', '/"files"/"a.txt"']
    assert heads("/", "-r") == heads("-l")


def test_show_lists_target_states_with_owners(read_only: Any) -> None:
    assert read_only.run("show", "main.py", "--target-states").stdout == (
        'Target states:\n  /@test/files/"a.txt"\n    owner:/"files"/"a.txt"\n'
        '  /@test/files/"b.txt"\n    owner:/"files"/"b.txt"\n'
    )
    assert read_only.run("show", "main.py", "--target-states", "--tree").stdout == (
        'Target states:\n- @test/files\n  - "a.txt" owner:/"files"/"a.txt"\n'
        '  - "b.txt" owner:/"files"/"b.txt"\n'
    )
    done = read_only.run("show", "main.py", "--target-states", "--fingerprints")
    assert "a.txt" not in done.stdout.split("owner:")[0]


def test_show_of_an_unknown_path_names_the_nearest_one(read_only: Any) -> None:
    done = read_only.run("show", "main.py", "/files/x.txt")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: No such path: /files/x.txt. ")
    assert done.stderr.endswith('/"files"\n')


def test_show_of_an_unknown_app_lists_the_persisted_ones(read_only: Any) -> None:
    done = read_only.run("show", "--db", "store", "--app-name", "Folder")
    assert done.returncode == 1
    assert "Folders" in done.stderr


def test_show_of_nothing_says_none(folders: Any) -> None:
    for options in ((), ("-l",), ("--target-states", "--tree")):
        assert folders.run("show", "main.py", *options).stdout.endswith("  (none)\n")
    assert json.loads(folders.run("show", "main.py", "--json").stdout) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("main.py", "-r"), "-r/--recursive and -p/--parents require a stable_path argument."),
        (
            ("main.py", "/a", "--target-states"),
            "--target-states cannot be combined with stable_path, -l, -r or -p.",
        ),
        (("--db", "store"), "Both --db and --app-name are required"),
    ],
)
def test_show_refuses_options_that_do_not_fit(
    folders: Any, args: tuple[str, ...], message: str
) -> None:
    done = folders.run("show", *args)
    assert done.returncode == 1
    assert message in done.stderr


# --- drop ----------------------------------------------------------------------------------


@pytest.fixture
def updated(folders: Any) -> Any:
    assert folders.run("update", "main.py", "-q").returncode == 0
    return folders


def test_drop_removes_what_the_app_made(updated: Any) -> None:
    done = updated.run("drop", "main.py", answer="Yes\n")
    assert done.returncode == 0
    assert done.stdout.startswith(
        "Preparing to drop app 'Folders' from environment 'default' (db path: store)\n"
    )
    assert done.stdout.endswith(
        "Dropped app 'Folders' from environment 'default' and reverted its target states.\n"
    )
    assert "  @test/files: 2 target states\n" in done.stderr
    assert "Type 'yes' to drop app 'Folders' and all its target states: " in done.stderr
    assert list(updated.root.joinpath("out").iterdir()) == []
    done = updated.run("drop", "main.py")
    assert done.returncode == 0
    assert done.stdout.endswith("App 'Folders' has no persisted state. Nothing to drop.\n")


def test_drop_asks_first(updated: Any) -> None:
    done = updated.run("drop", "main.py", answer="y\n")
    assert (done.returncode, updated.read("out/a.txt")) == (0, "ALPHA")
    assert done.stdout.endswith("Drop operation aborted.\n")
    assert updated.run("drop", "main.py").returncode == 1


def test_drop_can_be_silent(updated: Any) -> None:
    done = updated.run("drop", "main.py", "-f", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_drop_that_fails_says_what_is_left_and_a_second_one_goes_on(updated: Any) -> None:
    updated.write("locked", "")
    done = updated.run("drop", "main.py", "-f")
    assert done.returncode == 1
    assert "PermissionError" in done.stderr
    assert "  @test/files: 2 target states" in done.stderr
    updated.root.joinpath("locked").unlink()
    assert updated.run("drop", "main.py", "-f").returncode == 0
    assert updated.run("ls", "--db", "store").stdout == (
        "No persisted apps found in the database.\n"
    )


def test_state_of_an_app_without_program_can_be_forgotten(updated: Any) -> None:
    args = ("drop", "--db", "store", "--app-name", "Folders", "--state-only")
    done = updated.run(*args, answer="yes\n")
    assert done.stdout == "Drop operation aborted.\n"
    done = updated.run(*args, answer="Folders\n")
    assert done.returncode == 0
    assert updated.read("out/a.txt") == "ALPHA"
    assert updated.run("ls", "--db", "store").stdout == (
        "No persisted apps found in the database.\n"
    )
    assert updated.run(*args).returncode == 1


def test_forgetting_needs_all_three_options(updated: Any) -> None:
    assert updated.run("drop", "--db", "store", "--app-name", "Folders").returncode == 2
    assert updated.run("drop").returncode == 2


EACH = """
import pathlib
import cocoindex as coco

@coco.lifespan
def lifespan(builder):
    builder.settings.db_path = pathlib.Path("store")
    yield

@coco.fn
async def process(number):
    pass

async def app_main():
    await coco.mount_each(process, [("a.txt", 1), (2, 2)])

app = coco.App("Each", app_main)
"""


def test_show_finds_what_mount_each_made_without_the_sign_of_a_symbol(project: Any) -> None:
    project.write("each.py", EACH)
    assert project.run("update", "each.py", "-q").returncode == 0
    for written in ("/process/a.txt", "process/a.txt", '/@process/"a.txt"'):
        assert '/@process/"a.txt"\n' in project.run("show", "each.py", written).stdout
    assert "/@process/2\n" in project.run("show", "each.py", "/process/2").stdout
    done = project.run("show", "each.py", "/process/b.txt")
    assert done.stderr == (
        "Error: No such path: /process/b.txt. The nearest stored ancestor is /@process\n"
    )
