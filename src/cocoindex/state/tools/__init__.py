"""Tools that work on whole stores: copying, exporting, importing, compacting.

They know sections, keys and values, not what the rows mean, so they work for every store.
"""

from cocoindex.state.tools.archive import export_store, import_archive
from cocoindex.state.tools.compact import Compaction, compact_store
from cocoindex.state.tools.transfer import Moved, check_complete, copy_section, copy_store

__all__ = [
    "Compaction",
    "Moved",
    "check_complete",
    "compact_store",
    "copy_section",
    "copy_store",
    "export_store",
    "import_archive",
]
