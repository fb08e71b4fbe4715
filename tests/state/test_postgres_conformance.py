"""The suite that every store passes, on Postgres."""

from pathlib import Path

import pytest

from cocoindex.state.base import Section, Store
from cocoindex.state.open import open_store
from cocoindex.testing.stores import StoreConformance


class TestPostgresStore(StoreConformance):
    @pytest.fixture(autouse=True)
    def database(self, pg: str) -> None:
        self.url = pg

    def open_store(self, location: Path) -> Store:
        return open_store(f"{self.url}?schema={location.name}")


def test_the_store_fulfils_the_protocols(pg18: str) -> None:
    store = open_store(pg18)
    assert isinstance(store, Store)
    assert isinstance(store.section("app"), Section)
    store.close()
