"""What is attached to a table besides its rows: indexes, commands."""

# ruff: noqa: ARG002 - defaults take what overriding methods need

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Literal, TypeVar

from cocoindex.connectorkits.tables.model import Layout

__all__ = ["AttachmentKind"]

SpecT = TypeVar("SpecT")


class AttachmentKind(ABC, Generic[SpecT]):
    """One type of attachment. Has no state; ``SpecT`` says what one attachment should be."""

    last: ClassVar[bool] = True
    """Whether they are applied after the rows of the component that declares them."""
    outlives_table: ClassVar[bool] = False
    """Whether dropping the table leaves something of it behind, or is even prevented by it, so
    that it has to be dropped by itself, and first."""
    may_block: ClassVar[bool] = False
    """Whether what it made can be in the way of a change of the table; then :meth:`undo` removes
    it. What was undone is made again by the same update."""
    on_missing: ClassVar[Literal["ensure", "replace"]] = "ensure"
    """What to do if one may be missing: create it unless it is there, or drop and create it."""

    def identity(self, spec: SpecT) -> object:
        """What is fingerprinted; a change of it replaces the attachment. Plain data."""
        return spec

    def data(self, spec: SpecT) -> tuple[str | None, ...]:
        """What :meth:`drop` needs to know besides the name; kept in the record."""
        return ()

    def needs_rows(self, spec: SpecT) -> bool:
        """Whether it can't be made, or would be useless, while the table is empty."""
        return False

    def is_done(self, spec: SpecT, error: BaseException) -> bool:
        """Whether :meth:`create` failed because it had been done before; asked only if just
        this was tried before, and may be there still.
        """
        return False

    @abstractmethod
    async def create(self, client: Any, layout: Layout, key: str, spec: SpecT) -> bool:
        """Make it, unless it is there already. ``False``: not yet, the table has too few rows."""

    @abstractmethod
    async def drop(
        self, client: Any, layout: Layout, key: str, data: tuple[str | None, ...]
    ) -> None:
        """Remove it; that it is gone already is fine."""

    async def undo(self, tx: Any, layout: Layout, key: str, data: tuple[str | None, ...]) -> None:
        """As :meth:`drop`, in the transaction that changes the table, so that all of it is taken
        back if the change fails nevertheless.
        """

    def describe(self, key: str, spec: SpecT | None) -> str:
        """For previews; ``spec`` is ``None`` for an attachment that goes."""
        return f"{'drop' if spec is None else 'create'} {key}"
