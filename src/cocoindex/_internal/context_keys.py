"""Alias for programs that import from here: context keys and the provider of their values."""

from cocoindex import ContextKey, ContextProvider

__all__ = ["ContextKey", "ContextProvider"]
