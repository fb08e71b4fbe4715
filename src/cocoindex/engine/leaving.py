"""What is tracked and not declared any more: kept for now, or on its way out."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Literal

from cocoindex.core.keys import decode_key
from cocoindex.core.sentinels import NON_EXISTENCE
from cocoindex.engine.absent_providers import AbsentProviders, Verdict
from cocoindex.engine.declarations import Declarations
from cocoindex.engine.entry import Group
from cocoindex.engine.providers import HandlerInfo
from cocoindex.engine.reconciling import Reconciling, checked, serialized
from cocoindex.engine.takeover import Takeovers
from cocoindex.engine.targets import TargetReconcileOutput

Spared = Callable[[Group], AbstractSet[bytes]]
"""The keys of a group's items that stay."""

Left = list[tuple[Group, list[bytes]]]


class Leaving:
    """Reconciles the deletion of items."""

    def __init__(
        self, reconciling: Reconciling, takeovers: Takeovers, mode: Literal["build", "delete"]
    ) -> None:
        self._reconciling = reconciling
        self._submission = reconciling.submission
        self._entry = reconciling.submission.entry
        self._takeovers = takeovers
        self.absent = AbsentProviders(reconciling.run, self._entry, mode)

    def undeclared(self, declarations: Declarations, contained: set[bytes]) -> None:
        """Every item but the declared ones: kept if a reused memo covers it, else it goes."""

        def spared(group: Group) -> AbstractSet[bytes]:
            is_current = self.absent.is_current(group)
            declared = declarations.below(group.target_path).keys() if is_current else frozenset()
            if not contained:
                return declared
            return declared | {key for key in group.keys() if group.path_of(key) in contained}  # noqa: SIM118 - no dictionary

        self.all_but(spared)
        if contained:
            tracked = self._entry.settled_paths()
            declared = {*declarations.paths()}
            self._submission.robbed_memos = contained - declared - tracked.keys()

    def all_but(self, spared: Spared) -> None:
        """Reconcile the deletion of all other items."""
        left = self._left(spared)
        emptied = [
            group.path_of(key)
            for group, keys in left
            if group.others
            for key in keys
            if (item := group.others.get(key)) is not None and item.children_first
        ]
        emptied += self.absent.emptied
        if emptied:
            left = self._with_children_first(emptied, spared)
        for group, keys in left:
            self._leave(group, keys)

    def _left(self, spared: Spared) -> Left:
        left: Left = []
        for group in self._entry.groups.values():
            if not group.settled and not group.others:  # all of it is new
                continue
            kept = spared(group)
            keys = [key for key in (*group.settled, *group.others) if key not in kept]
            if keys:
                left.append((group, keys))
        return left

    def _with_children_first(self, emptied: list[bytes], spared: Spared) -> Left:
        """Also what others track below containers that must be emptied, innermost first."""
        for container in emptied:
            self._takeovers.claim_below(container)
        return sorted(self._left(spared), key=lambda entry: -len(entry[0].target_path))

    def _leave(self, group: Group, keys: list[bytes]) -> None:
        verdict, provider, info = self.absent.judge(group)
        if verdict is Verdict.KEEP:
            self._submission.kept[group.group_key] = frozenset(keys)
        elif verdict is Verdict.FORGET or info is None:
            self._submission.forget(group, keys)
        else:
            version = None if provider is None else provider.schema_version
            gone = [key for key in keys if self._goes(group, key, info, version)]
            self._submission.forget(group, gone)

    def _goes(
        self, group: Group, key: bytes, info: HandlerInfo, schema_version: int | None
    ) -> bool:
        """Reconcile the deletion of one item; whether nothing of it stays."""
        item = group.get(key)
        assert item is not None
        if schema_version is None:
            schema_version = item.schema_version
        previous, missing = self._reconciling.previous(info, item, schema_version, group)
        returned = info.reconcile(info.key(decode_key(key)), NON_EXISTENCE, previous, missing)
        if returned is None:
            return True
        output: TargetReconcileOutput[Any, Any, Any] = checked(returned, group, key)
        submission = self._submission
        submission.add_action(output.sink, output.action)
        if output.tracking_record is not NON_EXISTENCE:
            record = serialized(output.tracking_record, group, key)
            state = (submission.version, record)
            item.states = (*item.states, state)
            group.put(item)
            submission.settle(group, item, (state,), schema_version)
            return False
        if key in group.settled:
            group.going[key] = group.settled.pop(key)
        else:
            item.states = (*item.states, (submission.version, None))
        return True
