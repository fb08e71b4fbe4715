"""The unavoidable work alone: hash, reconcile, encode, one durable write, one sink call.

A bare loop over what a workload declares, with the libraries that the engine stands on, and with
the rows that any engine of this kind needs: an entry per component with its fingerprint and what
is known of its target states, and per target state the component that owns it. Nothing of the
engine runs: no tree, no tasks, no recovery.
"""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.harness import COLD, DROP, changed, store

ENTRY, OWNER = b"c", b"o"

Row = tuple[bytes, bytes]
Sink = Callable[[Sequence[int]], object]
Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]


class Output(NamedTuple):
    """What reconciling one target state gives: see `TargetReconcileOutput`."""

    action: int
    record: int


class Work(NamedTuple):
    """What to do: ``components`` with ``states`` target states each.

    With ``memo``, a component whose arguments are the same isn't looked into.
    """

    components: int
    states: int
    memo: bool


def no_sink(_actions: Sequence[int]) -> None:
    pass


def bare_loop(folder: pathlib.Path, phase: str, work: Work, sink: Sink = no_sink) -> float:
    """Seconds for one phase."""
    with database(folder) as opened:
        import msgspec  # before the clock starts, and never in the peer's interpreter

        encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
        start = time.perf_counter()
        if phase == DROP:
            actions = _drop(opened, decode)
        else:
            stored = {} if phase == COLD else dict(rows(opened, ENTRY))
            changes, actions = _update(work, phase, stored, encode, decode)
            write(opened, changes)
        if actions:
            sink(actions)
        return time.perf_counter() - start


def _update(
    work: Work, phase: str, stored: Mapping[bytes, bytes], encode: Encode, decode: Decode
) -> tuple[list[Row], list[int]]:
    """The rows to write and the actions to hand out."""
    changes: list[Row] = []
    actions: list[int] = []
    for number in range(work.components):
        version = int(changed(number, phase))
        arguments = hashlib.blake2b(encode((number, version)), digest_size=16).digest()
        key = ENTRY + number.to_bytes(8, "big")
        entry = stored.get(key)
        # An array of two and a binary of 16 bytes: the digest is at a fixed place.
        same = entry is not None and entry[3:19] == arguments
        if same and work.memo:
            continue
        known = dict(decode(entry)[1]) if entry is not None else {}
        records = []
        for target in range(number * work.states, (number + 1) * work.states):
            value = target * 7 + version
            output = _reconcile(target, value, known.get(target))
            if output is not None:
                actions.append(output.action)
                if target not in known:
                    changes.append((OWNER + target.to_bytes(8, "big"), key))
            records.append((target, value))
        entry_now = encode((arguments, records))
        if entry_now != entry:
            changes.append((key, entry_now))
    return changes, actions


def _reconcile(key: int, desired: int, previous: int | None) -> Output | None:
    return None if previous == desired else Output(key, desired)


def _drop(database: Any, decode: Decode) -> list[int]:
    actions = [key for _, entry in rows(database, ENTRY) for key, _ in decode(entry)[1]]
    with database.begin(write=True) as transaction:
        transaction.drop(database.open_db(txn=transaction), delete=False)
    return actions


@contextlib.contextmanager
def database(folder: pathlib.Path) -> Iterator[Any]:
    import lmdb

    place = store(folder)
    place.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(place), map_size=2**30) as opened:
        yield opened


def rows(database: Any, prefix: bytes = b"") -> Iterator[Row]:
    with database.begin() as transaction, transaction.cursor() as cursor:
        if cursor.set_range(prefix):
            for row in cursor:
                if not row[0].startswith(prefix):
                    return
                yield row


def write(database: Any, changes: Sequence[Row], gone: Sequence[bytes] = ()) -> None:
    """One transaction, on disk when it returns."""
    if changes or gone:
        with database.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti(sorted(changes))
            for key in gone:
                transaction.delete(key)
