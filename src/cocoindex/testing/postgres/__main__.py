"""``python -m cocoindex.testing.postgres DIRECTORY [-- COMMAND ...]``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from cocoindex.testing.postgres import PostgresUnavailableError, local_postgres


def main(arguments: Sequence[str]) -> int:
    """Run a command with a database, or keep one running until interrupted.

    ``python -m cocoindex.testing.postgres DIRECTORY [-- COMMAND ...]``: the command finds the
    URL in ``COCOINDEX_DATABASE_URL`` and ``POSTGRES_URL``. Returns its exit status.
    """
    if not arguments or arguments[0].startswith("-") or arguments[1:2] not in ([], ["--"]):
        sys.stderr.write("usage: python -m cocoindex.testing.postgres DIRECTORY [-- COMMAND ...]\n")
        return 2
    try:
        return _serve(arguments[0], list(arguments[2:]))
    except PostgresUnavailableError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 1


def _serve(directory: str, command: list[str]) -> int:
    with local_postgres(directory) as server:
        if command:
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
