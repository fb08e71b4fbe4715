"""The deletion guard: no update removes most of a source's children by accident."""

from __future__ import annotations

import os

import msgspec

from cocoindex.errors import UsageValueError

ENV_VAR = "COCOINDEX_DELETION_GUARD"


class DeletionGuard(msgspec.Struct, frozen=True):
    """Withholds removals of one ``mount_each`` call that look like an accident.

    Attributes:
        max_fraction: withhold if more than this part of the children would go, …
        min_items: … and at least this many.
    """

    max_fraction: float = 0.5
    min_items: int = 1000

    def __post_init__(self) -> None:
        if not 0 <= self.max_fraction <= 1:
            raise UsageValueError(
                f"DeletionGuard.max_fraction must be between 0 and 1, not {self.max_fraction!r}"
            )
        if self.min_items < 1:
            raise UsageValueError(
                f"DeletionGuard.min_items must be at least 1, not {self.min_items!r}"
            )

    def withholds(self, removed: int, had: int) -> bool:
        return removed >= self.min_items and removed > self.max_fraction * had

    @staticmethod
    def from_env() -> DeletionGuard | None:
        """The default, or what ``COCOINDEX_DELETION_GUARD`` says (``off`` or ``0.5:1000``)."""
        text = os.environ.get(ENV_VAR, "").strip()
        if not text:
            return DeletionGuard()
        if text.lower() == "off":
            return None
        fraction, _, items = text.partition(":")
        try:
            return DeletionGuard(float(fraction), int(items))
        except ValueError as error:
            raise UsageValueError(
                f"{ENV_VAR}={text!r} is neither 'off' nor 'max_fraction:min_items' "
                f"such as '0.5:1000': {error}"
            ) from None
