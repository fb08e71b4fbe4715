"""The suite that every store passes, on Postgres."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cocoindex.state.base import Section, Store
from cocoindex.state.open import open_store
from cocoindex.state.postgres.location import PostgresLocation
from cocoindex.state.postgres.mirror import Limits
from cocoindex.state.postgres.store import PostgresStore
from cocoindex.testing.postgres import PostgresServer
from cocoindex.testing.stores import StoreConformance


class OnPostgres(StoreConformance):
    """Every test in a schema of its own, which is cheaper than a database."""

    url: str

    @pytest.fixture
    def location(self, tmp_path: Path) -> Path:
        return tmp_path

    def url_at(self, location: Path) -> str:
        return f"{self.url}?schema={location.name}"

    def open_store(self, location: Path) -> Store:
        return open_store(self.url_at(location))


class TestPostgres18(OnPostgres):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def database(cls, pg18_server: PostgresServer) -> Iterator[None]:
        cls.url = pg18_server.create_database()
        yield
        pg18_server.drop_database(cls.url)


class TestPostgres16(OnPostgres):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def database(cls, pg16_server: PostgresServer) -> Iterator[None]:
        cls.url = pg16_server.create_database()
        yield
        pg16_server.drop_database(cls.url)


class LeasedStore(PostgresStore):
    """Takes the lease of every section at once, so that rows are mirrored in memory."""

    def section(self, name: str) -> Section:
        is_new = name not in self._sections
        section = super().section(name)
        if is_new and name != "unused":
            section.acquire_lease()
        return section


class TestUnderTheLease(TestPostgres18):
    limits = Limits()

    def open_store(self, location: Path) -> Store:
        return LeasedStore(PostgresLocation.of(self.url_at(location)), limits=self.limits)


class TestUnderTheLeaseWithLittleMemory(TestUnderTheLease):
    limits = Limits(size=2_000, value=4, keys=30)


def test_the_store_fulfils_the_protocols(pg18: str) -> None:
    store = open_store(pg18)
    assert isinstance(store, Store)
    assert isinstance(store.section("app"), Section)
    store.close()
