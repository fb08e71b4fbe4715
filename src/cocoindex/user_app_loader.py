"""Load the user's program: the module or file that defines apps."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from cocoindex.errors import CocoIndexError

__all__ = ["Error", "load_user_app"]


class Error(CocoIndexError):
    """The program can't be loaded. What the user's code raised, if it did, is the cause."""


def load_user_app(app_target: str) -> ModuleType:
    """Import the program that ``app_target`` names, without running its ``__main__`` block.

    Args:
        app_target: a file path (it has a path separator or ends in ``.py``) or a module name.
            A file inside a package is imported by its dotted name, so that its relative imports
            work; any other file is loaded under its stem.

    Raises:
        Error: the file does not exist, or importing it failed (the cause is chained).
    """
    path = _as_path(app_target)
    if path is not None and not path.is_file():
        raise Error(f"Application file path not found: {app_target}")
    try:
        return importlib.import_module(app_target) if path is None else _load_file(path)
    except Exception as error:  # a user's module may raise anything
        raise Error(f"Failed to load APP_TARGET '{app_target}': {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, (ImportError, CocoIndexError)):
        return str(error)
    return f"{type(error).__name__}: {error}"


def _as_path(app_target: str) -> Path | None:
    separators = (os.sep, os.altsep) if os.altsep else (os.sep,)
    if app_target.endswith(".py") or any(separator in app_target for separator in separators):
        return Path(app_target)
    if _in_package(Path.cwd()):
        beside = Path(f"{app_target}.py")
        return beside if beside.is_file() else None
    return None


def _in_package(folder: Path) -> bool:
    return (folder / "__init__.py").is_file()


def _load_file(path: Path) -> ModuleType:
    path = path.resolve()
    if _in_package(path.parent):
        return _import_from_package(path)
    _add_to_sys_path(path.parent)
    return _load_fresh(path.stem, path)


def _add_to_sys_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _import_from_package(path: Path) -> ModuleType:
    names = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while _in_package(folder):
        names.append(folder.name)
        folder = folder.parent
    _add_to_sys_path(folder)
    name = ".".join(reversed(names))
    with _Replacing(name):
        return importlib.import_module(name)


def _load_fresh(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python source file")
    module = importlib.util.module_from_spec(spec)
    with _Replacing(name):
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return module


class _Replacing:
    """Takes a module out of ``sys.modules`` while a new one loads; puts it back on failure."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._before = sys.modules.pop(self._name, None)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        sys.modules.pop(self._name, None)
        if self._before is not None:
            sys.modules[self._name] = self._before
