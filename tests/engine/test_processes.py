"""Several processes on one store, kills, forks: §E21, §E4.8, §E2.1."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HOLDER = """
    import asyncio, sys, json, datetime
    import cocoindex as coco
    from cocoindex.testing.targets import MemoryTarget

    table = MemoryTarget("processes", record=str)
    options = json.loads(sys.argv[1])

    async def main():
        print("body", flush=True)
        if options.get("hold"):
            await asyncio.to_thread(sys.stdin.readline)
        table.declare("k", 1)

    wait = options.get("wait")
    config = {"lease_wait": datetime.timedelta(seconds=wait)} if wait else {}
    env = coco.Environment(coco.Settings(db_path="store"))
    app = coco.App(coco.AppConfig(options.get("app", "app"), env, **config), main)
    try:
        if options.get("inspect"):
            from cocoindex import inspect
            print(len(inspect.list_stable_paths_sync(app)))
        elif options.get("preview"):
            print(app.update_blocking(preview=True))
        else:
            app.update_blocking()
            print("done", flush=True)
    except RuntimeError as error:
        print("refused:", error)
"""


@pytest.fixture
def holder(script, tmp_path):
    """A process that is in the middle of an update; ``finish()`` lets it end."""
    (tmp_path / "holder.py").write_text(__import__("textwrap").dedent(HOLDER))
    process = subprocess.Popen(
        [sys.executable, "holder.py", '{"hold": true}'],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "body\n"
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def run(script, **options):
    return script(HOLDER, json.dumps(options), name="other.py").stdout


def test_a_second_update_of_the_app_is_refused_before_any_body(script, holder, tmp_path):
    output = run(script)
    assert "body" not in output
    assert output.startswith("refused:")
    for word in ("app", str(tmp_path / "store"), str(holder.pid)):
        assert word in output
    assert holder.communicate("\n")[0] == "done\n"


def test_another_app_in_the_same_store_may_run(script, holder):
    assert run(script, app="other").endswith("done\n")


def test_inspection_and_preview_need_no_lease(script, holder):
    assert run(script, inspect=True).strip().isdigit()
    assert "put" in run(script, preview=True)


def test_the_lease_of_a_dead_process_is_broken(script, holder):
    holder.kill()
    holder.wait()
    assert run(script) == "body\ndone\n"


def test_lease_wait_waits_for_the_holder(script, holder, tmp_path):
    (tmp_path / "other.py").write_text((tmp_path / "holder.py").read_text())
    waiting = subprocess.Popen(
        [sys.executable, "other.py", '{"wait": 30}'],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    holder.communicate("\n")
    assert waiting.communicate(timeout=60)[0] == "body\ndone\n"


MISSING_ROOT = """
    import sys
    import cocoindex as coco
    from cocoindex.testing.targets import MemoryTarget

    mode = sys.argv[1]
    table = MemoryTarget("late", record=str) if mode != "without" else None

    def main():
        if mode == "declare":
            table.declare("k", 1)

    env = coco.Environment(coco.Settings(db_path="store"))
    app = coco.App(coco.AppConfig("app", env), main)
    try:
        app.drop_blocking() if "drop" in sys.argv else app.update_blocking()
    except Exception as error:
        print(type(error).__name__, error)
    print(table and [tuple(action) for action in table.actions])
"""


class TestMissingRootProvider:
    def test_its_items_are_kept_with_a_warning_until_it_is_back(self, script):
        script(MISSING_ROOT, "declare")
        done = script(MISSING_ROOT, "without")
        assert "late" in done.stderr
        assert script(MISSING_ROOT, "with").stdout == "[('delete', 'k', None)]\n"
        assert script(MISSING_ROOT, "with").stdout == "[]\n"

    def test_drop_raises_and_names_it(self, script):
        script(MISSING_ROOT, "declare")
        assert "late" in script(MISSING_ROOT, "without", "drop").stdout
        assert script(MISSING_ROOT, "with", "drop").stdout == "[('delete', 'k', None)]\n"


KILLED = """
    import json, os, pathlib, sys
    import cocoindex as coco
    from cocoindex.testing.targets import MemoryTarget

    outside = pathlib.Path("outside.json")
    table = MemoryTarget("killed", record=lambda v: v)
    if outside.exists():
        table.rows.update(json.loads(outside.read_text()))
    plan = json.loads(sys.argv[1])
    ran = []

    def dies(where):
        if plan.get("dies") == where:
            outside.write_text(json.dumps(table.rows))
            os._exit(9)

    @coco.fn(memo=True)
    async def child(key: str, value: str) -> None:
        ran.append(key)
        table.declare(key, value)
        dies("body " + key)

    async def main():
        for key, value in plan["declare"].items():
            await coco.mount(coco.component_subpath(key), child, key, value)
        dies("root")

    env = coco.Environment(coco.Settings(db_path="store"))
    app = coco.App(coco.AppConfig("app", env), main)
    with (
        table.injected("before", lambda: dies("before sink")),
        table.injected("after", lambda: dies("after sink")),
    ):
        app.update_blocking()
    outside.write_text(json.dumps(table.rows))
    print(json.dumps({"rows": table.rows, "ran": sorted(ran), "actions": len(table.actions)}))
"""


@pytest.mark.parametrize("dies", ["body a", "root", "before sink", "after sink"])
def test_a_killed_update_converges_without_leaving_anything_behind(script, dies):
    def run(declare, dies=None):
        plan = {"declare": declare, "dies": dies}
        output = script(KILLED, json.dumps(plan), exit_code=9 if dies else 0).stdout
        return json.loads(output) if output else None

    run({"a": "1", "gone": "1"})
    run({"a": "2", "b": "2"}, dies)

    final = {"a": "1", "c": "3"}
    assert run(final)["rows"] == final
    assert run(final) == {"rows": final, "ran": [], "actions": 0}


FORKED = """
    import os, signal
    import cocoindex as coco
    from cocoindex.testing.targets import MemoryTarget

    table = MemoryTarget("forked", record=str)
    env = coco.Environment(coco.Settings(db_path="store"))
    app = coco.App(coco.AppConfig("app", env), lambda: table.declare("k", 1))
    app.update_blocking()
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)  # a child that hangs must not outlive the test
        try:
            app.update_blocking()
        except RuntimeError as error:
            os._exit(7 if "opened in another process" in str(error) else 8)
        os._exit(9)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    app.update_blocking()
    print(len(table.actions))
"""


def test_a_forked_process_must_not_use_the_environment(script):
    assert script(FORKED).stdout == "7\n1\n"


def test_nothing_is_printed_and_nothing_hangs_at_exit(script):
    done = script(
        """
        import cocoindex as coco

        async def child():
            pass

        async def main():
            await coco.mount(coco.component_subpath("a"), child)

        env = coco.Environment(coco.Settings(db_path="store"))
        coco.App(coco.AppConfig("app", env), main).update_blocking()
        """
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_a_pending_update_does_not_keep_the_interpreter_alive(script):
    done = script(
        """
        import asyncio, threading
        import cocoindex as coco

        started = threading.Event()

        async def main():
            started.set()
            await asyncio.Event().wait()

        env = coco.Environment(coco.Settings(db_path="store"))
        app = coco.App(coco.AppConfig("app", env), main)
        threading.Thread(target=app.update_blocking, daemon=True).start()
        started.wait()
        """
    )
    assert "Traceback" not in done.stderr
