"""Alias for programs that import from here: the component that runs, and ids that never repeat."""

from cocoindex.engine.exception_context import ExceptionContext
from cocoindex.engine.ids import next_id
from cocoindex.engine.scope import ComponentContext

__all__ = ["ComponentContext", "ExceptionContext", "next_id"]
