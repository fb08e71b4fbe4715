"""What to do with tracked items that are not declared any more, provider by provider.

Usually the provider is live in this run and its handler reconciles the deletion. If not, its
container is gone (forget: the container's own deletion has covered the item), or it is merely
unknown as yet (keep: the end of this run, or a later one, can still clean up), or the container
has asked for its children's deletions, and its own deletion tells which handler they need.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cocoindex.core.keys import StableKey, Symbol, decode_key, decode_path, encode_path, path_text
from cocoindex.core.sentinels import NON_EXISTENCE
from cocoindex.engine import rows
from cocoindex.engine.entry import Entry, Group, GroupKey
from cocoindex.engine.execution import Provider
from cocoindex.engine.providers import HandlerInfo, attachment_handler, root_provider
from cocoindex.engine.rows import Item
from cocoindex.engine.takeover import MustWait
from cocoindex.engine.targets import TargetReconcileOutput, check_handler
from cocoindex.errors import DeserializationError, UsageError

if TYPE_CHECKING:
    from cocoindex.engine.run import Run


class Verdict(Enum):
    """What happens to the undeclared items of one group."""

    RECONCILE = auto()
    FORGET = auto()
    KEEP = auto()


class Judgement(NamedTuple):
    verdict: Verdict
    provider: Provider | None = None
    info: HandlerInfo | None = None


_FORGET = Judgement(Verdict.FORGET)
_KEEP = Judgement(Verdict.KEEP)


class ProviderUnavailable(UsageError):
    """An item can't be deleted now, because nothing in this run knows how; it stays tracked."""


class ContainerUnavailable(ProviderUnavailable):
    """The container of the item has not been met in this run, and is still tracked."""

    def __init__(self, path: str, owner_id: int) -> None:
        super().__init__(
            f"target states below {path} can't be deleted: their container was neither "
            "declared nor deleted in this run; the next run that does either will delete them"
        )
        self.owner_id = owner_id


class AbsentProviders:
    """Judges the groups of one component's entry."""

    def __init__(self, run: Run, entry: Entry, mode: Literal["build", "delete"]) -> None:
        self._run = run
        self._entry = entry
        self._mode = mode
        self._judged: dict[GroupKey, Judgement] = {}
        self._derived: dict[tuple[StableKey, ...], HandlerInfo | None] = {}
        self.emptied: dict[bytes, Item] = {}
        """Containers that are declared as leaves now, by target path: as they were before."""

    def judge(self, group: Group) -> Judgement:
        key = group.group_key
        known = self._judged.get(key)
        if known is None:
            known = self._judged[key] = self._judge(group)
        return known

    def _judge(self, group: Group) -> Judgement:
        provider = self._run.find_provider(group.path)
        if provider is not None:
            return self._judge_live(group, provider)
        keys = decode_path(group.path)
        if root_provider(keys[0]) is None:
            return self._unregistered(keys)
        derived = self._derive(keys)
        if derived is not None:
            return Judgement(Verdict.RECONCILE, None, derived)
        raw = container_row(self._run, keys)
        owner_id = None if raw is None else rows.unpack_id(raw)
        if owner_id in (None, self._entry.component_id):
            return _FORGET
        # A container whose deletion has only begun may yet be declared again and stay.
        if self._mode == "build":
            return _KEEP
        assert owner_id is not None
        in_flight = self._run.app.in_flight.get(owner_id)
        if in_flight is not None:
            raise MustWait(in_flight)
        raise ContainerUnavailable(path_text(keys), owner_id)

    def _judge_live(self, group: Group, provider: Provider) -> Judgement:
        if provider.is_pending:
            # Its container has not been applied, and may fail to be.
            if self._mode == "delete":
                raise ProviderUnavailable(
                    f"target states below {provider} can't be deleted: their container was "
                    "declared, but not applied; the next run that applies it will delete them"
                )
            return _KEEP
        if provider.provider_id != group.provider_id:
            return _FORGET
        return Judgement(Verdict.RECONCILE, provider, provider.require_info())

    def _unregistered(self, keys: tuple[StableKey, ...]) -> Judgement:
        name = keys[0].name if isinstance(keys[0], Symbol) else str(keys[0])
        message = (
            f"no target connector is registered under {name!r} in this process (its module was "
            "not imported); the target states it tracks are kept until it is"
        )
        if self._run.is_drop:
            raise ProviderUnavailable(f"can't drop: {message}")
        if self._mode == "delete":
            raise ProviderUnavailable(message)
        self._run.warn_once(("unavailable", message), "%s", message)
        return _KEEP

    # --- handlers told by a container's own deletion -------------------------------------------

    def _derive(self, keys: tuple[StableKey, ...]) -> HandlerInfo | None:
        if keys not in self._derived:
            self._derived[keys] = self._derive_handler(keys)
        return self._derived[keys]

    def _derive_handler(self, keys: tuple[StableKey, ...]) -> HandlerInfo | None:
        if len(keys) == 1:
            root = root_provider(keys[0])
            return None if root is None else root.require_info()
        parent = self._handler_at(keys[:-1])
        if parent is None:
            return None
        item = self._find_item(keys)
        if item is None:
            return _attachment_info(parent, keys[-1])
        if not item.children_first:
            return None
        return self._from_deletion(keys, parent, item)

    def _handler_at(self, keys: tuple[StableKey, ...]) -> HandlerInfo | None:
        live = self._run.find_provider(encode_path(keys))
        if live is not None and live.info is not None:
            return live.info
        return self._derive(keys)

    def _from_deletion(
        self, keys: tuple[StableKey, ...], parent: HandlerInfo, item: Item
    ) -> HandlerInfo | None:
        """Ask the container how it would be deleted, and that action's sink for a handler."""
        records, missing = _readable_records(parent, item)
        output: Any = parent.reconcile(
            parent.key(decode_key(item.key)), NON_EXISTENCE, records, missing
        )
        handler = None
        if output is not None:
            output = TargetReconcileOutput(*output)
            factory = output.sink.child_handler
            if factory is not None:
                handler = factory(self._run.context_provider, output.action)
        if handler is None:
            self._run.warn_once(
                ("derive", keys),
                "container %s asks for its children's deletion, but its delete action has no "
                "child handler; its children are forgotten",
                path_text(keys),
            )
            return None
        check_handler(handler, f"children of {path_text(keys)}")
        return HandlerInfo(handler)

    def _find_item(self, keys: tuple[StableKey, ...]) -> Item | None:
        path = rows.target_path_of(encode_path(keys))
        if path in self.emptied:
            return self.emptied[path]
        for _, item in self._entry.at(path):
            return item
        raw = self._run.app.section.get(rows.owner_key(path))
        if raw is None:
            return None
        owner_id = rows.unpack_id(raw)
        tracked = self._run.app.section.get(rows.tracking_key(owner_id))
        for _, item in Entry(owner_id, tracked, 0, b"").at(path):
            return item
        return None


def container_row(run: Run, keys: tuple[StableKey, ...]) -> bytes | None:
    """The owner row of a provider's container; None if nobody tracks it. What hangs on an
    attachment namespace hangs on the container above it.
    """
    for end in range(len(keys), 1, -1):
        raw = run.app.section.get(rows.owner_key(rows.target_path_of(encode_path(keys[:end]))))
        if raw is not None or not isinstance(keys[end - 1], Symbol):
            return raw
    return None


def _attachment_info(parent: HandlerInfo, key: StableKey) -> HandlerInfo | None:
    if not isinstance(key, Symbol):
        return None
    handler = attachment_handler(parent.handler, key.name)
    return None if handler is None else HandlerInfo(handler)


def _readable_records(info: HandlerInfo, item: Item) -> tuple[list[Any], bool]:
    records: list[Any] = []
    missing = item.has_absent
    for payload in item.records:
        try:
            records.append(info.decode_record(payload))
        except DeserializationError:
            missing = True
    return records, missing


__all__ = [
    "AbsentProviders",
    "ContainerUnavailable",
    "Judgement",
    "ProviderUnavailable",
    "Verdict",
]
