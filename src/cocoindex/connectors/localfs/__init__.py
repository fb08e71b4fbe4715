"""Local files: a directory as a source (:func:`walk_dir`) and as a target (:func:`dir_target`)."""

from __future__ import annotations

from cocoindex.connectors.localfs.path import FilePath
from cocoindex.connectors.localfs.source import DirWalker, File, walk_dir
from cocoindex.connectors.localfs.target import (
    DirTarget,
    declare_dir_target,
    declare_file,
    dir_target,
    mount_dir_target,
)

__all__ = [
    "DirTarget",
    "DirWalker",
    "File",
    "FilePath",
    "declare_dir_target",
    "declare_file",
    "dir_target",
    "mount_dir_target",
    "walk_dir",
]
