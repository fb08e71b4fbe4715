"""Check a store in a test, against every invariant of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cocoindex.engine.fsck import Finding, Severity, check_section

if TYPE_CHECKING:
    from cocoindex.engine.environment import Environment
    from cocoindex.state.base import Store

__all__ = ["Finding", "Severity", "fsck"]


def fsck(where: Environment | Store, app_name: str) -> list[Finding]:
    """What is wrong in the stored state of one app; empty after a clean update.

    Args:
        where: an environment (its store is opened if need be), or an open store.
        app_name: the app; one that was never run has nothing to find.
    """
    store = where if hasattr(where, "section") else where.store
    with store.section(app_name).snapshot() as snapshot:
        return list(check_section(snapshot))
