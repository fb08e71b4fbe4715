"""Which directories stood before files were put into them."""

from __future__ import annotations

import os
from collections.abc import Callable

from cocoindex.connectors.localfs._names import parent_of

__all__ = ["Standing"]


class Standing:
    """Tells directories of others from those that are made for files.

    What stands empty when the first file is declared in it was made by others. What holds
    something may be ours, from an earlier run: that it is removed when it is empty is promised.
    """

    __slots__ = ("_known", "_root")

    def __init__(self, root: Callable[[], str]) -> None:
        self._root = root
        # Looked at once: later there is a file of ours in it.
        self._known: dict[str, int] = {}

    def above(self, path: str) -> int:
        """How many of the directories above ``path``, from the root down, are of others."""
        parent = parent_of(path)
        if not parent:
            return 0
        known = self._known.get(parent)
        if known is None:
            known = self._known[parent] = self._look(parent)
        return known

    def _look(self, parent: str) -> int:
        try:
            with os.scandir(os.path.join(self._root(), parent)) as entries:
                is_empty = next(entries, None) is None
        except FileNotFoundError:
            return self.above(parent)
        except OSError:
            return 0  # writing there will tell
        return parent.count("/") + 1 if is_empty else 0
