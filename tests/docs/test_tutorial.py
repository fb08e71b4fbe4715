"""The connector of the tutorial passes the conformance suites that the tutorial says it passes."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from cocoindex.testing.connectors import FaultConformance, RefusalConformance, RowConformance

FOLDER = Path(__file__).resolve().parents[2] / "examples/custom_target"
MODULES = ("memory_db", "memory_target", "conformance")


@pytest.fixture(scope="module")
def tutorial() -> Any:
    """The tutorial's modules, as a program beside them would see them."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("conformance")
    finally:
        sys.path.remove(str(FOLDER))
        for name in MODULES:
            sys.modules.pop(name, None)


class TestTutorial(RowConformance, FaultConformance, RefusalConformance):
    names_the_row = False

    @pytest.fixture(autouse=True)
    def _module(self, tutorial: Any) -> None:
        self.tutorial = tutorial

    def adapter_for_test(self, request: pytest.FixtureRequest) -> Any:
        return self.tutorial.MemoryAdapter()

    def test_the_tutorial_lists_the_same_suites(self) -> None:
        assert self.tutorial.TestMemoryTarget.__bases__ == type(self).__bases__
