"""Alias for programs that import from here: settings of an environment."""

from cocoindex.engine.settings import LmdbSettings, Settings, get_default_db_path

__all__ = ["LmdbSettings", "Settings", "get_default_db_path"]
