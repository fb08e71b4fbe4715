"""What deletes whole components, for most of those that a drop meets: their target states are no
containers, and there is a handler to ask, or their container is gone. Of all others the planner
knows (see ``planner``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from cocoindex.core.sentinels import NON_EXISTENCE
from cocoindex.engine import rows
from cocoindex.engine.absent_providers import AbsentProviders, ProviderUnavailable, Verdict
from cocoindex.engine.entry import Entry, Group, GroupKey
from cocoindex.engine.providers import HandlerInfo
from cocoindex.engine.reconciling import deletions
from cocoindex.engine.rows import ItemGroup, TrackingRow
from cocoindex.engine.submission import SinkActions, actions_for

if TYPE_CHECKING:
    from cocoindex.engine.run import Run


MOST_HANDLERS = 4096
"""Handlers remembered at a time."""


class _Handler(NamedTuple):
    """How the items of a group are deleted, by whichever component they are tracked."""

    info: HandlerInfo | None
    """``None``: they have gone with their container."""
    schema_version: int
    group: Group
    """An empty one, for messages."""


class Clearing:
    """Asks handlers about all that components track; each group's handler is found once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._handlers: dict[GroupKey, _Handler] = {}

    def actions_of(self, row: TrackingRow) -> list[SinkActions] | None:
        """What deletes all that a component tracks; ``None`` if that is for the planner."""
        by_sink: list[SinkActions] = []
        for group in row.groups:
            if group.others:
                return None
            handler = self._handlers.get((group.path, group.provider_id)) or self._find(group)
            if handler is None or not self._ask(handler, group, by_sink):
                return None
        return by_sink

    def _find(self, stored: ItemGroup) -> _Handler | None:
        """A handler that stays the same while the drop goes on."""
        group = Group(stored.path, stored.provider_id, 0, rows.target_path_of(stored.path))
        nobody = Entry(0, None, rows.ROOT_PARENT_ID, b"")
        try:
            verdict, provider, info = AbsentProviders(self._run, nobody, "delete").judge(group)
        except ProviderUnavailable:
            return None
        if provider is not None and info is not None:
            handler = _Handler(info, provider.schema_version, group)
        elif verdict is Verdict.FORGET:
            handler = _Handler(None, 0, group)
        else:
            return None  # its container tells, while that is there
        if len(self._handlers) >= MOST_HANDLERS:  # of containers that are gone: soon met no more
            self._handlers.clear()
        return self._handlers.setdefault(group.group_key, handler)

    def _ask(self, handler: _Handler, group: ItemGroup, by_sink: list[SinkActions]) -> bool:
        """Whether nothing stays of the items once these actions are applied."""
        info = handler.info
        if info is None:
            return True
        missing = self._run.full_reprocess or group.schema_version != handler.schema_version
        return self._ask_about(handler, info, group.settled, missing, by_sink) and (
            not group.unsure or self._ask_about(handler, info, group.unsure, True, by_sink)
        )

    def _ask_about(
        self,
        handler: _Handler,
        info: HandlerInfo,
        items: Mapping[bytes, bytes],
        missing: bool,
        by_sink: list[SinkActions],
    ) -> bool:
        sink = None
        add = by_sink.append
        for _, output in deletions(self._run, info, handler.group, items.items(), missing):
            if output.tracking_record is not NON_EXISTENCE:
                return False
            if output.sink is not sink:  # comparing keys calls user code
                sink = output.sink
                add = actions_for(by_sink, sink).actions.append
            add(output.action)
        return True
