"""Alias for programs that import from here: a fair lock for readers and writers."""

from cocoindex.core.rwlock import RWLock

__all__ = ["RWLock"]
