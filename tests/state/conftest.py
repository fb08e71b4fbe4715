import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import pytest

import cocoindex.errors

SOURCES = str(Path(cocoindex.errors.__file__).parents[1])
Program = subprocess.Popen[str]


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Start a program text in another process; talk to it through its stdin and stdout."""
    running: list[Program] = []

    def run(code: str, *args: object) -> Program:
        program = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": SOURCES},
        )
        running.append(program)
        return program

    yield run
    for program in running:
        program.kill()
        program.communicate()


HOLDER = """
    import sys
    from cocoindex.state.open import open_store
    store = open_store(sys.argv[1])
    section = store.section("app")
    lease = section.acquire_lease()
    section.write([(b"a", b"holder")])
    store.flush()
    print("held", flush=True)
    sys.stdin.readline()
    lease.__exit__(None, None, None)
    print("released", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def hold(start: Callable[..., Program]) -> Callable[[object], Program]:
    """Another process takes the lease of "app" in the store there, and waits for a line."""

    def run(place: object) -> Program:
        program = start(HOLDER, place)
        assert program.stdout is not None
        assert program.stdout.readline() == "held\n"
        return program

    return run


class Proxy:
    """A network between a store and its server, that fails at the n-th thing sent to the server.

    "before": it is not delivered; "after": it is, but not the answer; "late": the connection
    breaks, and it is delivered only by :meth:`deliver`.
    """

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = url.replace(f":{self._server.port}/", f":{port}/")
        self.sent = 0
        self._at, self._how = 0, "before"
        self._late: list[tuple[socket.socket, bytes]] = []
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def fail(self, at: int, how: Literal["before", "after", "late"]) -> None:
        """Fail at the ``at``-th thing sent from now on (counting from 1)."""
        with self._lock:
            self.sent, self._at, self._how = 0, at, how

    def deliver(self) -> None:
        """Deliver what was held back, and wait until the server has dealt with it."""
        for server, data in self._late:
            with suppress(OSError):  # the server has given up on it
                server.sendall(data)
                server.shutdown(socket.SHUT_WR)
                while server.recv(1 << 16):
                    pass
            server.close()
        self._late.clear()

    def close(self) -> None:
        self._listener.close()
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._server.hostname, self._server.port))
                self._open += [client, server]
                mute = threading.Event()
                for pump, ends in ((self._forth, (client, server)), (self._back, (server, client))):
                    threading.Thread(target=pump, args=(*ends, mute), daemon=True).start()

    def _forth(self, client: socket.socket, server: socket.socket, mute: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 20):
                with self._lock:
                    self.sent += 1
                    how = self._how if self.sent == self._at else None
                if how == "before":
                    break
                if how == "late":
                    self._late.append((server, data))
                    mute.set()
                    client.shutdown(socket.SHUT_RDWR)
                    return
                if how == "after":
                    mute.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)
            client.shutdown(socket.SHUT_RDWR)

    def _back(self, server: socket.socket, client: socket.socket, mute: threading.Event) -> None:
        with suppress(OSError):
            while True:
                data = server.recv(1 << 20) if not mute.is_set() or not self._late else b""
                if not data or mute.is_set():
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(pg18: str) -> Iterator[Proxy]:
    """A network to a fresh database that can fail."""
    with closing(Proxy(pg18)) as between:
        yield between
