"""Files of any backend: metadata, content, paths and path matchers."""

from __future__ import annotations

from cocoindex.resources._filelike import FileLike, FileMetadata, FileReader, FileState
from cocoindex.resources._matchers import (
    FilePathMatcher,
    MatchAllFilePathMatcher,
    PatternFilePathMatcher,
)
from cocoindex.resources._paths import FilePath

__all__ = [
    "FileLike",
    "FileMetadata",
    "FilePath",
    "FilePathMatcher",
    "FileReader",
    "FileState",
    "MatchAllFilePathMatcher",
    "PatternFilePathMatcher",
]
