"""Phantom types that say whether a container target is pending or resolved."""

from __future__ import annotations

from typing import final

from typing_extensions import TypeVar

from cocoindex.engine.generics import T1, Generic1


@final
class PendingS:
    """Marks a target whose container was declared, but not applied yet."""


@final
class ResolvedS:
    """Marks a target on which children may be declared."""


MaybePendingS = TypeVar("MaybePendingS", PendingS, ResolvedS, default=ResolvedS)


class ResolvesTo(Generic1[T1]):
    """Says what an object with pending targets becomes once its component is ready."""

    __slots__ = ()
