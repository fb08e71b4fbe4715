"""Alias for programs that import from here: keys, sentinels and memo states."""

from cocoindex.core.fingerprint import Fingerprintable
from cocoindex.core.keys import StableKey
from cocoindex.core.sentinels import (
    NON_EXISTENCE,
    NOT_SET,
    MemoStateOutcome,
    NonExistenceType,
    NotSetType,
    is_non_existence,
    is_not_set,
)

__all__ = [
    "NON_EXISTENCE",
    "NOT_SET",
    "Fingerprintable",
    "MemoStateOutcome",
    "NonExistenceType",
    "NotSetType",
    "StableKey",
    "is_non_existence",
    "is_not_set",
]
