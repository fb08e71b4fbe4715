"""Alias for programs that import from here: stable keys and paths."""

from cocoindex.core.keys import StableKey, Symbol
from cocoindex.core.paths import ROOT_PATH, StablePath

__all__ = ["ROOT_PATH", "StableKey", "StablePath", "Symbol"]
