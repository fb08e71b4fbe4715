"""The part of `make bench` that goes through connectors; see `python -m benchmarks --help`."""

from __future__ import annotations

import pathlib
import sys

# The repository's root instead of this folder, where `profile` would hide the standard module.
sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])

from benchmarks.__main__ import main  # noqa: E402 - found through the line above

if __name__ == "__main__":
    main(("files", "tables"))
