"""From a tracked root to a directory on this machine."""

from __future__ import annotations

import os
from typing import Protocol

from cocoindex.connectors.localfs._entries import Tree
from cocoindex.errors import MissingKeyError, UsageTypeError

__all__ = ["Context", "locate"]


class Context(Protocol):
    """The part of a context provider that is needed here."""

    def get(self, key: str, /) -> object: ...


def locate(context_provider: Context, tree: Tree) -> str:
    """The path of ``tree`` now.

    Raises:
        KeyError: the base directory's context key is not provided.
        TypeError: it does not provide a path.
    """
    if tree.base is None:
        return tree.root
    try:
        base = context_provider.get(tree.base)
    except KeyError:
        raise MissingKeyError(
            f"context key {tree.base!r}, the base directory of the localfs target "
            f"{tree.root!r}, is not provided"
        ) from None
    if not isinstance(base, str | os.PathLike):
        raise UsageTypeError(
            f"Context key {tree.base!r}: expected a pathlib.Path, got {type(base).__name__}"
        )
    base = os.fspath(base)
    return base if tree.root in ("", ".") else os.path.join(base, tree.root)
