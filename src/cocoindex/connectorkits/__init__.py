"""What connectors are made of."""

from cocoindex.connectorkits import fingerprint, sources, statediff, target
from cocoindex.connectorkits.fingerprint import (
    fingerprint_bytes,
    fingerprint_object,
    fingerprint_str,
)
from cocoindex.connectorkits.single_watcher import SingleWatcherGuard
from cocoindex.core.introspect import subpath_name as default_subpath_name

__all__ = [
    "SingleWatcherGuard",
    "default_subpath_name",
    "fingerprint",
    "fingerprint_bytes",
    "fingerprint_object",
    "fingerprint_str",
    "sources",
    "statediff",
    "target",
]
