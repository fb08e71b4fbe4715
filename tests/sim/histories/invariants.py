"""What must hold of the store and the outside, judged without the engine's own readers of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from cocoindex.core.keys import (
    Symbol,
    decode_key,
    decode_path,
    encode_key,
    encode_path,
    key_segment,
    path_text,
)
from cocoindex.core.serde import deserialize
from cocoindex.engine import rows
from cocoindex.engine.rows import NodeKind
from cocoindex.state.memory import MemoryDisk, MemoryStore
from cocoindex.testing import checks
from histories.outside import Outside, Path, roots

ROOT_KEYS = {kind: provider.keys[0] for kind, provider in roots.items()}
ROWS_PATH = rows.target_path_of(encode_path((ROOT_KEYS["rows"],)))


def fsck(disk: MemoryDisk, app: str, *, is_at_rest: bool) -> list[str]:
    """What the product's own check finds. Whatever has happened, it finds no damage; and nothing
    unfinished either once an update has succeeded completely.
    """
    found = checks.fsck(MemoryStore(disk), app)
    return [f"fsck: {finding}" for finding in found if is_at_rest or finding.is_violation]


class Stored:
    """The durable rows of one app, by table."""

    def __init__(self, disk: MemoryDisk, app: str) -> None:
        self.tables: dict[str, dict[bytes, bytes]] = {}
        for key, value in disk.rows(app).rows.items():
            if value is not None:
                self.tables.setdefault(chr(key[0]), {})[key[1:]] = value

    def table(self, tag: str) -> dict[bytes, bytes]:
        return self.tables.get(tag, {})

    def tracking(self) -> Iterator[tuple[int, rows.TrackingRow]]:
        for key, value in self.table("K").items():
            yield rows.unpack_id(key), rows.decode_tracking(value)

    def nodes(self) -> dict[int, tuple[int, bytes, rows.Node]]:
        """Parent, key and node, by id."""
        found = {}
        for key, value in self.table("E").items():
            node = rows.decode_node(value)
            found[node.id] = (int.from_bytes(key[:8], "big"), key[8:], node)
        return found

    def paths(self) -> dict[int, str]:
        """Paths of nodes in readable form, dead ones included, by id."""
        nodes, found = self.nodes(), {rows.ROOT_ID: "/"}
        for node_id in sorted(nodes):  # parents are older than their children
            parent, key, _ = nodes[node_id]
            if parent in found:
                above = "" if parent == rows.ROOT_ID else found[parent]
                found[node_id] = above + _text_of(key)
        return found

    def living(self) -> set[int]:
        """Nodes that stand, like all those above them."""
        nodes, found = self.nodes(), {rows.ROOT_PARENT_ID}
        for node_id in sorted(nodes):
            parent, _, node = nodes[node_id]
            if parent in found and node.is_live:
                found.add(node_id)
        return found

    def is_being_dropped(self) -> bool:
        """Whether a drop was interrupted: then nothing counts as settled."""
        root = self.nodes().get(rows.ROOT_ID)
        return root is not None and root[2].kind == NodeKind.BEING_DROPPED

    def states(self) -> dict[tuple[str, str], str]:
        """User states, by path of their component and key."""
        table = self.table("U")
        paths = self.paths() if table else {}
        if table and self.is_being_dropped():
            table = {key: value for key, value in table.items() if key[:8] in self.table("K")}
        return {
            (paths.get(rows.unpack_id(key[:8]), "?"), str(decode_key(key[9:]))): deserialize(
                value, str
            )
            for key, value in table.items()
        }

    def holders(self) -> dict[Path, str]:
        """Which component tracks each row below the root, by its path; without those that an
        interrupted deletion has reached."""
        paths, found = self.paths(), dict[Path, str]()
        living = self.living()
        for component, row in self.tracking():
            for group in row.groups if component in living else ():
                if rows.target_path_of(group.path) == ROWS_PATH:
                    for item in group.items():
                        found["rows", str(decode_key(item.key))] = paths.get(component, "?")
        return found

    def listed(self) -> dict[str, set[str]]:
        """Names of the components that stand below each directory."""
        paths, found = self.paths(), dict[str, set[str]]()
        for parent, key, node in self.nodes().values():
            if node.kind == NodeKind.COMPONENT and parent in paths:
                found.setdefault(paths[parent], set()).add(str(decode_key(key)))
        return found


@cache
def _text_of(key: bytes) -> str:
    return path_text((decode_key(key),))


def at_rest(disk: MemoryDisk, app: str) -> list[str]:
    """Violations of the invariants that hold when an update has succeeded completely."""
    stored = Stored(disk, app)
    nodes = stored.nodes()
    found = list(_nodes(stored, nodes))
    items: dict[bytes, int] = {}
    for component, row in stored.tracking():
        found += _tracked(stored, component, row, items, nodes)
    for path, owner in stored.table("O").items():
        if items.get(path) != rows.unpack_id(owner):
            found.append(
                f"owner row of {path.hex()} names {rows.unpack_id(owner)}, not its tracker"
            )
    found += [f"a tombstone is left: {key.hex()}" for key in stored.table("T")]
    found += _memos(stored, nodes, items)
    return found + fsck(disk, app, is_at_rest=True)


def _nodes(stored: Stored, nodes: dict[int, tuple[int, bytes, rows.Node]]) -> Iterator[str]:
    if len(nodes) != len(stored.table("E")):
        yield "two existence rows share an id"
    for node_id, (parent, key, node) in nodes.items():
        if not node.is_live:
            yield f"a dead node is left: {node_id} {key!r}"
        if parent != rows.ROOT_PARENT_ID:
            above = nodes.get(parent)
            if above is None:
                yield f"node {node_id} has no parent {parent}"
            elif not above[2].has_children:
                yield f"node {parent} does not know of its children"
    counter = stored.table("M").get(b"node")
    if len(nodes) > 1 and (counter is None or max(nodes) >= rows.unpack_id(counter)):
        yield "node ids beyond the counter"


def _tracked(
    stored: Stored,
    component: int,
    row: rows.TrackingRow,
    items: dict[bytes, int],
    nodes: dict[int, tuple[int, bytes, rows.Node]],
) -> Iterator[str]:
    place = nodes.get(component)
    if place is None or place[2].kind != NodeKind.COMPONENT:
        yield f"tracking entry of {component}, which is no live component"
    elif place[:2] != (row.parent_id, row.key):
        yield f"tracking entry of {component} says it is elsewhere"
    for group in row.groups:
        prefix = rows.target_path_of(group.path)
        for item in group.items():
            name = path_text((*decode_path(group.path), decode_key(item.key)))
            path = prefix + key_segment(item.key)
            if not item.is_settled:
                yield f"{name} is unsettled at rest: {item.states}"
            if path in items:
                yield f"{name} is tracked twice"
            items[path] = component
            if rows.unpack_id(stored.table("O").get(path, b"\0" * 8)) != component:
                yield f"{name} has no owner row"
    prefix = rows.pack_id(component)
    memos = any(key.startswith(prefix) for key in stored.table("F"))
    if memos != row.has_memos:
        yield f"component {component} is wrong about having memos"


def _memos(
    stored: Stored, nodes: dict[int, tuple[int, bytes, rows.Node]], items: dict[bytes, int]
) -> Iterator[str]:
    for tag in "CFU":
        for key in stored.table(tag):
            component = int.from_bytes(key[:8], "big")
            if component not in nodes or nodes[component][2].kind != NodeKind.COMPONENT:
                yield f"{tag} row of {component}, which is no live component"
    for key, value in stored.table("F").items():
        component = int.from_bytes(key[:8], "big")
        for memo in rows.decode_function_memos(value):
            for path in rows.decode_terms(memo.terms).declared:
                if items.get(path) != component:
                    yield f"a function memo of {component} covers what that does not track"


def at_any_time(disk: MemoryDisk, app: str, outside: Outside) -> list[str]:
    """Violations of what holds at every instant, also right after a kill (§E4.8)."""
    stored = Stored(disk, app)
    owners, in_doubt = stored.table("O"), stored.is_being_dropped()
    if in_doubt:  # those of what is deleted go last
        owners = {path: owner for path, owner in owners.items() if owner in stored.table("K")}
    found = [
        f"{'/'.join(path)} exists outside, but nothing tracks it"
        for path in outside.ours()
        if not any(target_path(path[:end]) in owners for end in range(2, len(path) + 1))
    ]
    nodes = stored.nodes()
    buried = {rows.unpack_id(key) for key in stored.table("T")}
    for component, row in stored.tracking():
        if component not in nodes and component not in buried:
            found.append(f"tracking entry of {component}, which neither stands nor is buried")
        for group in row.groups:
            if rows.target_path_of(group.path) == ROWS_PATH and not in_doubt:
                found += _believed(component, group, owners, outside)
    return found


def _believed(
    component: int, group: rows.ItemGroup, owners: dict[bytes, bytes], outside: Outside
) -> Iterator[str]:
    prefix = rows.target_path_of(group.path)
    for item in group.items():
        owner = owners.get(prefix + key_segment(item.key))
        if not item.is_settled or owner is None or rows.unpack_id(owner) != component:
            continue
        key = decode_key(item.key)
        believed = deserialize(item.records[0], str)
        if outside.rows.get(("rows", str(key))) != believed:
            found = outside.rows.get(("rows", str(key)))
            yield f"rows/{key} is believed to be {believed}, but is {found}"


@cache
def target_path(path: Path) -> bytes:
    keys = [ROOT_KEYS[path[0]]]
    keys += [Symbol(part[1:]) if part.startswith("@") else part for part in path[1:]]
    return b"".join(key_segment(encode_key(key)) for key in keys)
