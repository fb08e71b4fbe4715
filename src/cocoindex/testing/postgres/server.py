"""A server that runs as long as this process, and ends with it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocoindex.testing.postgres.wheels import PostgresUnavailableError, user_for_server

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["PostgresServer"]

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_POLL = 0.01

_GUARD = """
exec 3<&0
pid=$$
( (
    read -r goodbye <&3
    kill -INT "$pid"
    if [ -z "$goodbye" ] && [ -n "$REMOVE" ]; then
        left=100
        while [ $left -gt 0 ] && kill -0 "$pid"; do sleep 0.1; left=$((left - 1)); done
        rm -rf "$REMOVE"
    fi
) >/dev/null 2>&1 & )
exec "$@" </dev/null 3<&-
"""
"""Becomes the server; what it leaves behind ends the server when our end of the pipe closes. If
that comes without a word, we were killed, and it also removes what is temporary."""


class PostgresServer:
    """A running server.

    Attributes:
        directory: where its data and its log (``server.log``) are.
        port: where it listens, on 127.0.0.1.
        password: of the user ``postgres``, a superuser.
    """

    def __init__(
        self,
        binaries: Path,
        directory: Path,
        settings: Mapping[str, str],
        *,
        port: int | None = None,
        is_temporary: bool = False,
    ) -> None:
        self.directory = directory
        self._is_temporary = is_temporary
        self.port = port or _free_port()
        self._binaries = binaries
        self._settings = settings
        self._user = user_for_server()
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
                env={**os.environ, "REMOVE": str(self.directory) if self._is_temporary else ""},
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
        with suppress(BrokenPipeError):
            process.stdin.write(b"goodbye\n")
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


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
