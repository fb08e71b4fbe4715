from pathlib import Path

from cocoindex.state.base import Section, Store
from cocoindex.state.memory import MemoryDisk, MemoryStore
from cocoindex.state.open import open_store
from cocoindex.testing.stores import StoreConformance


class TestLmdbStore(StoreConformance):
    def open_store(self, location: Path) -> Store:
        return open_store(location)


class TestLmdbStoreThatStartsSmall(StoreConformance):
    def open_store(self, location: Path) -> Store:
        return open_store(location, map_size=1)


class TestMemoryStore(StoreConformance):
    def setup_method(self) -> None:
        self.disks: dict[Path, MemoryDisk] = {}

    def open_store(self, location: Path) -> Store:
        return MemoryStore(self.disks.setdefault(location, MemoryDisk()))


def test_the_stores_fulfil_the_protocols(tmp_path: Path) -> None:
    for store in (MemoryStore(), open_store(tmp_path)):
        assert isinstance(store, Store)
        assert isinstance(store.section("app"), Section)
        store.close()
