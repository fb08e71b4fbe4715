"""What the engine keeps in its section of the state store.

One tag byte names the table. Components and directories have integer ids, so no physical
key holds a whole path; every row that matters carries the readable keys it was made from.

====== =============================== ==========================================
tag    key                             value
====== =============================== ==========================================
``E``  parent id, encoded child key    node kind and id (existence)
``N``  node id                         parent id, encoded key (only nodes with children)
``K``  component id                    :class:`TrackingRow`
``C``  component id                    :class:`ComponentMemoRow`
``F``  component id, first fingerprint some :class:`FunctionMemoRow`
``U``  component id, kind, key         serialized user state
``T``  owner id, dead component id     :class:`TombstoneRow`
``O``  target path (16 B per segment)  id of the owning component
``Q``  key                             next id of that sequence
``L``  fingerprint                     readable label
``M``  name                            counters of the section
====== =============================== ==========================================
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import IntEnum
from functools import lru_cache
from operator import itemgetter
from struct import Struct as Packing
from typing import TYPE_CHECKING, Final

import msgspec

from cocoindex.core.keys import StableKey, decode_path, encode_key, key_segment
from cocoindex.errors import StoreFormatError

if TYPE_CHECKING:
    from cocoindex.state.base import Section

_ID: Final = Packing(">Q")
pack_id = _ID.pack

ROOT_ID: Final = 1
ROOT_PARENT_ID: Final = 0


def unpack_id(data: bytes) -> int:
    """The id that ends ``data``."""
    return int.from_bytes(data[-8:], "big")


class NodeKind(IntEnum):
    """What stands at a path. Dead nodes were unmounted, but still have records to clean up.

    Only the root can be in the middle of a drop; what the rows of its app mean then is told in
    ``dropping``.
    """

    COMPONENT = 1
    DIRECTORY = 2
    DEAD_COMPONENT = 3
    DEAD_DIRECTORY = 4
    BEING_DROPPED = 5


_COMPONENTS: Final = (NodeKind.COMPONENT, NodeKind.DEAD_COMPONENT, NodeKind.BEING_DROPPED)


HAS_CHILDREN: Final = 0x10
NODE_SIZE: Final = 9
_KIND: Final = 0x0F
_KINDS: Final = frozenset(NodeKind)
COMPONENT: Final = int(NodeKind.COMPONENT)
DIRECTORY: Final = int(NodeKind.DIRECTORY)
_PACKED_ID: Final = itemgetter(slice(1, None))
_NODE_HEADS: Final = {
    head: (head & _KIND, bool(head & HAS_CHILDREN)) for head in range(256) if head & _KIND in _KINDS
}
"""Kind, and whether it has children, by the first byte of an existence row."""

DAMAGED: Final = "Check the store with 'cocoindex state fsck', or restore it from a backup."


class Node(msgspec.Struct, frozen=True, gc=False):
    """An existence row, decoded."""

    kind: int
    id: int
    has_children: bool = False

    def encode(self) -> bytes:
        flag = HAS_CHILDREN if self.has_children else 0
        return bytes((self.kind | flag,)) + pack_id(self.id)

    @property
    def is_live(self) -> bool:
        return self.kind <= DIRECTORY

    @property
    def is_component(self) -> bool:
        return self.kind in _COMPONENTS


def decode_node(value: bytes) -> Node:
    """Decode an existence row.

    Raises:
        StoreFormatError: the row is damaged.
    """
    head = _NODE_HEADS.get(value[0]) if len(value) == NODE_SIZE else None
    if head is None:
        raise StoreFormatError(f"an existence row is damaged ({value[:16].hex()!r}). {DAMAGED}")
    return Node(head[0], int.from_bytes(value[1:], "big"), head[1])


def kind_of(value: bytes) -> int:
    """The :class:`NodeKind` in an existence row that is not damaged."""
    return value[0] & _KIND


def decode_node_below(parent_id: int, value: bytes) -> Node:
    """The same for a child of a node. It is younger than that; else a search could go in circles.

    Raises:
        StoreFormatError: the row is damaged.
    """
    node = decode_node(value)
    if node.id <= parent_id:
        raise StoreFormatError(
            f"an existence row is damaged: {node.id} below {parent_id}. {DAMAGED}"
        )
    return node


def check_nodes(parent_id: int, values: Collection[bytes]) -> None:
    """Raise what decoding these children of a node would raise, but decode none of them."""
    sizes = {len(value) for value in values}
    is_sound = sizes <= {NODE_SIZE} and _KINDS.issuperset({kind_of(value) for value in values})
    if not is_sound or min(map(_PACKED_ID, values), default=b"\xff") <= pack_id(parent_id):
        for value in values:
            decode_node_below(parent_id, value)


State = tuple[int, bytes | None]
"""Version and serialized tracking record; ``None`` is the ABSENT marker.

States are tuples all through: the garbage collector lets go of tuples of plain values, and
there is one per target state in flight."""


ABSENT: Final[State] = (0, None)


class Item(msgspec.Struct, array_like=True, gc=False):
    """One tracked target state: its key and every state the outside world may be in."""

    key: bytes
    states: tuple[State, ...]
    schema_version: int = 0
    generation: tuple[int, int] | None = None
    """Only for containers: ``(provider id, schema version)`` of their child provider."""
    children_first: bool = False

    @property
    def is_settled(self) -> bool:
        return len(self.states) == 1 and self.states[0][1] is not None

    @property
    def is_container(self) -> bool:
        return self.generation is not None or self.children_first

    @property
    def records(self) -> list[bytes]:
        return [record for _, record in self.states if record is not None]

    @property
    def has_absent(self) -> bool:
        return any(record is None for _, record in self.states)


class ItemGroup(msgspec.Struct, array_like=True, gc=False):
    """The items below one provider.

    Nearly all of them are no containers, and in one known state. Of those a record per key says
    everything, and a dictionary of bytes costs next to nothing to read and to write.
    """

    path: bytes
    """The readable key chain of the provider."""
    provider_id: int | None
    schema_version: int
    """Of the items in ``settled`` and ``unsure``."""
    settled: dict[bytes, bytes]
    """The record of each item that is in one state, by key."""
    unsure: dict[bytes, bytes]
    """The same for items that may be in this state, or absent."""
    others: list[Item]

    def items(self, version: int = 0) -> Iterator[Item]:
        """All of them; those whose version is not stored are of ``version``."""
        for key, record in self.settled.items():
            yield Item(key, ((version, record),), self.schema_version)
        for key, record in self.unsure.items():
            yield Item(key, (ABSENT, (version, record)), self.schema_version)
        yield from self.others

    def forget(self, key: bytes) -> None:
        """Track an item no more."""
        self.settled.pop(key, None)
        self.unsure.pop(key, None)
        self.others = [item for item in self.others if item.key != key]


class TrackingRow(msgspec.Struct, array_like=True, gc=False):
    """What one component tracks."""

    version: int
    processor: str
    parent_id: int
    key: bytes
    is_memoized: bool
    """Whether a component memo may be stored."""
    has_memos: bool
    has_state: bool
    groups: list[ItemGroup]


class TombstoneRow(msgspec.Struct, array_like=True, gc=False):
    """A component that has to be deleted: where its existence row is, and its readable path."""

    parent_id: int
    key: bytes
    relative_path: bytes


ProviderDep = tuple[bytes, int, int]
"""Target path of a container, and the generation its provider had."""

ContextStates = list[tuple[bytes, list[bytes]]]
"""Memo states of change-detected context values, by value fingerprint."""


class Dependencies(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a memo depends on besides its arguments. Fingerprint sets are sorted and joined."""

    logic: bytes = b""
    context: bytes = b""
    providers: list[ProviderDep] = []


class Terms(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a memoized call depends on and covers: mostly alike for all calls of a function."""

    deps: Dependencies
    declared: tuple[bytes, ...]
    """Target paths declared by the call itself."""
    refs: bytes
    """Fingerprints of the memoized calls it made, joined."""
    states: tuple[bytes, ...]
    context_states: ContextStates
    labels: bytes
    """Key of the labels of the call's parts."""
    is_identity: bool = False
    """An allocated id rather than a result: it survives a full reprocess."""


class FunctionMemoRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One memoized call; several of them make a row of the store."""

    fingerprint: bytes
    value: bytes
    terms: bytes
    """:class:`Terms`, encoded."""
    parts: bytes
    """4-byte checksums of the call's parts, joined."""


class ComponentMemoRow(msgspec.Struct, array_like=True, gc=False):
    fingerprint: bytes
    value: bytes
    deps: Dependencies
    states: list[bytes]
    context_states: ContextStates
    labels: bytes
    parts: bytes


_MEMO_HEAD: Final = b"\x97\xc4\x10"
"""An array of seven, the first of them 16 bytes: how each component memo begins."""


class MemoPattern:
    """What a component memo has in common with others of the same function.

    That is everything but the fingerprint at its begin and the checksums of the call's parts at
    its end. Where the bytes in between are equal, and equally many, so is all that they encode.
    """

    __slots__ = ("_common", "_end", "_size")

    def __init__(self, raw: bytes, row: ComponentMemoRow) -> None:
        """``row`` is what ``raw`` encodes."""
        self._size = len(raw)
        self._end = len(raw) - len(row.parts)
        self._common = raw[len(_MEMO_HEAD) + len(row.fingerprint) : self._end]

    def matches(self, raw: bytes, fingerprint: bytes) -> bool:
        """Whether ``raw`` is the memo of the call ``fingerprint``, and like this one otherwise."""
        head = _MEMO_HEAD + fingerprint
        return (
            raw.startswith(head)
            and raw[len(head) : self._end] == self._common
            and len(raw) == self._size
        )


encode = msgspec.msgpack.Encoder().encode
_decode_tracking = msgspec.msgpack.Decoder(TrackingRow).decode
_decode_tombstone = msgspec.msgpack.Decoder(TombstoneRow).decode
decode_function_memos = msgspec.msgpack.Decoder(list[FunctionMemoRow]).decode
decode_terms = msgspec.msgpack.Decoder(Terms).decode
decode_component_memo = msgspec.msgpack.Decoder(ComponentMemoRow).decode


def decode_tracking(value: bytes) -> TrackingRow:
    """Decode a tracking row; raises ``StoreFormatError`` if it is damaged."""
    try:
        return _decode_tracking(value)
    except ValueError as error:
        raise _damaged("tracking row", error) from error


def decode_tombstone(value: bytes) -> TombstoneRow:
    """Decode a tombstone row; raises ``StoreFormatError`` if it is damaged."""
    try:
        return _decode_tombstone(value)
    except ValueError as error:
        raise _damaged("tombstone row", error) from error


def _damaged(what: str, why: ValueError) -> StoreFormatError:
    return StoreFormatError(f"a {what} is damaged: {why}. {DAMAGED}")


def pages(section: Section, prefix: bytes, size: int = 1024) -> Iterator[list[tuple[bytes, bytes]]]:
    """Rows below a prefix, some at a time, each page as it is when it is asked for."""
    start = prefix
    while page := section.scan(prefix, start=start, limit=size):
        yield page
        start = page[-1][0] + b"\0"


def existence_key(parent_id: int, key: bytes) -> bytes:
    return b"E" + pack_id(parent_id) + key


def existence_prefix(parent_id: int) -> bytes:
    return b"E" + pack_id(parent_id)


def level_of(row_key: bytes) -> bytes:
    """What the keys of existence rows below one node begin with; ends with the node's id."""
    return row_key[:9]


def child_key(row_key: bytes) -> bytes:
    """The encoded child key in an existence row's key."""
    return row_key[9:]


def node_key(node_id: int) -> bytes:
    return b"N" + pack_id(node_id)


def place_row(parent_id: int, key: bytes) -> bytes:
    """The value of a node's row: where its existence row is."""
    return pack_id(parent_id) + key


def decode_place(value: bytes) -> tuple[int, bytes]:
    """Parent id and encoded key, out of a node's row."""
    return unpack_id(value[:8]), value[8:]


def tracking_key(component_id: int) -> bytes:
    return b"K" + pack_id(component_id)


def tracking_key_below(existence_row: bytes) -> bytes:
    """The key of a component's tracking row by its existence row."""
    return b"K" + existence_row[1:]


def component_memo_key(component_id: int) -> bytes:
    return b"C" + pack_id(component_id)


def memo_key_below(existence_row: bytes) -> bytes | None:
    """The key of a component's memo by its existence row; None if that is no live component's."""
    return b"C" + existence_row[1:] if existence_row[0] & _KIND == COMPONENT else None


def function_memo_prefix(component_id: int) -> bytes:
    return b"F" + pack_id(component_id)


REGULAR_STATE: Final = b"r"
LIVE_STATE: Final = b"l"


def user_state_prefix(component_id: int, kind: bytes = b"") -> bytes:
    return b"U" + pack_id(component_id) + kind


def tombstone_prefix(owner_id: int) -> bytes:
    return b"T" + pack_id(owner_id)


def tombstone_key(owner_id: int, dead_id: int) -> bytes:
    return b"T" + pack_id(owner_id) + pack_id(dead_id)


OWNER: Final = b"O"
"""What keys of owner rows begin with; here by name for loops over many target paths."""


def owner_key(target_path: bytes) -> bytes:
    return OWNER + target_path


def sequence_key(key: bytes) -> bytes:
    return b"Q" + key


def label_key(fingerprint: bytes) -> bytes:
    return b"L" + fingerprint


def counter_key(name: str) -> bytes:
    return b"M" + name.encode()


@lru_cache(maxsize=4096)
def target_path_of(encoded_path: bytes) -> bytes:
    """The fixed-width target path of a provider whose readable key chain is ``encoded_path``."""
    return b"".join(key_segment(encode_key(key)) for key in decode_path(encoded_path))


@lru_cache(maxsize=4096)
def provider_keys(encoded_path: bytes) -> tuple[StableKey, ...]:
    return decode_path(encoded_path)
