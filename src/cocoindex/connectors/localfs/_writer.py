"""Applies a batch of changes below directory roots.

Everything here may be repeated: an action that was applied already changes nothing. An action
that fails does not stop the others; the first failure is raised at the end, so the engine can
find out by smaller batches whose it was.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import groupby
from typing import Final, TypeVar

from cocoindex.connectors.localfs._dirs import AnyDir, Dir, enter, open_root, with_path
from cocoindex.connectors.localfs._entries import EntryAction, Tree
from cocoindex.connectors.localfs._files import (
    WAITERS,
    make_dir,
    remove_dir,
    remove_entry,
    write_files,
)
from cocoindex.connectors.localfs._names import parent_of
from cocoindex.connectors.localfs._places import Context, locate
from cocoindex.connectors.localfs._temp import sweep_once

__all__ = ["apply_actions"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_MOST_OPEN: Final = 65
"""Files that are open while the disk is waited for, and the directories that they are in. Some
systems let a process have 256, and others in it need some, too.
"""
# Where one of these meets a path, nothing of ours is there. Systems differ in what they call
# a link that must not be followed.
_LINK: Final = frozenset({errno.ENOTDIR, errno.ELOOP, getattr(errno, "EMLINK", errno.ELOOP)})
_GONE: Final = frozenset({errno.ENOENT, errno.ENAMETOOLONG}) | _LINK

_Group = tuple[Tree, str, list[EntryAction]]


def apply_actions(context_provider: Context, actions: Collection[EntryAction]) -> None:
    """Make, write and remove what ``actions`` say.

    Order: directories, files, removals. A removal that is in the way of one of the others
    (a file where a directory is to be, or the reverse) comes first.

    Raises:
        OSError: the first failure, naming the path. All other actions were tried.
    """
    batch = _Batch(context_provider, actions)
    upserts = [a for a in actions if a.op != "delete"]
    deletes = [a for a in actions if a.op == "delete"]
    early, late = _split_deletes(upserts, deletes)
    batch.delete(early)
    batch.make_dirs(a for a in upserts if a.op == "mkdir")
    batch.write([a for a in upserts if a.op == "write"])
    batch.delete(late)
    batch.sync()
    if batch.failure is not None:
        raise batch.failure


class _Batch:
    """One call of the sink."""

    def __init__(self, context_provider: Context, actions: Iterable[EntryAction]) -> None:
        trees = {action.tree for action in actions}
        self._roots = {tree: locate(context_provider, tree) for tree in trees}
        self._touched: set[tuple[Tree, str]] = set()
        self.failure: OSError | None = None

    def _attempt(self, step: Callable[[T], None], work: T) -> None:
        try:
            step(work)
        except OSError as e:
            self._fail(e)

    def _fail(self, error: OSError) -> None:
        if self.failure is None:
            self.failure = error

    def _touch(self, action: EntryAction, directory: str) -> None:
        if action.options.fsync:
            self._touched.add((action.tree, directory))

    # --- directories ---

    def make_dirs(self, actions: Iterable[EntryAction]) -> None:
        for action in sorted(actions, key=_depth):
            self._attempt(self._make_dir, action)

    def _make_dir(self, action: EntryAction) -> None:
        if not action.path:
            self._make_root(action)
            return
        parent, name = _split(action.path)
        with self._enter(action, parent) as directory:
            try:
                made = make_dir(directory, name, action)
            except OSError as e:
                raise _named(e, directory, name) from None
        if made:
            self._touch(action, parent)

    def _make_root(self, action: EntryAction) -> None:
        root = self._roots[action.tree]
        if os.path.isdir(root):
            return
        if action.was_file and os.path.isfile(root) and not os.path.islink(root):
            os.unlink(root)
        if action.create_parents:
            os.makedirs(root, exist_ok=True)
        else:
            os.mkdir(root)
        if action.options.fsync:
            _sync_path(os.path.dirname(os.path.abspath(root)))

    def _enter(self, action: EntryAction, relative: str) -> AnyDir:
        """Open a directory below the root, making it first if the action says so."""
        root = self._roots[action.tree]
        if not action.create_parents:
            return enter(root, relative)
        if not relative and not os.path.isdir(root):
            os.makedirs(root, exist_ok=True)
        try:
            return enter(root, relative)
        except FileNotFoundError:
            return self._make_parents(action, root, relative)

    def _make_parents(self, action: EntryAction, root: str, relative: str) -> AnyDir:
        current: AnyDir = open_root(root)
        above = ""
        for name in relative.split("/"):
            with current:
                try:
                    if current.lstat(name) is None:
                        _make_if_missing(current, name)
                        self._touch(action, above)
                    current = current.enter(name)
                except OSError as e:
                    raise _named(e, current, name) from None
            above = f"{above}/{name}" if above else name
        return current

    # --- files ---

    def write(self, actions: list[EntryAction]) -> None:
        first, twins = _without_twins(actions)
        with ThreadPoolExecutor(WAITERS, "cocoindex-localfs") as pool:
            for portion in _portions(_by_directory(first)):
                self._write_some(portion, pool)
            for action in twins:
                self._write_some([action], pool)

    def _write_some(self, actions: list[EntryAction], pool: Executor) -> None:
        with ExitStack() as opened:
            files: list[tuple[AnyDir, EntryAction]] = []
            for _, parent, group in _by_directory(actions):
                try:
                    directory = self._enter(group[0], parent)
                except OSError as e:
                    self._fail(e)
                    continue
                opened.enter_context(directory)
                sweep_once(directory)
                for action in group:
                    files.append((directory, action))
                    self._touch(action, parent)
            for failed, action, error in write_files(files, pool):
                self._fail(_named(error, failed, _split(action.path)[1]))

    # --- removals ---

    def delete(self, actions: Iterable[EntryAction]) -> None:
        """Innermost first, so that directories are empty when it is their turn."""
        inner = sorted((a for a in actions if a.path), key=_depth_and_place, reverse=True)
        for _, group in groupby(inner, _depth_and_place):
            self._attempt(self._delete_group, list(group))
        for action in actions:
            if not action.path:
                self._attempt(self._delete_root, action)

    def _delete_group(self, actions: list[EntryAction]) -> None:
        """Remove entries of one directory."""
        first = actions[0]
        parent = parent_of(first.path)
        try:
            directory = enter(self._roots[first.tree], parent)
        except OSError as e:
            if e.errno in _GONE:
                _tell_of_link(e, actions)
                return
            raise
        with directory:
            # A write that was cut short may be what is deleted now, and the last of this place.
            sweep_once(directory)
            for action in actions:
                self._delete(directory, parent, action)
        self._prune(max(actions, key=lambda a: a.prune), parent)

    def _delete(self, directory: AnyDir, parent: str, action: EntryAction) -> None:
        name = _split(action.path)[1]
        try:
            if remove_entry(directory, name, action):
                self._touch(action, parent)
        except OSError as e:
            self._fail(_named(e, directory, name))

    def _delete_root(self, action: EntryAction) -> None:
        root = os.path.abspath(self._roots[action.tree])
        if os.path.islink(root):
            return  # its content went; the link was made by someone else
        above, name = os.path.split(root)
        try:
            directory = open_root(above)
        except OSError as e:
            if e.errno in _GONE:
                return
            raise
        with directory:
            if name and remove_entry(directory, name, action) and action.options.fsync:
                directory.sync()

    def _prune(self, action: EntryAction, parent: str) -> None:
        """Remove the directories that were made for an entry and that it leaves empty."""
        for _ in range(action.prune):
            if not parent:
                self._prune_above(action)
                return
            if parent in action.keep:
                return
            above, name = _split(parent)
            try:
                with enter(self._roots[action.tree], above) as directory:
                    if not remove_dir(directory, name):
                        return
            except OSError as e:
                if e.errno not in _GONE:
                    raise
                return
            self._touch(action, above)
            parent = above

    def _prune_above(self, action: EntryAction) -> None:
        """The same for a single file, whose root is the directory it lies in."""
        path = self._roots[action.tree]
        for _ in range(action.prune):
            try:
                os.rmdir(path)
            except OSError:
                return  # not empty, or not ours to remove: it may stay
            path = os.path.dirname(path)

    # --- durability ---

    def sync(self) -> None:
        """Make the changed directory entries durable, once per directory."""
        for tree, relative in self._touched:
            try:
                with enter(self._roots[tree], relative) as directory:
                    directory.sync()
            except OSError as e:
                if e.errno not in _GONE:
                    self._fail(e)


def _split_deletes(
    upserts: list[EntryAction], deletes: list[EntryAction]
) -> tuple[list[EntryAction], list[EntryAction]]:
    """The deletes that must come before the upserts, and the others."""
    if not upserts or not deletes:
        return [], deletes
    taken = {(a.tree, a.path.casefold()) for a in upserts if a.path}
    above = {(tree, up) for tree, path in taken for up in _ancestors(path)}
    early: list[EntryAction] = []
    late: list[EntryAction] = []
    for action in deletes:
        path = action.path.casefold()
        tree = action.tree
        in_the_way = (
            (tree, path) in taken
            or (tree, path) in above
            or any((tree, up) in taken for up in _ancestors(path))
        )
        (early if in_the_way else late).append(action)
    return early, late


def _ancestors(path: str) -> Iterable[str]:
    while path := parent_of(path):
        yield path


def _without_twins(
    actions: list[EntryAction],
) -> tuple[list[EntryAction], list[EntryAction]]:
    """Set apart new files whose names only differ in case from another's in the batch.

    Where case does not matter they must not be written at the same time: the second has to
    find the first, and fail.
    """
    seen: set[tuple[Tree, str]] = set()
    first: list[EntryAction] = []
    twins: list[EntryAction] = []
    for action in actions:
        key = (action.tree, action.path.casefold())
        (twins if key in seen else first).append(action)
        seen.add(key)
    return first, twins


def _by_directory(actions: list[EntryAction]) -> list[_Group]:
    groups: dict[tuple[Tree, str, bool], list[EntryAction]] = {}
    for action in actions:
        key = (action.tree, parent_of(action.path), action.create_parents)
        groups.setdefault(key, []).append(action)
    return [(tree, parent, group) for (tree, parent, _), group in groups.items()]


def _portions(groups: list[_Group]) -> Iterator[list[EntryAction]]:
    """All files, as many at a time as may be open with their directories."""
    portion: list[EntryAction] = []
    left = _MOST_OPEN
    for *_, actions in groups:
        left -= 1
        for action in actions:
            if left <= 0:
                yield portion
                portion, left = [], _MOST_OPEN - 1
            portion.append(action)
            left -= 1
    if portion:
        yield portion


def _depth(action: EntryAction) -> int:
    return action.path.count("/") + 1 if action.path else 0


def _depth_and_place(action: EntryAction) -> tuple[int, str, bool, str, str]:
    base, root = action.tree
    return _depth(action), parent_of(action.path), base is None, base or "", root


def _split(path: str) -> tuple[str, str]:
    parent, _, name = path.rpartition("/")
    return parent, name


def _make_if_missing(directory: AnyDir, name: str) -> None:
    with suppress(FileExistsError):  # another thread was faster
        directory.mkdir(name)


def _named(error: OSError, directory: Dir, name: str) -> OSError:
    """``error`` with the whole path, unless it has it already."""
    if error.filename is not None and os.sep in str(error.filename):
        return error
    return with_path(error, directory, name)


def _tell_of_link(error: OSError, actions: list[EntryAction]) -> None:
    """Warn if a link replaced a directory: what was written there may still stand elsewhere."""
    if error.errno in _LINK and error.filename is not None and os.path.islink(error.filename):
        _log.warning(
            "%s is a symbolic link now, put there by others: what it leads to stays, also where "
            "it was written by this app (%d undeclared, first %r)",
            error.filename,
            len(actions),
            actions[0].path,
        )


def _sync_path(path: str) -> None:
    with open_root(path) as directory:
        directory.sync()
