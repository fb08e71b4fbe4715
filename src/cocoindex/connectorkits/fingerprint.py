"""Fingerprints for tracking records: 16 bytes, the same in every run and process."""

from __future__ import annotations

from cocoindex.core.fingerprint import (
    Fingerprint,
    Fingerprintable,
    fingerprint_bytes,
    fingerprint_str,
)
from cocoindex.core.memo_key import fingerprint_object

__all__ = [
    "Fingerprint",
    "Fingerprintable",
    "fingerprint_bytes",
    "fingerprint_object",
    "fingerprint_str",
]
