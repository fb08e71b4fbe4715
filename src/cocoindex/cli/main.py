"""Entry point of the ``cocoindex`` program."""

from __future__ import annotations

import sys
from typing import NoReturn

from cocoindex.cli.loading import begin_loading


def main() -> NoReturn:
    """Load the command line, run it and exit with its status."""
    begin_loading()
    from cocoindex.cli.program import run

    sys.exit(run())


if __name__ == "__main__":
    main()
