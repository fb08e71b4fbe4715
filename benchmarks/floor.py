"""The unavoidable work alone: hash, reconcile, encode, one durable write, one sink call.

A bare loop over what a workload declares, with the libraries that the engine stands on. Nothing of
the engine runs: no tree, no tasks, no ownership, no recovery.
"""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.harness import COLD, DROP, changed, store

Row = tuple[bytes, bytes]
Sink = Callable[[Sequence[int]], object]
Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]


def no_sink(_actions: Sequence[int]) -> None:
    pass


def bare_loop(
    folder: pathlib.Path,
    phase: str,
    components: int,
    states: int,
    *,
    memo: bool,
    sink: Sink = no_sink,
) -> float:
    """Seconds for ``components`` with ``states`` target states each.

    With ``memo`` a component whose arguments are the same isn't looked into.
    """
    with database(folder) as opened:
        import msgspec  # before the clock starts, and never in the peer's interpreter

        codec = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
        start = time.perf_counter()
        if phase == DROP:
            actions = _drop(opened, *codec)
        else:
            actions = _update(opened, *codec, phase, components, states, memo)
        if actions:
            sink(actions)
        return time.perf_counter() - start


def _update(
    database: Any,
    encode: Encode,
    decode: Decode,
    phase: str,
    components: int,
    states: int,
    memo: bool,
) -> list[int]:
    stored = {} if phase == COLD else dict(rows(database))
    entries: list[Row] = []
    actions: list[int] = []
    for number in range(components):
        version = int(changed(number, phase))
        arguments = hashlib.blake2b(encode((number, version)), digest_size=16).digest()
        key = number.to_bytes(8, "big")
        entry = stored.get(key)
        # An array of two and a binary of 16 bytes: the digest is at a fixed place.
        same = entry is not None and entry[3:19] == arguments
        if same and memo:
            continue
        known = dict(decode(entry)[1]) if entry is not None else {}
        wanted = _reconcile(number, states, version, known, actions)
        if wanted is not None or not same:
            entries.append((key, encode((arguments, wanted or ()))))
    write(database, entries)
    return actions


def _reconcile(
    number: int, states: int, version: int, known: dict[int, int], actions: list[int]
) -> list[tuple[int, int]] | None:
    """The entry to write, or None when nothing differs."""
    differs = False
    wanted: list[tuple[int, int]] = []
    for key in range(number * states, (number + 1) * states):
        value = key * 7 + version
        wanted.append((key, value))
        if known.get(key) != value:
            differs = True
            actions.append(key)
    return wanted if differs else None


def _drop(database: Any, _encode: Encode, decode: Decode) -> list[int]:
    actions = [key for _, entry in rows(database) for key, _ in decode(entry)[1]]
    with database.begin(write=True) as transaction:
        transaction.drop(database.open_db(txn=transaction), delete=False)
    return actions


@contextlib.contextmanager
def database(folder: pathlib.Path) -> Iterator[Any]:
    import lmdb

    place = store(folder)
    place.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(place), map_size=2**30) as database:
        yield database


def rows(database: Any) -> list[Row]:
    with database.begin() as transaction:
        return list(transaction.cursor())


def write(database: Any, changes: Sequence[Row], gone: Sequence[bytes] = ()) -> None:
    """One transaction, on disk when it returns."""
    if changes or gone:
        with database.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti(changes)
            for key in gone:
                transaction.delete(key)
