"""What is tracked and not declared any more: kept for now, or on its way out."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Literal

import msgspec

from cocoindex.core.keys import decode_key
from cocoindex.core.sentinels import NON_EXISTENCE
from cocoindex.engine.absent_providers import AbsentProviders, Verdict
from cocoindex.engine.declarations import Declarations
from cocoindex.engine.entry import Group
from cocoindex.engine.execution import Provider
from cocoindex.engine.providers import HandlerInfo
from cocoindex.engine.reconciling import Output, checked, deletions, previous, serialized
from cocoindex.engine.submission import Submission
from cocoindex.engine.takeover import Takeovers

if TYPE_CHECKING:
    from cocoindex.engine.run import Run

Spared = Callable[[Group], AbstractSet[bytes]]
"""The keys of a group's items that stay."""

Left = list[tuple[Group, list[bytes]]]

Mode = Literal["build", "delete"]


class Leaving(msgspec.Struct, eq=False):
    """Reconciles the deletion of items."""

    _run: Run
    _submission: Submission
    _takeovers: Takeovers
    _mode: Mode
    _absent: AbsentProviders | None = None

    @property
    def absent(self) -> AbsentProviders:
        """Made when something leaves: mostly nothing does."""
        if self._absent is None:
            self._absent = AbsentProviders(self._run, self._submission.entry, self._mode)
        return self._absent

    def undeclared(self, declarations: Declarations, contained: set[bytes]) -> None:
        """Every item but the declared ones: kept if a reused memo covers it, else it goes."""

        def spared(group: Group) -> AbstractSet[bytes]:
            below = declarations.below(group.target_path)
            if below is None or not self._is_current(group, below.provider):
                declared: AbstractSet[bytes] = frozenset()
            else:
                declared = below.known.keys()
            if not contained:
                return declared
            return declared | {key for key in group.keys() if group.path_of(key) in contained}  # noqa: SIM118 - no dictionary

        self.all_but(spared)
        if contained:
            tracked = self._submission.entry.settled_paths()
            declared = {*declarations.paths()}
            self._submission.robbed_memos = contained - declared - tracked.keys()

    def _is_current(self, group: Group, declared_below: Provider) -> bool:
        """Whether the group belongs to the present generation of its provider."""
        provider: Provider | None = declared_below
        if not self._run.is_live(declared_below):
            provider = self._run.find_provider(group.path)
        return provider is None or provider.provider_id == group.provider_id

    def all_but(self, spared: Spared) -> None:
        """Reconcile the deletion of all other items."""
        left = self._left(spared)
        if left or self._absent is not None:
            self._leave_all(left, spared)

    def _leave_all(self, left: Left, spared: Spared) -> None:
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
        for group in self._submission.entry.groups.values():
            if not group.settled and not group.others:  # all of it is new
                continue
            kept = spared(group)
            if group.settled.keys() <= kept and group.others.keys() <= kept:
                continue
            left.append(
                (group, [key for key in (*group.settled, *group.others) if key not in kept])
            )
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
            is_outdated = version not in (None, group.schema_version)
            missing = is_outdated or self._run.full_reprocess
            self._reconcile(group, keys, info, version, missing)

    def _reconcile(
        self,
        group: Group,
        keys: list[bytes],
        info: HandlerInfo,
        schema_version: int | None,
        missing: bool,
    ) -> None:
        """``missing``: whether even a settled item may be missing."""
        stay: set[bytes] = set()
        settled = [(key, group.settled[key]) for key in keys if key in group.settled]
        for key, output in deletions(self._run, info, group, settled, missing):
            self._submission.add_action(output.sink, output.action)
            if output.tracking_record is not NON_EXISTENCE:
                stay.add(key)
                self._stay(group, key, output, schema_version)
            else:
                group.unsure[key] = group.settled.pop(key)
        for key in keys[len(settled) :]:
            if not self._goes(group, key, info, schema_version):
                stay.add(key)
        self._submission.forget(group, [key for key in keys if key not in stay] if stay else keys)

    def _goes(
        self, group: Group, key: bytes, info: HandlerInfo, schema_version: int | None
    ) -> bool:
        """Reconcile the deletion of an item that is not settled; whether nothing of it stays."""
        item = group.others[key]
        version = item.schema_version if schema_version is None else schema_version
        records, missing = previous(self._run, info, item, version, group)
        returned = info.reconcile(info.key(decode_key(key)), NON_EXISTENCE, records, missing)
        if returned is None:
            return True
        output = checked(returned, group, key)
        self._submission.add_action(output.sink, output.action)
        if output.tracking_record is not NON_EXISTENCE:
            self._stay(group, key, output, schema_version)
            return False
        item.states = (*item.states, (self._submission.version, None))
        return True

    def _stay(self, group: Group, key: bytes, output: Output, schema_version: int | None) -> None:
        """An item that is not declared is to be tracked all the same."""
        item = group.get(key)
        assert item is not None
        if schema_version is None:
            schema_version = item.schema_version
        state = (self._submission.version, serialized(output.tracking_record, group, key))
        item.states = (*item.states, state)
        group.put(item)
        self._submission.settle(group, item, (state,), schema_version)
