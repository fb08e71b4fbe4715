"""Replaces values in a state store by hostile bytes and sees what an update makes of them.

    python hostile.py DIRECTORY

One JSON line per blob: which kind of row, which blob, and what each operation ended with.
Run in a process of its own, with little memory to spare.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import os
import pickle
import random
import resource
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

import cocoindex as coco
from cocoindex import inspect
from cocoindex.engine import rows
from cocoindex.errors import CocoIndexError
from cocoindex.state.open import open_store
from cocoindex.testing.targets import MemoryTarget

SPARE = 256 << 20
MARK = "EXECUTED"
SEED = 20
PER_ROW = 24

table = MemoryTarget("hostile", record=lambda value: value)


@coco.fn(memo=True)
async def inner(text: str) -> dict[str, int]:
    return {text: 1}


@coco.fn(memo=True)
async def child(text: str) -> list[str]:
    table.declare(text, text)
    return [text]


async def stateful(text: str) -> None:
    state = coco.use_state("count", 0, type_hint=int)
    state.value = int(state.value) + 1
    await inner(text)
    table.declare(f"{text}/state", text)


async def main() -> None:
    for text in ("a", "b"):
        await coco.use_mount(coco.component_subpath(text), child, text)
        await coco.use_mount(coco.component_subpath("s", text), stateful, text)


# --- blobs -----------------------------------------------------------------------------------


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Any, *args: Any) -> None:
        self._reduced = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self._reduced


def forbidden() -> Iterator[tuple[str, bytes]]:
    calls: list[tuple[Any, ...]] = [
        (os.system, f"touch {MARK}"),
        (builtins.eval, f"open({MARK!r}, 'w')"),
        (builtins.exec, f"open({MARK!r}, 'w')"),
        (builtins.open, MARK, "w"),
        (builtins.__import__, "antigravity"),
        (builtins.getattr, "", "join"),
        (bytearray, 1 << 40),
        (bytes, 1 << 40),
        (range, 0, 1 << 60, 1),
        (type, "X", (), {}),
        (shutil.rmtree, "nowhere"),
    ]
    for number, (function, *args) in enumerate(calls):
        yield f"call {number}", pickle.dumps(Call(function, *args), 5)
    for module, name in (
        (b"os", b"system"),
        (b"antigravity", b"x"),
        (b"cocoindex.core.serde", b"pickle"),
        (b"builtins", b"type.__subclasses__"),
        (b"numpy", b"load"),
        (b"numpy.core.multiarray", b"_vec_string"),
    ):
        yield f"global {name!r}", b"\x80\x02c" + module + b"\n" + name + b"\n(tR."


def bombs() -> Iterator[tuple[str, bytes]]:
    huge = (1 << 62).to_bytes(8, "little")
    yield "long text", b"\x80\x05\x8d" + huge + b"x."
    yield "long bytes", b"\x80\x05\x8e" + huge + b"x."
    yield "long bytearray", b"\x80\x05\x96" + huge + b"x."
    yield "long int", b"\x80\x05\x8b\xff\xff\xff\x7f."
    yield "frame", b"\x80\x05\x95" + huge + b"N."
    yield "nested lists", b"\x80\x05" + b"(" * 200_000 + b"l" * 200_000 + b"."
    yield "nested tuples", b"\x80\x05N" + b"\x85" * 200_000 + b"."
    yield "hashed tuples", b"\x80\x05\x8fN" + b"\x85" * 50_000 + b"\x90."
    doubling = b"\x80\x05]\x94" + b"".join(b"(h\x00h\x00e" for _ in range(60)) + b"."
    yield "doubling", doubling
    yield "doubling tuples", b"\x80\x05N" + b"2\x86" * 200 + b"."
    yield "memo slot", b"\x80\x05Nr\xff\xff\xff\xff."
    yield "missing memo", b"\x80\x05j\xff\xff\xff\xff."
    yield "persistent id", b"\x80\x05Pabc\n."
    yield "extension registry", b"\x80\x05\x82\x01."
    yield "msgpack text", b"\x01\xdb\xff\xff\xff\xff"
    yield "msgpack bytes", b"\x01\xc6\xff\xff\xff\xff"
    yield "msgpack array", b"\x01\xdd\xff\xff\xff\xff"
    yield "msgpack map", b"\x01\xdf\xff\xff\xff\xff"
    yield "msgpack nesting", b"\x01" + b"\x91" * 200_000 + b"\xc0"
    yield "msgpack ext", b"\x01\xc9\xff\xff\xff\xff\x64"
    yield "unknown ext", b"\x01\xc7\x01\x63x"
    evil = pickle.dumps(Call(os.system, f"touch {MARK}"), 5)
    yield "pickle in ext", b"\x01\xc9" + len(evil).to_bytes(4, "big") + b"\x64" + evil
    nested = b"\x01" + b"\xdd\x00\x00\x00\x01" * 100_000
    yield "arrays of arrays", nested
    yield "pydantic", b"\x02\x81\xa1x\xdb\xff\xff\xff\xff"
    yield "unknown route", b"\x77abc"
    yield "empty", b""
    yield "bare array", b"\xdd\xff\xff\xff\xff"
    yield "bare nesting", b"\x91" * 200_000


def arrays() -> Iterator[tuple[str, bytes]]:
    import numpy as np

    honest = pickle.dumps(np.zeros((2, 2)), 5)
    scalar = pickle.dumps(np.float64(1), 5)
    for size in (1 << 40, 1 << 62, -1):
        shaped = pickle.dumps(np.zeros((0,)), 5)
        packed = b"\x8a\x08" + size.to_bytes(8, "little", signed=True)
        yield f"shape {size}", shaped.replace(b"K\x00\x85", packed + b"\x85")
    yield "dtype U", honest.replace(b"f8", b"U9999999")
    yield "dtype V", scalar.replace(b"f8", b"V999999999")
    yield "dtype O", scalar.replace(b"f8", b"O8")


def damaged(value: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Cut short, flipped bits, lengths blown up, rubbish appended."""
    if not value:
        return
    yield "cut", value[: rng.randrange(len(value))]
    yield "half", value[: len(value) // 2]
    yield "doubled", value + value
    for _ in range(6):
        flipped = bytearray(value)
        for _ in range(rng.choice((1, 1, 2, 8))):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        yield "flipped", bytes(flipped)
    at = rng.randrange(len(value))
    length = rng.choice((b"\xdb", b"\xc6", b"\xdd", b"\xdf")) + b"\xff\xff\xff\xff"
    yield "length", value[:at] + length + value[at + 1 :]
    yield "rubbish", rng.randbytes(len(value))


def embedded(tag: bytes, value: bytes, blob: bytes) -> bytes:
    """``blob`` in the place of user data within a row, or instead of the row."""
    if tag == b"F":
        memos = rows.decode_function_memos(value)
        return rows.encode([msgspec.structs.replace(memo, value=blob) for memo in memos])
    if tag == b"C":
        memo = rows.decode_component_memo(value)
        memo.value = blob
        return rows.encode(memo)
    if tag == b"K":
        row = rows.decode_tracking(value)
        for group in row.groups:
            group.settled = dict.fromkeys(group.settled, blob)
            for item in group.others:
                item.states = tuple((version, blob) for version, _ in item.states)
        return rows.encode(row)
    return blob


# --- trials ----------------------------------------------------------------------------------


def outcome(operation: Callable[[], Any]) -> str:
    try:
        operation()
    except CocoIndexError as error:
        return f"refused: {type(error).__name__}: {str(error)[:2000]}"
    except BaseException as error:  # noqa: BLE001 - what must not happen, so it is told in full
        return f"WRONG: {type(error).__name__}: {str(error)[:2000]}"
    return "fine"


class Trials:
    def __init__(self, directory: Path) -> None:
        self._store = directory / "store"
        self._update()
        self._rows = self._stored()

    def _app(self) -> tuple[coco.Environment, coco.App[[], None]]:
        env = coco.Environment(coco.Settings(db_path=self._store, lmdb_map_size=1 << 20))
        return env, coco.App(coco.AppConfig("hostile", env), main)

    def _update(self) -> None:
        env, app = self._app()
        try:
            app.update_blocking()
        finally:
            env.close()

    def _look(self) -> None:
        env, app = self._app()
        try:
            asyncio.run(look(app))
        finally:
            env.close()

    def _drop(self) -> None:
        env, app = self._app()
        try:
            app.drop_blocking()
        finally:
            env.close()

    def _stored(self) -> dict[bytes, bytes]:
        store = open_store(self._store)
        try:
            return dict(store.section("hostile").scan(b""))
        finally:
            store.close()

    def _put(self, changed: dict[bytes, bytes]) -> None:
        store = open_store(self._store)
        section = store.section("hostile")
        section.clear()
        section.write([*{**self._rows, **changed}.items()])
        store.flush()
        store.close()

    def try_out(self, key: bytes, value: bytes) -> dict[str, str]:
        outcomes = {}
        updates_only = key[:1] in b"CFU"  # nothing else reads these
        for name, operation in (
            ("look", self._look), ("update", self._update), ("drop", self._drop)
        ):  # fmt: skip
            if name != "update" and updates_only:
                continue
            self._put({key: value})
            outcomes[name] = outcome(operation)
        return outcomes

    def run(self) -> Iterator[dict[str, Any]]:
        rng = random.Random(SEED)
        fixed = [*forbidden(), *bombs(), *arrays()]
        for key, value in self._rows.items():
            tag = key[:1]
            if tag in b"LM":
                blobs = []
            elif tag in b"KCFU":
                blobs = [(name, embedded(tag, value, blob)) for name, blob in fixed]
            else:
                blobs = [(name, blob) for name, blob in fixed if name in WHOLE]
            chosen = blobs if tag not in SEEN else []
            SEEN.add(tag)
            for name, blob in (*chosen, *damaged(value, rng)):
                yield {"row": tag.decode(), "blob": name, **self.try_out(key, blob)}


WHOLE = ("empty", "unknown route", "bare array", "bare nesting")
SEEN: set[bytes] = set()


async def look(app: coco.App[[], None]) -> None:
    await inspect.list_stable_paths(app)
    async for _ in inspect.iter_stable_path_details(app):
        pass
    async for _ in inspect.iter_target_states(app):
        pass


def limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + SPARE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    warnings.simplefilter("ignore")
    trials = Trials(Path.cwd())
    import numpy as np

    np.zeros(4).dot(np.zeros(4))  # the threads of its algebra take address space
    if sys.platform.startswith("linux"):
        limit_memory()
    for result in trials.run():
        print(json.dumps(result), flush=True)
    print(json.dumps({"executed": Path(MARK).exists(), "imported": "antigravity" in sys.modules}))
