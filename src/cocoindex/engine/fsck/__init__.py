"""Checking, and repairing, everything that must hold in an app's section of the store.

The invariants: (I1) a component's existence row and its ancestors' exist before any of its
other records; (I2) an item and its owner row name each other; (I3) every item is settled;
(I4) memos cover settled items only; (I5) ids are below their counters and never shared;
(I6) a component that lost its existence row and still has records has a tombstone.

I3 and the end of clean-ups hold only after an update that succeeded; what a failed or killed
one leaves behind is reported as unfinished, and the next update completes it.
"""

from cocoindex.engine.fsck.check import check_section
from cocoindex.engine.fsck.finding import Finding, Severity
from cocoindex.engine.fsck.rounds import RepairReport, repair_section

__all__ = ["Finding", "RepairReport", "Severity", "check_section", "repair_section"]
