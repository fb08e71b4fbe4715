"""SQL commands and the end of their table; other people's settings of the database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, make_dataclass

import pytest

from cocoindex.errors import TargetError


@dataclass
class Doc:
    id: int
    text: str


DOCS = [Doc(1, "a"), Doc(2, "b"), Doc(3, "c")]


async def nothing():
    pass


def with_view(world, sql, *, each=False, **options):
    def attach(target):
        target.declare_sql_command_attachment(
            name="v", setup_sql=f"CREATE VIEW v AS {sql}", teardown_sql="DROP VIEW v"
        )

    return world.table(DOCS, Doc, each=each, attach=attach, **options)


async def names(world):
    rows = await world.fetch("SELECT relname FROM pg_class WHERE relname IN ('docs', 'v')")
    return {name for (name,) in rows}


@pytest.mark.parametrize("each", [False, True], ids=["together", "each"])
@pytest.mark.parametrize("sql", ["SELECT id FROM docs", "SELECT 1"])
@pytest.mark.parametrize("drop", [False, True], ids=["undeclared", "dropped"])
async def test_commands_are_undone_before_their_table_goes(world, sql, drop, each):
    program = with_view(world, sql, each=each)
    await world.update(program)
    assert await names(world) == {"docs", "v"}
    await world.update(program if drop else nothing, drop=drop)
    assert await names(world) == set()


async def test_an_undeclared_table_costs_no_statement_about_rows(world):
    await world.update(world.table(DOCS, Doc, each=True))
    await world.update(nothing)
    assert await names(world) == set()
    assert not [s for s in world.statements if "DELETE" in s.upper()]


@pytest.mark.parametrize("each", [False, True], ids=["together", "each"])
async def test_a_rebuild_undoes_commands_and_runs_them_again(world, each):
    await world.update(with_view(world, "SELECT id FROM docs", each=each))
    await world.update(with_view(world, "SELECT id FROM docs", each=each, key=("id", "text")))
    assert await names(world) == {"docs", "v"}
    assert len(await world.fetch("SELECT id FROM v")) == 3


async def test_a_rebuild_under_a_view_of_others_says_what_to_do(world):
    """And the commands' own views stay as well, until it can be done."""
    await world.update(with_view(world, "SELECT id FROM docs"))
    await world.execute("CREATE VIEW theirs AS SELECT id FROM docs")
    changed = {"key": ("id", "text")}
    with pytest.raises(TargetError, match=r"view theirs.*declare the table with cascade=True"):
        await world.update(with_view(world, "SELECT id FROM docs", **changed))
    assert await names(world) == {"docs", "v"}
    await world.update(with_view(world, "SELECT id FROM docs", **changed, cascade=True))
    assert await names(world) == {"docs", "v"}
    assert len(await world.fetch("SELECT id FROM v")) == 3


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_the_isolation_level_of_the_database_does_not_matter(world, level, tmp_path):
    name = await world.value("SELECT current_database()")
    await world.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{level}'")
    other = type(world)(world.url, tmp_path / "other")
    mine, theirs = [Doc(1, "a")], [Doc(2, "b")]
    await asyncio.gather(
        world.update(world.table(mine, Doc)), other.update(other.table(theirs, Doc))
    )
    rows = await world.fetch("SELECT id FROM docs ORDER BY id")
    assert rows == [(1,), (2,)]


async def test_a_user_s_table_needs_a_key_or_a_unique_index(world):
    await world.execute("CREATE TABLE docs (id bigint NOT NULL, text text NOT NULL)")
    program = world.table(DOCS, Doc, managed_by="user")
    with pytest.raises(TargetError, match=r"primary key \(id\): it has none"):
        await world.update(program)
    await world.execute("CREATE UNIQUE INDEX part ON docs (id) WHERE id > 0")
    with pytest.raises(TargetError, match=r"primary key \(id\): it has none"):
        await world.update(program)
    await world.execute("CREATE UNIQUE INDEX whole ON docs (id)")
    await world.update(program)
    assert len(await world.fetch("SELECT 1 FROM docs")) == 3


async def test_a_command_without_teardown_is_run_again_only_if_it_is_undone(world):
    def attach(target):
        target.declare_sql_command_attachment(name="ix", setup_sql="CREATE INDEX v ON docs (text)")

    program = world.table(DOCS, Doc, attach=attach)
    await world.update(program)
    await world.update(program, full_reprocess=True)
    wider = make_dataclass("Wider", [("id", int), ("text", str), ("n", int)])
    program = world.table([wider(1, "a", 1)], wider, attach=attach)
    await world.update(program)
    await world.execute("DROP INDEX v")
    await world.update(program, full_reprocess=True)
    assert await names(world) == {"docs", "v"}


async def test_a_new_command_that_finds_its_work_done_is_an_error(world):
    def attach(target):
        target.declare_sql_command_attachment(name="ix", setup_sql="CREATE VIEW v AS SELECT 1")

    await world.execute("CREATE VIEW v AS SELECT 2")
    with pytest.raises(TargetError, match="already exists"):
        await world.update(world.table(DOCS, Doc, attach=attach))


@pytest.mark.parametrize("command", ["changed", "removed", "the same"])
@pytest.mark.parametrize("change", ["dropped", "retyped"])
async def test_a_column_changes_under_a_command_s_view(world, change, command):
    before = make_dataclass("Before", [("id", int), ("text", str)])
    fields = [("id", int)] if change == "dropped" else [("id", int), ("text", list[int])]
    after = make_dataclass("After", fields)
    rows = [after(1) if change == "dropped" else after(1, [1])]

    def attach(view):
        return lambda target: target.declare_sql_command_attachment(
            name="v", setup_sql=f"CREATE VIEW v AS {view}", teardown_sql="DROP VIEW v"
        )

    # The whole row: a view that a column may leave or change below.
    views = {"changed": "SELECT id FROM docs", "the same": "SELECT to_jsonb(docs) FROM docs"}
    used = attach(views.get(command, "SELECT id, text FROM docs"))
    if command == "changed":
        used = attach("SELECT id, text FROM docs")
    await world.update(world.table([before(1, "a")], before, attach=used))
    now = None if command == "removed" else attach(views[command])
    await world.update(world.table(rows, after, attach=now))
    assert (await names(world)) == ({"docs"} if command == "removed" else {"docs", "v"})
    assert ("text" in await world.columns()) == (change == "retyped")


async def test_commands_that_no_transaction_takes_back_are_not_undone_for_a_change(world):
    before = make_dataclass("Before", [("id", int), ("text", str)])
    after = make_dataclass("After", [("id", int)])

    def attach(view):
        return lambda target: target.declare_sql_command_attachment(
            name="v",
            setup_sql=f"CREATE VIEW v AS {view}",
            teardown_sql="DROP VIEW v",
            autocommit=True,
        )

    used = attach("SELECT id, text FROM docs")
    await world.update(world.table([before(1, "a")], before, attach=used))
    now = attach("SELECT id FROM docs")
    with pytest.raises(TargetError, match="declare the table with cascade=True"):
        await world.update(world.table([after(1)], after, attach=now))
    assert await names(world) == {"docs", "v"}
    await world.update(world.table([after(1)], after, attach=now, cascade=True))
    assert await world.fetch("SELECT * FROM v") == [(1,)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"'C:\'", "C:\\"),
        (r"E'it\'s; \\'", r"it's; " + "\\"),
        ("'it''s;'", "it's;"),
        ("$x$;'$x$", ";'"),
        (r"U&'\0061;'", "a;"),
    ],
)
async def test_a_semicolon_in_a_text_ends_no_command(world, text, found):
    """In plain texts a backslash is one, as the standard has it."""

    def attach(target):
        target.declare_sql_command_attachment(
            name="log",
            setup_sql=f"CREATE TABLE log (a text); INSERT INTO log VALUES ({text}); "
            "CREATE INDEX CONCURRENTLY by_a ON log (a)",
            teardown_sql="DROP TABLE log",
            autocommit=True,
        )

    await world.update(world.table(DOCS, Doc, attach=attach))
    assert await world.fetch("SELECT a FROM log") == [(found,)]
    assert await world.value("SELECT to_regclass('by_a')::text") == "by_a"
