"""``python -m cocoindex``: the command line."""

from __future__ import annotations

from cocoindex.cli.main import main

if __name__ == "__main__":
    main()
