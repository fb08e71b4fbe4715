"""What sources tell the engine besides their items."""

from __future__ import annotations

from cocoindex.core.listing import Unlisted

__all__ = ["Unlisted"]
