"""Compares declared files and directories with what is remembered of them."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Any, Final, TypeAlias

import cocoindex as coco
from cocoindex.connectors.localfs._entries import (
    DEFAULTS,
    DirSpec,
    EntryAction,
    EntryRecord,
    FileSpec,
    Options,
    Place,
    RootKey,
    Tree,
    file_place,
)
from cocoindex.connectors.localfs._names import parent_of
from cocoindex.connectors.localfs._observe import observe_entries, observe_roots, page_entries
from cocoindex.connectors.localfs._places import locate
from cocoindex.connectors.localfs._standing import Standing
from cocoindex.connectors.localfs._writer import apply_actions
from cocoindex.core.sentinels import NonExistenceType

__all__ = ["EntryHandler", "RootHandler", "sink"]

_log = logging.getLogger(__name__)

_Desired = FileSpec | DirSpec | NonExistenceType
_Output: TypeAlias = coco.TargetReconcileOutput[EntryAction, EntryRecord, "EntryHandler"]


class EntryHandler(coco.TargetHandler[str, FileSpec | DirSpec, EntryRecord, "EntryHandler"]):
    """Files and directories of one directory target, by name."""

    __slots__ = ("_declared", "_options", "_path", "_shown", "_standing", "_tree")

    def __init__(
        self,
        tree: Tree,
        path: str,
        options: Options,
        declared: set[str],
        shown: str,
        standing: Standing,
    ) -> None:
        self._tree = tree
        self._path = path
        self._shown = shown
        self._options = options
        self._standing = standing
        # Shared by all levels below one root, so that no level prunes what another declares.
        self._declared = declared

    def reconcile(
        self,
        key: str,
        desired: FileSpec | DirSpec | NonExistenceType,
        prev: Collection[EntryRecord],
        prev_may_be_missing: bool,
        /,
    ) -> coco.TargetReconcileOutput[EntryAction, EntryRecord, EntryHandler] | None:
        options = self._options
        if isinstance(desired, FileSpec):
            if not prev_may_be_missing and _is_written(desired, options.mode, prev):
                return None
            kept = self._kept(key, desired, prev)
            return _write(self._place(key), desired, prev, options, kept)
        if isinstance(desired, DirSpec):
            place = self._place(key)
            self._declared.add(place.path)
            stands = _stands(prev, prev_may_be_missing)
            kept = self._kept(key, desired, prev)
            return _mkdir(place, desired, prev, options, self._declared, stands, kept)
        if not prev and not prev_may_be_missing:
            return None
        place = self._place(key)
        levels = min(key.count("/"), _prunable(place.path.count("/"), prev))
        return _delete(place, prev, options, levels, self._declared)

    def _kept(self, key: str, desired: FileSpec | DirSpec, prev: Collection[EntryRecord]) -> int:
        if prev:
            return max(record.kept for record in prev)
        if not desired.create_parents or "/" not in key:
            return 0
        return self._standing.above(self._place(key).path)

    def reconcile_children_on_delete(self, _key: str, record: EntryRecord, /) -> bool:
        """Whether ``record`` is a directory whose entries must be deleted one by one."""
        return _holds_children(record)

    async def observe(
        self, context_provider: coco.ContextProvider, keys: Iterable[str] | None, /
    ) -> Mapping[str, Any] | AsyncIterator[Mapping[str, Any]]:
        """What stands in the directory now; with ``keys=None`` all of it, in pages."""
        if keys is None:
            return page_entries(context_provider, self._tree, self._path, self._options)
        places = {key: self._place(key)[:2] for key in keys}
        return await observe_entries(context_provider, places, self._options)

    def _place(self, key: str) -> Place:
        return Place(self._tree, f"{self._path}/{key}" if self._path else key, self._shown)


class RootHandler(coco.TargetHandler[RootKey, FileSpec | DirSpec, EntryRecord, EntryHandler]):
    """Directory targets and single files, by base directory and path."""

    __slots__ = ()

    def reconcile(
        self,
        key: RootKey,
        desired: FileSpec | DirSpec | NonExistenceType,
        prev: Collection[EntryRecord],
        prev_may_be_missing: bool,
        /,
    ) -> coco.TargetReconcileOutput[EntryAction, EntryRecord, EntryHandler] | None:
        if isinstance(desired, FileSpec):
            moved = _moved(key, desired.root, prev)
            if not (moved or prev_may_be_missing) and _is_written(desired, None, prev):
                return None
            place = file_place(key, desired.root, desired.shown)
            prev = () if moved else prev
            return _write(place, desired, prev, DEFAULTS, _kept_above(key, desired, prev))
        if isinstance(desired, DirSpec):
            moved = _moved(key, desired.root, prev)
            place = Place(Tree(key.base, desired.root or key.path), "", desired.shown)
            prev = () if moved else prev
            stands = _stands(prev, prev_may_be_missing)
            output = _mkdir(place, desired, prev, DEFAULTS, set(), stands)
            # What is known of the children concerns the old place.
            return output._replace(child_invalidation="destructive") if moved else output
        if not prev and not prev_may_be_missing:
            return None
        return self._undeclared(key, prev)

    def _undeclared(self, key: RootKey, prev: Collection[EntryRecord]) -> _Output:
        root = next((record.root for record in reversed([*prev]) if record.root), None)
        if any(record.fingerprint is None for record in prev):
            place = Place(Tree(key.base, root or key.path), "")
        else:
            place = file_place(key, root)
        levels = 0 if _is_anywhere(key.path) else _prunable(key.path.count("/"), prev)
        return _delete(place, prev, DEFAULTS, levels, set())

    def reconcile_children_on_delete(self, _key: RootKey, record: EntryRecord, /) -> bool:
        """Whether ``record`` is a directory whose entries must be deleted one by one."""
        return _holds_children(record)

    async def observe(
        self, context_provider: coco.ContextProvider, keys: Iterable[RootKey] | None, /
    ) -> Mapping[RootKey, Any]:
        """What stands at the given places; foreign roots can't be told, so None gives none."""
        return await observe_roots(context_provider, [RootKey(*key) for key in keys or ()])


def _is_anywhere(path: str) -> bool:
    """Whether the directories above ``path`` are none that would be made for it."""
    return os.path.isabs(path) or ".." in path.split("/")


def _kept_above(key: RootKey, desired: FileSpec, prev: Collection[EntryRecord]) -> int:
    """How many of the directories above a single file are of others."""
    if prev:
        return max(record.kept for record in prev)
    whole = desired.shown or desired.root or ""
    if not desired.create_parents or not whole.endswith(key.path) or _is_anywhere(key.path):
        return 0
    return Standing(lambda: whole.removesuffix(key.path)).above(key.path)


def _prunable(levels: int, prev: Collection[EntryRecord]) -> int:
    """How many of the directories above an entry go with it if that leaves them empty."""
    return max((levels - record.kept for record in prev if record.parents), default=0)


def _moved(key: RootKey, root: str | None, prev: Collection[EntryRecord]) -> bool:
    """Whether a path relative to the working directory now means another place; warns."""
    before = sorted({r.root for r in prev if r.root is not None and r.root != root})
    if root is None or not before:
        return False
    _log.warning(
        "target %r was at %s and is now at %s, because the working directory is another. It "
        "is written anew there; the old place is left as it is. Give the path a base_dir to "
        "make it independent of the working directory.",
        key.path,
        ", ".join(before),
        root,
    )
    return True


def _is_written(desired: FileSpec, mode: int | None, prev: Collection[EntryRecord]) -> bool:
    fingerprint = desired.fingerprint
    for record in prev:
        if record.fingerprint != fingerprint or record.mode != mode:
            return False
    return bool(prev)


def _stands(prev: Collection[EntryRecord], prev_may_be_missing: bool) -> bool:
    """Whether earlier runs surely left a directory."""
    if prev_may_be_missing or not prev:
        return False
    return all(record.fingerprint is None for record in prev)


def _holds_children(record: EntryRecord) -> bool:
    # With purge=True the directory's own removal takes everything along.
    return record.fingerprint is None and not record.purge


def _write(
    place: Place,
    desired: FileSpec,
    prev: Collection[EntryRecord],
    options: Options,
    kept: int,
) -> _Output:
    action = EntryAction(
        "write",
        place.tree,
        place.path,
        options,
        content=desired.content,
        create_parents=desired.create_parents,
        fresh=not prev,
        was_dir=any(record.fingerprint is None for record in prev),
        shown=place.shown,
    )
    record = EntryRecord(
        desired.fingerprint, desired.root, options.mode, desired.create_parents, kept
    )
    return coco.TargetReconcileOutput(action, sink, record)


def _mkdir(
    place: Place,
    desired: DirSpec,
    prev: Collection[EntryRecord],
    inherited: Options,
    declared: set[str],
    stands: bool,
    kept: int = 0,
) -> _Output:
    options = desired.options or inherited
    action = EntryAction(
        "mkdir",
        place.tree,
        place.path,
        options,
        create_parents=desired.create_parents,
        fresh=not prev,
        was_file=any(record.fingerprint is not None for record in prev),
        keep=declared,
        stands=stands,
        shown=place.shown,
    )
    parents = desired.create_parents and bool(parent_of(place.path))
    record = EntryRecord(
        root=desired.root,
        parents=parents,
        kept=kept,
        purge=options.purge_foreign,
        fsync=options.fsync,
    )
    return coco.TargetReconcileOutput(action, sink, record)


def _delete(
    place: Place,
    prev: Collection[EntryRecord],
    options: Options,
    levels: int,
    declared: set[str],
) -> _Output:
    # The declaration is gone; what it asked for is in the records.
    options = options._replace(
        fsync=options.fsync and all(record.fsync for record in prev),
        purge_foreign=any(record.purge for record in prev),
    )
    action = EntryAction(
        "delete",
        place.tree,
        place.path,
        options,
        # Without a readable record either may stand there.
        was_file=not prev or any(record.fingerprint is not None for record in prev),
        was_dir=not prev or any(record.fingerprint is None for record in prev),
        prune=levels,
        keep=declared,
        shown=place.shown,
    )
    return coco.TargetReconcileOutput(action, sink, coco.NON_EXISTENCE)


def _apply(context_provider: coco.ContextProvider, actions: Collection[EntryAction]) -> None:
    apply_actions(context_provider, actions)


def _child_handler(context: coco.ContextProvider, action: EntryAction) -> EntryHandler:
    keep = action.keep if isinstance(action.keep, set) else set(action.keep)
    standing = Standing(lambda: locate(context, action.tree))
    return EntryHandler(action.tree, action.path, action.options, keep, action.shown, standing)


sink: Final = coco.TargetActionSink[EntryAction, EntryHandler].from_fn(
    _apply, child_handler=_child_handler
)
