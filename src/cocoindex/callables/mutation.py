"""Which names a function's body mutates: they are its working state, not its constants."""

from __future__ import annotations

import ast
from typing import Final, TypeGuard

__all__ = ["MUTATING_METHODS", "mutated_names"]

MUTATING_METHODS: Final = frozenset(
    {
        "add",
        "append",
        "appendleft",
        "clear",
        "difference_update",
        "discard",
        "extend",
        "extendleft",
        "insert",
        "intersection_update",
        "move_to_end",
        "pop",
        "popitem",
        "popleft",
        "remove",
        "reverse",
        "rotate",
        "setdefault",
        "sort",
        "subtract",
        "symmetric_difference_update",
        "update",
        "__delattr__",
        "__delitem__",
        "__iadd__",
        "__ior__",
        "__setattr__",
        "__setitem__",
    }
)
"""Methods that change a standard container in place."""


def mutated_names(function: ast.AST) -> frozenset[str]:
    """Names on whose object ``function`` stores, deletes, augments or calls a mutating method.

    ``a[k] = v``, ``a.b = v``, ``del a[k]``, ``a += b``, ``a[k].append(v)`` all mutate ``a``.
    """
    names: set[str | None] = set()
    for node in ast.walk(function):
        if isinstance(node, (ast.Subscript, ast.Attribute)):
            if not isinstance(node.ctx, ast.Load):
                names.add(_root(node))
        elif isinstance(node, ast.AugAssign):
            names.add(_root(node.target))
        elif _calls_mutating_method(node):
            names.add(_root(node.func))
    return frozenset(name for name in names if name is not None)


def _calls_mutating_method(node: ast.AST) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in MUTATING_METHODS
    )


def _root(node: ast.AST) -> str | None:
    """The name at the start of ``a.b[c].d``."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
