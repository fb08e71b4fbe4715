"""Deterministic simulation of the engine: a seeded loop, a crashing store, scheduled faults.

One :class:`SimulatedProcess` runs updates of real apps on virtual time. Whatever it does
follows from its seed; killing it leaves on its disk what a real crash would leave::

    disk = MemoryDisk()
    process = SimulatedProcess(disk, seed=7)
    app = coco.App(coco.AppConfig("demo", process.environment), main)
    outcome = process.run(app.update, [Fault(12, "kill")])
    assert outcome.kind == "killed"
    process = SimulatedProcess(disk, seed=8)  # the next one finds what was durable
"""

from cocoindex.state.memory import MemoryDisk
from cocoindex.testing.simulation.faults import Fault, FaultPlan, InjectedFault
from cocoindex.testing.simulation.loop import Deadlock, Killed, SeededLoop
from cocoindex.testing.simulation.process import InlinePool, Outcome, SimulatedProcess
from cocoindex.testing.simulation.store import CrashingCommits, SimulatedStore

__all__ = [
    "CrashingCommits",
    "Deadlock",
    "Fault",
    "FaultPlan",
    "InjectedFault",
    "InlinePool",
    "Killed",
    "MemoryDisk",
    "Outcome",
    "SeededLoop",
    "SimulatedProcess",
    "SimulatedStore",
]
