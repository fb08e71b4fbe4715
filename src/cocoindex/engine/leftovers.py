"""Items that a run left undecided: kept, because their container might still be declared.

A component that does not declare an item any more can't tell whether the item's container,
which it has not seen in this run, is about to be declared or deleted elsewhere. At the end of
the run that is known: what is below a container that is gone is forgotten, like everything
that a container's own deletion takes down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cocoindex.engine import rows
from cocoindex.engine.absent_providers import container_row
from cocoindex.engine.entry import Entry, Group

if TYPE_CHECKING:
    from cocoindex.engine.run import Run


def forget_orphans(run: Run) -> None:
    """Drop undecided items whose container is not tracked by anybody any more."""
    for component_id in run.undecided:
        raw = run.app.section.get(rows.tracking_key(component_id))
        if raw is None:
            continue
        entry = Entry(component_id, raw, rows.ROOT_PARENT_ID, b"")
        orphaned = [group for group in entry.groups.values() if _is_orphaned(run, group)]
        if orphaned:
            _drop(run, entry, orphaned)


def _is_orphaned(run: Run, group: Group) -> bool:
    keys = rows.provider_keys(group.path)
    return (
        len(keys) > 1 and run.find_provider(group.path) is None and container_row(run, keys) is None
    )


def _drop(run: Run, entry: Entry, groups: list[Group]) -> None:
    batch: list[tuple[bytes, bytes | None]] = []
    for group in groups:
        batch += [(rows.owner_key(group.path_of(key)), None) for key in group.items]
        group.items.clear()
    batch.append((rows.tracking_key(entry.component_id), entry.encode()))
    run.app.section.write(batch)
