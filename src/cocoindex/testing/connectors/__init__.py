"""Conformance suites for target connectors. Subclass those that apply to yours.

```python
class TestMyTarget(RowConformance, FaultConformance):
    def adapter_for_test(self, request):
        return MyAdapter(request.getfixturevalue("tmp_path"))
```

An adapter (:class:`TargetAdapter`) tells how to open a client, mount a container, read what
stands in it past the connector, count requests and break the connection. The suites need
pytest and pytest-asyncio.

===========================  ==================================================================
:class:`RowConformance`      rows appear, change and go; nothing is done twice; request counts
:class:`FaultConformance`    the connection breaks at every request in turn
:class:`RefusalConformance`  a row that the system refuses fails its own component only
:class:`EvolutionConformance`  each kind of schema change, there and back
:class:`OwnershipConformance`  containers of users and of others are never harmed
:class:`ValueConformance`    types, keys, hostile values and names
:class:`TableConformance`    all of them
===========================  ==================================================================
"""

from cocoindex.testing.connectors.adapter import Container, TargetAdapter, World
from cocoindex.testing.connectors.evolution import EvolutionConformance
from cocoindex.testing.connectors.faults import FaultConformance, RefusalConformance
from cocoindex.testing.connectors.ownership import OwnershipConformance
from cocoindex.testing.connectors.rows import RowConformance
from cocoindex.testing.connectors.values import REFUSED, Sample, ValueConformance

__all__ = [
    "REFUSED",
    "Container",
    "EvolutionConformance",
    "FaultConformance",
    "OwnershipConformance",
    "RefusalConformance",
    "RowConformance",
    "Sample",
    "TableConformance",
    "TargetAdapter",
    "ValueConformance",
    "World",
]


class TableConformance(
    RowConformance,
    FaultConformance,
    RefusalConformance,
    EvolutionConformance,
    OwnershipConformance,
    ValueConformance,
):
    """Everything, for relational tables and their like."""
