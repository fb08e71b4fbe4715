"""Secrets planted in context values, arguments and contents must not turn up anywhere: §B12."""

from __future__ import annotations

import dataclasses
import logging
import traceback
from pathlib import Path

import pytest

import cocoindex as coco
from cocoindex import inspect
from cocoindex.connectors import localfs, sqlite
from cocoindex.errors import TargetError
from cocoindex.testing.targets import MemoryTarget

PLANTED = "c4n4ry"
VISIBLE = "a record of the user, to be found in the store"
DSN = coco.ContextKey[str]("security/dsn")
DB = coco.ContextKey[sqlite.ManagedConnection]("security/db")
WATCHED = coco.ContextKey[str]("security/watched", detect_change=True)
MODEL = f"{PLANTED}-constant"


@dataclasses.dataclass(frozen=True)
class Login:
    user: str
    password: str


class Opaque:
    """Can't be fingerprinted, and tells too much when asked."""

    __slots__ = ("socket",)

    def __init__(self):
        self.socket = object()

    def __repr__(self):
        return f"Opaque({PLANTED}-repr)"

    def __reduce__(self):
        raise TypeError("no")


@coco.fn(memo=True)
async def answer(question: str, *, token: bytes, login: Login) -> int:
    coco.use_context(DSN)
    coco.use_context(WATCHED)
    return len(question) + len(token) + len(login.password) + len(MODEL)


def asking(prompt):
    @coco.fn(memo=True)
    async def ask(extra: str = f"{PLANTED}-default") -> int:
        return len(prompt) + len(extra)

    return ask


@coco.fn(memo=True)
async def component(table, key: str, secret: str, options: dict[str, str]) -> int:
    await answer(secret, token=f"{PLANTED}-token".encode(), login=Login("me", f"{PLANTED}-pw"))
    table.declare(key, await asking(f"{PLANTED}-closure")())
    return len(options)


@pytest.fixture
def planted(sandbox, caplog):
    caplog.set_level(logging.DEBUG)
    sandbox.env.context_provider.provide(DSN, f"postgresql://me:{PLANTED}-dsn@host/db")
    sandbox.env.context_provider.provide(WATCHED, f"{PLANTED}-watched")
    (sandbox.source / "file").write_text(f"{PLANTED}-file")
    return sandbox


async def build(sandbox, table):
    await coco.use_mount(
        coco.component_subpath("c"), component, table, "k",
        f"{PLANTED}-argument", {"pw": f"{PLANTED}-option"},
    )  # fmt: skip
    target = await localfs.mount_dir_target(localfs.FilePath("inner", base_dir=sandbox.target_key))
    async for key, file in localfs.walk_dir(sandbox.source_key).items():
        target.declare_file(key, await file.read())
    target.declare_file("made", f"{PLANTED}-content")


def check_clean(*texts):
    for text in texts:
        data = text if isinstance(text, bytes) else str(text).encode()
        at = data.find(PLANTED.encode())
        assert at < 0, data[max(0, at - 60) : at + 60]


def check_store(store: Path):
    files = [path for path in store.rglob("*") if path.is_file()]
    assert files
    check_clean(*(path.read_bytes() for path in files))


def error_text(error):
    return "".join(traceback.format_exception_only(error))


async def test_nothing_planted_is_stored_logged_or_shown(planted, db_path, caplog):
    table = MemoryTarget(record=lambda value: value)

    async def body():
        await build(planted, table)
        table.declare("record", VISIBLE)

    planted._body = body
    plan = await planted.app.update(preview=True)
    await planted.app.update()
    await planted.app.update()
    assert (planted.target / "inner/made").read_text() == f"{PLANTED}-content"
    check_store(db_path)
    assert any(VISIBLE.encode() in path.read_bytes() for path in db_path.rglob("*.lmdb"))
    check_clean(caplog.text, repr(plan), str(plan))
    details = [detail async for detail in inspect.iter_stable_path_details(planted.app)]
    states = [entry async for entry in inspect.iter_target_states(planted.app)]
    assert details
    assert states
    check_clean(repr(details), repr(states))


@coco.fn(memo=True)
async def takes(value: object) -> int:
    return 1


async def fails(secret: str) -> None:
    raise RuntimeError("failed")


async def test_errors_of_the_product_name_what_is_wrong_without_its_value(planted, db_path, caplog):
    secret = f"{PLANTED}-argument"

    async def not_keyable():
        await takes([secret, Opaque()])

    async def failing():
        await coco.mount(coco.component_subpath("f"), fails, secret)
        await coco.use_mount(coco.component_subpath("g"), fails, secret)

    async def twice():
        target = await localfs.mount_dir_target(planted.target_key)
        target.declare_file("x", f"{PLANTED}-1")
        target.declare_file("x", f"{PLANTED}-2")

    async def in_the_way():
        target = await localfs.mount_dir_target(planted.target_key)
        target.declare_file("folder", f"{PLANTED}-3")

    async def wrong_kind():
        target = await localfs.mount_dir_target(planted.target_key)
        target.declare_file("x", {"password": f"{PLANTED}-4"})

    (planted.target / "folder").mkdir(parents=True)
    for body in (not_keyable, failing, twice, in_the_way, wrong_kind):
        with pytest.raises(Exception) as failed:
            await planted.run(body)
        check_clean(error_text(failed.value))
    check_store(db_path)
    check_clean("\n".join(record.getMessage() for record in caplog.records))


async def test_rows_of_a_table_are_nowhere_but_in_the_table(planted, db_path, caplog, tmp_path):
    with sqlite.managed_connection(tmp_path / "rows.sqlite") as database:
        planted.env.context_provider.provide(DB, database)
        with database.transaction() as db:
            db.execute("CREATE TABLE strict (user PRIMARY KEY, password CHECK (password = ''))")

        async def body():
            schema = await sqlite.TableSchema.from_class(Login, ["user"])
            logins = await sqlite.mount_table_target(DB, "logins", schema)
            logins.declare_row(row=Login("me", f"{PLANTED}-row"))

        async def refused():
            await body()
            schema = await sqlite.TableSchema.from_class(Login, ["user"])
            strict = await sqlite.mount_table_target(DB, "strict", schema, managed_by="user")
            strict.declare_row(row=Login("me", f"{PLANTED}-refused"))

        planted._body = body
        plan = await planted.app.update(preview=True)
        await planted.app.update()
        with pytest.raises(TargetError) as failed:
            await planted.run(refused)
        with database.readonly() as db:
            assert db.execute("SELECT password FROM logins").fetchall() == [(f"{PLANTED}-row",)]
        details = [detail async for detail in inspect.iter_stable_path_details(planted.app)]
    assert plan
    check_store(db_path)
    check_clean(caplog.text, repr(plan), str(plan), repr(details), error_text(failed.value))
