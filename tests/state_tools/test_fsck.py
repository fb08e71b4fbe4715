"""Every invariant of the store is checked, and what can be mended safely is mended."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import cocoindex as coco
from cocoindex.core.keys import encode_key
from cocoindex.engine import rows
from cocoindex.engine.fsck import Finding, Severity, check_section, repair_section
from cocoindex.engine.rows import Node, NodeKind
from cocoindex.state.base import Section
from cocoindex.testing import fsck
from cocoindex.testing.targets import InjectedFailure, MemoryTarget

UNKNOWN_ID = 3000
Damage = Callable[[Section], None]


def violations(section: Section) -> list[Finding]:
    with section.snapshot() as snapshot:
        return [finding for finding in check_section(snapshot) if finding.is_violation]


def only(section: Section, tag: bytes, index: int = 0) -> tuple[bytes, bytes]:
    return section.scan(tag)[index]


def node_rows(section: Section, kind: NodeKind, *, parents: bool = False) -> list[Any]:
    """Existence rows of one kind below the root, with or without children."""
    found = [(key, rows.decode_node(value)) for key, value in section.scan(b"E")]
    return [
        (key, node)
        for key, node in found
        if node.kind == kind and node.has_children is parents and node.id != rows.ROOT_ID
    ]


def tracked(section: Section, **wanted: bool) -> tuple[bytes, rows.TrackingRow]:
    """A tracking row with items."""
    for key, value in section.scan(b"K"):
        row = rows.decode_tracking(value)
        if row.groups and all(getattr(row, name) is flag for name, flag in wanted.items()):
            return key, row
    raise AssertionError("no such component")


def lower(name: str) -> Damage:
    def damage(section: Section) -> None:
        section.write([(rows.counter_key(name), rows.pack_id(1))])

    return damage


# --- damages, each with the invariant that it violates --------------------------------------------


def lose_an_owner_row(section: Section) -> None:
    section.write([(only(section, b"O")[0], None)])


def plant_an_owner_row(section: Section) -> None:
    owner = only(section, b"O")[1]
    section.write([(b"O" + bytes(16), owner), (b"O" + bytes(32), rows.pack_id(UNKNOWN_ID))])


def give_an_item_to_another(section: Section) -> None:
    key, owner = only(section, b"O")
    others = {value for _, value in section.scan(b"O")} - {owner}
    section.write([(key, min(others))])


def track_an_item_twice(section: Section) -> None:
    key, row = tracked(section)
    other = next(k for k, v in section.scan(b"K") if k != key and rows.decode_tracking(v).groups)
    copy = rows.decode_tracking(section.get(other) or b"")
    copy.groups += row.groups
    section.write([(other, rows.encode(copy))])


def lose_an_existence_row(section: Section) -> None:
    key, _ = node_rows(section, NodeKind.COMPONENT)[0]
    section.write([(key, None)])


def lose_the_row_of_a_directory(section: Section) -> None:
    key, _ = node_rows(section, NodeKind.DIRECTORY, parents=True)[0]
    section.write([(key, None)])


def lose_the_root(section: Section) -> None:
    section.write([(rows.existence_key(rows.ROOT_PARENT_ID, b""), None)])


def lose_a_directory_altogether(section: Section) -> None:
    key, node = node_rows(section, NodeKind.DIRECTORY, parents=True)[0]
    section.write([(key, None), (rows.node_key(node.id), None)])


def lose_a_name(section: Section) -> None:
    _, node = node_rows(section, NodeKind.DIRECTORY, parents=True)[0]
    section.write([(rows.node_key(node.id), None)])


def forget_that_there_are_children(section: Section) -> None:
    key, node = node_rows(section, NodeKind.DIRECTORY, parents=True)[0]
    section.write([(key, Node(node.kind, node.id).encode())])


def leave_a_name_behind(section: Section) -> None:
    section.write([(rows.node_key(UNKNOWN_ID), rows.pack_id(rows.ROOT_ID) + encode_key("x"))])


def misname_a_directory(section: Section) -> None:
    _, node = node_rows(section, NodeKind.DIRECTORY, parents=True)[0]
    section.write([(rows.node_key(node.id), rows.pack_id(rows.ROOT_ID) + encode_key("x"))])


def misplace_a_component(section: Section) -> None:
    key, row = tracked(section)
    row.key = encode_key("elsewhere")
    section.write([(key, rows.encode(row))])


def kill_without_tombstone(section: Section) -> None:
    key, node = node_rows(section, NodeKind.COMPONENT)[0]
    section.write([(key, Node(NodeKind.DEAD_COMPONENT, node.id).encode())])


def demote_without_tombstone(section: Section) -> None:
    key, node = node_rows(section, NodeKind.COMPONENT)[0]
    section.write([(key, Node(NodeKind.DIRECTORY, node.id).encode())])


def kill_a_directory_with_life_below(section: Section) -> None:
    key, node = node_rows(section, NodeKind.DIRECTORY, parents=True)[0]
    section.write([(key, Node(NodeKind.DEAD_DIRECTORY, node.id, True).encode())])


def forget_memos(section: Section) -> None:
    key, row = tracked(section, has_memos=True)
    row.has_memos = False
    section.write([(key, rows.encode(row))])


def forget_state(section: Section) -> None:
    key, row = tracked(section, has_state=True)
    row.has_state = False
    section.write([(key, rows.encode(row))])


def forget_the_memo(section: Section) -> None:
    key, row = tracked(section, is_memoized=True)
    row.is_memoized = False
    section.write([(key, rows.encode(row))])


def unsettle_below_a_memo(section: Section) -> None:
    key, row = tracked(section, is_memoized=True)
    key_of_item, record = row.groups[0].settled.popitem()
    row.groups[0].unsure[key_of_item] = record
    section.write([(key, rows.encode(row))])


def plant_records_of_nobody(section: Section) -> None:
    memo, function, state = (only(section, tag) for tag in (b"C", b"F", b"U"))
    section.write(
        [
            (rows.component_memo_key(UNKNOWN_ID), memo[1]),
            (rows.function_memo_prefix(UNKNOWN_ID) + function[0][-16:], function[1]),
            (rows.user_state_prefix(UNKNOWN_ID) + state[0][9:], state[1]),
        ]
    )


def lower_the_sequence(section: Section) -> None:
    section.write([(only(section, b"Q")[0], rows.pack_id(1))])


def garble(tag: bytes, index: int = 0) -> Damage:
    def damage(section: Section) -> None:
        section.write([(only(section, tag, index)[0], b"\xc1bad")])

    return damage


def plant_odd_keys(section: Section) -> None:
    section.write([(b"L", b""), (b"F" + bytes(3), b""), (b"O123", b"")])


MENDED = [
    (lose_an_owner_row, "I2"),
    (plant_an_owner_row, "I2"),
    (give_an_item_to_another, "I2"),
    (track_an_item_twice, "I2"),
    (lose_an_existence_row, "I6"),
    (lose_the_row_of_a_directory, "I1"),
    (lose_the_root, "I1"),
    (lose_a_directory_altogether, "I1"),
    (lose_a_name, "I1"),
    (forget_that_there_are_children, "I1"),
    (leave_a_name_behind, "I1"),
    (misname_a_directory, "I1"),
    (misplace_a_component, "I1"),
    (kill_without_tombstone, "I6"),
    (demote_without_tombstone, "I6"),
    (kill_a_directory_with_life_below, "I6"),
    (forget_memos, "I6"),
    (forget_state, "I6"),
    (forget_the_memo, "I4"),
    (unsettle_below_a_memo, "I4"),
    (plant_records_of_nobody, "I1"),
    (lower("node"), "I5"),
    (lower("provider"), "I5"),
    (lower_the_sequence, "I5"),
    (garble(b"E", 2), "rows"),
    (garble(b"C"), "rows"),
    (garble(b"F"), "rows"),
    (garble(b"O"), "rows"),
    (garble(b"M"), "rows"),
    (garble(b"Q"), "rows"),
    (plant_odd_keys, "rows"),
]


@pytest.mark.parametrize(
    ("damage", "invariant"), MENDED, ids=[f"{d.__name__}-{i}" for i, d in enumerate(dict(MENDED))]
)
async def test_damage_is_found_and_mended(rich: Any, damage: Damage, invariant: str) -> None:
    owned = rich.owned()
    damage(rich.section)

    found = violations(rich.section)
    assert invariant in {finding.invariant for finding in found}
    assert all(finding.where and finding.problem for finding in found)

    report = repair_section(rich.section)
    assert report.left == []
    assert report.repaired_count >= 1
    assert all(finding.remedy for finding in report.repaired)
    assert violations(rich.section) == []

    # The next update puts the rest in order, and nothing that existed is forgotten.
    await rich.update()
    assert fsck(rich.store, "golden") == []
    assert rich.owned() == owned
    rich.program.BODIES.clear()
    await rich.update()
    assert rich.program.BODIES == []


def plant_a_second_user_of_an_id(section: Section) -> None:
    key, node = node_rows(section, NodeKind.COMPONENT)[0]
    section.write([(key[:9] + encode_key("twin"), node.encode())])


def make_a_circle_of_names(section: Section) -> None:
    nodes = [node for _, node in node_rows(section, NodeKind.DIRECTORY, parents=True)][:2]
    for node, other in (nodes, nodes[::-1]):
        section.write([(rows.node_key(node.id), rows.pack_id(other.id) + encode_key("x"))])


def plant_an_unknown_table(section: Section) -> None:
    section.write([(b"Z1", b""), (b"Z2", b""), (b"\xff", b"")])


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        (plant_a_second_user_of_an_id, "I5"),
        (plant_an_unknown_table, "rows"),
        (garble(b"K"), "rows"),
    ],
)
def test_what_can_not_be_mended_is_left_alone(rich: Any, damage: Damage, invariant: str) -> None:
    damage(rich.section)
    report = repair_section(rich.section)
    assert invariant in {finding.invariant for finding in report.left}
    assert {finding.invariant for finding in violations(rich.section)} == {
        finding.invariant for finding in report.left
    }


def test_a_circle_of_names_ends_the_walk(rich: Any) -> None:
    make_a_circle_of_names(rich.section)
    assert {finding.invariant for finding in violations(rich.section)} == {"I1"}
    assert repair_section(rich.section).left == []


class TestTombstones:
    async def test_a_lost_one_is_made_again(self, rich: Any) -> None:
        rich.other.write([(only(rich.other, b"T")[0], None)])
        assert [f.invariant for f in violations(rich.other)] == ["I6"]
        repair_section(rich.other)
        await rich.update("interrupted")
        assert fsck(rich.store, "interrupted") == []
        assert len(rich.other.scan(b"O")) == 1

    async def test_one_that_nobody_would_sweep_is_moved(self, rich: Any) -> None:
        key, value = only(rich.other, b"T")
        dead = rows.unpack_id(key)
        rich.other.write([(key, None), (rows.tombstone_key(UNKNOWN_ID, dead), value)])
        assert [f.invariant for f in violations(rich.other)] == ["I6"]
        repair_section(rich.other)
        await rich.update("interrupted")
        assert fsck(rich.store, "interrupted") == []

    async def test_one_of_another_place_is_moved(self, rich: Any) -> None:
        key, value = only(rich.other, b"T")
        row = rows.decode_tombstone(value)
        row.key = encode_key("a")
        rich.other.write([(key, rows.encode(row))])
        assert [f.invariant for f in violations(rich.other)] == ["I6"]
        repair_section(rich.other)
        await rich.update("interrupted")
        assert fsck(rich.store, "interrupted") == []

    async def test_a_failed_drop_leaves_none_once_the_app_is_used_again(self, rich: Any) -> None:
        env = rich.environment()
        app = rich.build.coco.App(
            rich.build.coco.AppConfig(name="interrupted", environment=env),
            rich.program.interrupted,
            ("a",),
        )
        with rich.program.ROWS.failing(), pytest.raises(InjectedFailure):
            await app.drop()
        assert fsck(env, "interrupted") != []
        await app.update()
        assert fsck(env, "interrupted") == []


def test_unfinished_work_is_no_violation_and_not_repaired(rich: Any) -> None:
    found = fsck(rich.store, "interrupted")
    assert [(f.invariant, f.severity) for f in found] == [
        ("I6", Severity.UNFINISHED),
        ("I3", Severity.UNFINISHED),
    ]
    before = rich.other.scan(b"")
    assert repair_section(rich.other).repaired_count == 0
    assert rich.other.scan(b"") == before


def test_an_app_that_never_ran_has_nothing_to_find(rich: Any) -> None:
    assert fsck(rich.store, "never") == []


@pytest.mark.parametrize("size", [1, 5])
def test_dangling_owners_are_found_piece_by_piece(rich: Any, monkeypatch: Any, size: int) -> None:
    plant_an_owner_row(rich.section)
    wanted = {finding.where for finding in violations(rich.section)}
    monkeypatch.setattr("cocoindex.engine.fsck.records._PARTITION", size)
    found = [finding.where for finding in violations(rich.section)]
    assert sorted(found) == sorted(wanted)
    assert len(found) == 2


def test_findings_name_components_and_target_states(rich: Any) -> None:
    lose_an_owner_row(rich.section)
    (finding,) = violations(rich.section)
    assert finding.where.startswith("/@golden/")
    assert 'tracked by /"' in finding.problem
    assert str(finding) == f"I2 {finding.where}: {finding.problem}"


@pytest.mark.parametrize("seed", range(60))
def test_no_damage_stops_a_check_or_a_repair(rich: Any, seed: int) -> None:
    """Rows lost, swapped, truncated, and with flipped bytes."""
    chance = random.Random(seed)
    section = rich.section
    stored = section.scan(b"")
    for key, value in chance.sample(stored, 1 + seed % 12):
        section.write([hurt(chance, key, value, stored)])
    violations(section)
    report = repair_section(section)
    found = {(f.invariant, f.where, f.problem) for f in violations(section)}
    assert found == {(f.invariant, f.where, f.problem) for f in report.left}


def hurt(
    chance: random.Random, key: bytes, value: bytes, stored: list[tuple[bytes, bytes]]
) -> tuple[bytes, bytes | None]:
    match chance.randrange(5):
        case 0:
            return key, None
        case 1:
            return key, chance.choice(stored)[1]
        case 2:
            return key, value[: chance.randrange(len(value) + 1)]
        case 3:
            return key[: chance.randrange(1, len(key) + 1)] + chance.randbytes(3), value
        case _:
            damaged = bytearray(value or b"\0")
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            return key, bytes(damaged)


async def test_all_memos_of_one_page_that_cover_unsettled_items_go(tmp_path: Any) -> None:
    table = MemoryTarget("tests/fsck/pages", record=lambda value: value)
    version = [1]

    @coco.fn(memo=True, logic_tracking=None)
    def declare(key: int) -> int:
        table.declare(key, version[0])
        return key

    def main() -> None:
        for key in range(20):
            declare(key)

    env = coco.Environment(coco.Settings(db_path=tmp_path / "state"))
    app = coco.App(coco.AppConfig("pages", env), main)
    await app.update()
    version[0] = 2
    with table.failing("after"), pytest.raises(Exception, match="injected"):
        await app.update(full_reprocess=True)
    section = env.app_state(app).section
    assert repair_section(section).left == []
    with section.snapshot() as snapshot:
        about_memos = [f for f in check_section(snapshot) if "memo" in f.problem]
    assert about_memos == []
    env.close()
