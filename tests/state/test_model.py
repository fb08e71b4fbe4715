"""Random histories of one section, compared with a dict."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cocoindex.state.memory import MemoryStore
from cocoindex.state.open import open_store
from cocoindex.state.rows import prefix_end

STEM = b"\xff" * 474
PARTS = st.binary(max_size=3).map(lambda tail: bytes(b"\x00a\xff"[b % 3] for b in tail))
KEYS = PARTS | PARTS.map(lambda tail: STEM + tail) | PARTS.map(lambda tail: STEM + b"a" * 35 + tail)
VALUES = st.none() | st.binary(max_size=4) | st.sampled_from([70_000]).map(bytes)
BATCHES = st.lists(st.tuples(KEYS, VALUES), max_size=6)


class SectionModel(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.model: dict[bytes, bytes] = {}
        self.durable: dict[bytes, bytes] = {}
        self.views = []
        self.leases = []
        self.open()

    @property
    def section(self):
        return self.store.section("app")

    @rule(batch=BATCHES)
    def write(self, batch):
        self.section.write(batch)
        for key, value in batch:
            if value is None:
                self.model.pop(key, None)
            else:
                self.model[key] = value

    @rule()
    def flush(self):
        self.store.flush()
        self.durable = dict(self.model)

    @rule()
    def clear(self):
        self.section.clear()
        self.model = {}

    @rule()
    def snapshot(self):
        context = self.section.snapshot()
        self.views.append((context, context.__enter__(), dict(self.model)))

    @rule()
    def lease(self):
        """Taken, or given back."""
        if self.leases:
            self.leases.pop().__exit__(None, None, None)
        else:
            self.leases.append(self.section.acquire_lease())
            self.leases[-1].__enter__()

    @rule(keys=st.lists(KEYS))
    def get_ahead(self, keys):
        keys.sort()
        expected = [self.model.get(key) for key in keys]
        assert [self.section.get(key, ahead=True) for key in keys] == expected

    @rule(keys=st.lists(KEYS))
    def get(self, keys):
        expected = [self.model.get(key) for key in keys]
        assert [self.section.get(key) for key in keys] == expected
        assert self.section.get_many(keys) == expected

    @rule(
        prefix=KEYS,
        start=st.none() | KEYS,
        limit=st.none() | st.integers(min_value=0, max_value=5),
    )
    def scan(self, prefix, start, limit):
        rows = sorted(row for row in self.model.items() if row[0].startswith(prefix))
        assert self.section.scan_keys(prefix) == [key for key, _ in rows]
        rows = [row for row in rows if start is None or row[0] >= start]
        assert self.section.scan(prefix, start=start, limit=limit) == rows[:limit]

    @invariant()
    def snapshots_stay(self):
        for _, view, model in self.views[-2:]:
            assert list(view.scan(b"")) == sorted(model.items())

    def end_views(self):
        while self.views:
            self.views.pop()[0].__exit__(None, None, None)

    def teardown(self):
        self.end_views()
        assert self.section.scan(b"") == sorted(self.model.items())
        self.store.close()


class LmdbModel(SectionModel):
    def open(self):
        self.directory = Path(tempfile.mkdtemp())
        self.store = open_store(self.directory, map_size=1 << 16)

    @rule()
    def reopen(self):
        self.end_views()
        self.leases.clear()
        self.store.close()
        self.store = open_store(self.directory, map_size=1 << 16)
        self.durable = dict(self.model)

    def teardown(self):
        super().teardown()
        shutil.rmtree(self.directory)


class MemoryModel(SectionModel):
    def open(self):
        self.store = MemoryStore()

    @rule()
    def crash(self):
        self.end_views()
        self.leases.clear()
        self.store = self.store.crash()
        self.model = dict(self.durable)


LIMITS = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
LmdbModel.TestCase.settings = LIMITS
MemoryModel.TestCase.settings = LIMITS
TestLmdbModel = LmdbModel.TestCase
TestMemoryModel = MemoryModel.TestCase


def test_the_end_of_a_prefix_is_the_next_key_without_it():
    assert prefix_end(b"a") == b"b"
    assert prefix_end(b"a\xff\xff") == b"b"
    assert prefix_end(b"\xff") is None
    assert prefix_end(b"") is None
