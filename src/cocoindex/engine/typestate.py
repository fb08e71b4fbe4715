"""Phantom types that say whether a container target is pending or resolved."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, final

from cocoindex.engine.generics import T1, Generic1


@final
class PendingS:
    """Marks a target whose container was declared, but not applied yet."""


@final
class ResolvedS:
    """Marks a target on which children may be declared."""


if TYPE_CHECKING:  # its default matters to type checkers only, and the import is slow
    from typing_extensions import TypeVar as TypeVarWithDefault

    MaybePendingS = TypeVarWithDefault("MaybePendingS", PendingS, ResolvedS, default=ResolvedS)
else:
    MaybePendingS = TypeVar("MaybePendingS", PendingS, ResolvedS)


class ResolvesTo(Generic1[T1]):
    """Says what an object with pending targets becomes once its component is ready."""

    __slots__ = ()
