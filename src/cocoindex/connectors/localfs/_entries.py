"""What a directory target declares, remembers, and asks its writer to do."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from cocoindex.errors import UsageValueError

__all__ = [
    "DEFAULTS",
    "DirSpec",
    "EntryAction",
    "EntryRecord",
    "FileSpec",
    "OnConflict",
    "Options",
    "Place",
    "RootKey",
    "Tree",
    "file_place",
    "is_relative_without_base",
    "make_options",
]

OnConflict = Literal["overwrite", "error"]


class Options(NamedTuple):
    """How the entries of a directory target are written."""

    fsync: bool = True
    mode: int | None = None
    purge_foreign: bool = False
    on_conflict: OnConflict = "overwrite"


DEFAULTS = Options()


def make_options(
    fsync: bool, mode: int | None, purge_foreign: bool, on_conflict: OnConflict
) -> Options:
    """Check and bundle. Raises ``ValueError`` for a value out of range."""
    if mode is not None and not 0 <= mode <= 0o777:
        raise UsageValueError(f"mode must lie between 0 and 0o777, not {mode:#o}")
    if on_conflict not in ("overwrite", "error"):
        raise UsageValueError(f'on_conflict must be "overwrite" or "error", not {on_conflict!r}')
    return Options(fsync, mode, purge_foreign, on_conflict)


class RootKey(NamedTuple):
    """Key of a root entry: name of the base directory's context key, and a POSIX path."""

    base: str | None
    path: str


class EntryRecord(msgspec.Struct, frozen=True, omit_defaults=True, eq=False):
    """What is remembered of an entry. Equality covers what the file system can show.

    Attributes:
        fingerprint: of the content; None for a directory.
        root: where a path relative to the working directory led to.
        mode: permission bits that were asked for.
        parents: parent directories were made for it, and go with it when empty;
        kept: except for so many, from the top, that others had made.
        purge: a directory whose foreign content goes with it.
        fsync: a directory in which changes are made durable.
    """

    fingerprint: bytes | None = None
    root: str | None = None
    mode: int | None = None
    parents: bool = False
    kept: int = 0
    purge: bool = False
    fsync: bool = True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EntryRecord):
            return NotImplemented
        return self.fingerprint == other.fingerprint and self.mode == other.mode

    def __hash__(self) -> int:
        return hash((self.fingerprint, self.mode))


class FileSpec(NamedTuple):
    """Declared state of a file."""

    content: bytes
    fingerprint: bytes
    create_parents: bool
    root: str | None = None
    shown: str = ""

    def __repr__(self) -> str:
        return f"FileSpec({len(self.content)} bytes, {self.fingerprint.hex()[:8]})"


class DirSpec(NamedTuple):
    """Declared state of a directory; ``options`` None means those of its parent."""

    create_parents: bool
    options: Options | None = None
    root: str | None = None
    shown: str = ""


class Tree(NamedTuple):
    """The root that writes stay below.

    Attributes:
        base: name of the context key that provides the base directory, or None.
        root: path below the base, or absolute.
    """

    base: str | None
    root: str


class Place(NamedTuple):
    """A path below a root, and the root as people know it (empty: by its tree)."""

    tree: Tree
    path: str
    shown: str = ""


class EntryAction(NamedTuple):
    """One change below a root.

    Attributes:
        path: normalised POSIX path below the root; empty for the root itself.
        content: what to write.
        fresh: nothing is known of an earlier entry of ours under this name.
        was_file, was_dir: what earlier records say stood here.
        prune: how many parent directories to remove if they are left empty.
        keep: paths of directories that are declared themselves and stay.
        stands: an earlier run made the directory; now it is only made sure of.
        shown: the root as people know it; empty for what ``tree`` says.
    """

    op: Literal["write", "mkdir", "delete"]
    tree: Tree
    path: str
    options: Options
    content: bytes | None = None
    create_parents: bool = False
    fresh: bool = False
    was_file: bool = False
    was_dir: bool = False
    prune: int = 0
    keep: frozenset[str] | set[str] = frozenset()
    stands: bool = False
    shown: str = ""

    def __repr__(self) -> str:
        size = "" if self.content is None else f", {len(self.content)} bytes"
        base = "" if self.tree.base is None else f"{self.tree.base}:"
        where = "/".join(part for part in (self.tree.root, self.path) if part)
        return f"{self.op}({base}{where}{size})"

    def __coco_describe__(self) -> dict[str, object]:
        """For previews: the root is the target, and keys of directories end with a slash."""
        is_dir = self.op == "mkdir" or (self.was_dir and self.op == "delete" and not self.was_file)
        return {
            "target": self.shown or _tree_text(self.tree),
            "verb": self._verb(),
            "key": f"{self.path or '.'}/" if is_dir else self.path or ".",
            "fields": (),
        }

    def _verb(self) -> str:
        if self.op == "delete":
            return "delete"
        if self.stands:
            return "keep"
        return "create" if self.fresh else "update"


def _tree_text(tree: Tree) -> str:
    if tree.base is None:
        return tree.root
    return tree.base if tree.root in ("", ".") else f"{tree.base}:{tree.root}"


def file_place(key: RootKey, root: str | None, shown: str = "") -> Place:
    """Where a single file goes; it is confined to the directory it lies in.

    ``root`` is where a path relative to the working directory led to.
    """
    path = root or key.path
    parent, _, name = path.rpartition("/")
    tree = Tree(key.base, parent or ("/" if path.startswith("/") else ""))
    return Place(tree, name, shown.rpartition("/")[0])


def is_relative_without_base(key: RootKey) -> bool:
    """Whether the place depends on the working directory."""
    return key.base is None and not _is_absolute(key.path)


def _is_absolute(posix: str) -> bool:
    return posix.startswith("/") or posix[1:3] == ":/"
