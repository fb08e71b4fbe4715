"""Who manages a target container."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ManagedBy"]


class ManagedBy(StrEnum):
    """Whether the engine creates, alters and drops a container, or its user does."""

    SYSTEM = "system"
    USER = "user"
