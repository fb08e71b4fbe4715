"""Fixtures for every room: a clean process environment and a state store per test."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# The same examples everywhere, however slow the machine is. To look for new ones:
# HYPOTHESIS_PROFILE=search pytest ...
settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Whatever the shell or a build machine has set: output is tested as a plain terminal gets it.
for _name in (*os.environ,):
    if _name.startswith(("COCOINDEX_", "CLICOLOR", "TTY_")) and "_CRASH_" not in _name:
        del os.environ[_name]
for _name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONWARNINGS", "PYTHONDEVMODE"):
    os.environ.pop(_name, None)
os.environ["TERM"] = "xterm"

# Read when the deadline clock is first used; enables the test clock.
os.environ["COCOINDEX_TESTING"] = "1"

if TYPE_CHECKING:
    import cocoindex as coco
    from cocoindex.testing.postgres import PostgresServer

_LIMIT_SECONDS = 600
"""Many times what the slowest test needs: only what hangs gets there."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Turn a test that hangs into one that fails, where the platform has alarms."""
    if not hasattr(signal, "SIGALRM"):
        return (yield)

    def expire(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"{item.nodeid} took more than {_LIMIT_SECONDS} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.alarm(_LIMIT_SECONDS)
    try:
        return (yield)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


_OF_AN_ENV_FILE = ("COCOINDEX_DB", "COCOINDEX_DATABASE_URL", "COCOINDEX_DELETION_GUARD")


@pytest.fixture(autouse=True)
def _no_settings_of_an_earlier_test(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*_OF_AN_ENV_FILE, "COCOINDEX_MAX_INFLIGHT_COMPONENTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _real_deadline_clock_afterwards() -> Iterator[None]:
    yield
    core = sys.modules.get("cocoindex._internal.core")
    if core is not None:
        core.testing_disable_deadline_clock()


@pytest.fixture
def db_path(tmp_path: Path) -> Path:
    """Where the state store of this test lives; nothing is there yet."""
    return tmp_path / "store"


@pytest.fixture
async def env(db_path: Path) -> AsyncIterator[coco.Environment]:
    """An open environment on the loop of the test; closed afterwards."""
    import cocoindex as coco

    environment = coco.Environment(coco.Settings(db_path=db_path), name="test")
    yield environment
    environment.close()


# Postgres servers out of wheels: one of each version per session, a fresh database per test


@contextmanager
def _postgres(version: int) -> Iterator[PostgresServer]:
    from cocoindex.testing.postgres import PostgresUnavailableError, temporary_postgres

    try:
        running = temporary_postgres(version)
        server = running.__enter__()
    except PostgresUnavailableError as reason:
        pytest.skip(str(reason))
    try:
        yield server
    finally:
        running.__exit__(None, None, None)


@contextmanager
def _database(server: PostgresServer, *, vector: bool = True) -> Iterator[str]:
    url = server.create_database(vector=vector)
    yield url
    server.drop_database(url)


@pytest.fixture(scope="session")
def pg18_server() -> Iterator[PostgresServer]:
    """PostgreSQL 18 with pgvector 0.8. A test that restarts or stops it starts it again."""
    with _postgres(18) as server:
        yield server


@pytest.fixture(scope="session")
def pg16_server() -> Iterator[PostgresServer]:
    """PostgreSQL 16 with pgvector 0.6."""
    with _postgres(16) as server:
        yield server


@pytest.fixture
def pg18(pg18_server: PostgresServer) -> Iterator[str]:
    """URL of a fresh database on PostgreSQL 18; pgvector can be created there."""
    with _database(pg18_server) as url:
        yield url


@pytest.fixture
def pg16(pg16_server: PostgresServer) -> Iterator[str]:
    """URL of a fresh database on PostgreSQL 16; pgvector can be created there."""
    with _database(pg16_server) as url:
        yield url


@pytest.fixture
def pg_without_vector(pg18_server: PostgresServer) -> Iterator[str]:
    """URL of a fresh database where pgvector is not available."""
    with _database(pg18_server, vector=False) as url:
        yield url


@pytest.fixture(params=["pg18", "pg16"])
def pg(request: pytest.FixtureRequest) -> str:
    """URL of a fresh database, on each version of the server in turn."""
    return str(request.getfixturevalue(request.param))
