"""``cocoindex state``: look after state stores, without any program."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cocoindex.cli.errors import CliError, QuietExit, one_line
from cocoindex.cli.redact import redact
from cocoindex.cli.targets import closest_first, shown_path
from cocoindex.errors import CocoIndexError
from cocoindex.state.postgres import is_postgres_url
from cocoindex.state.postgres.location import PostgresLocation

if TYPE_CHECKING:
    from cocoindex.engine.fsck import Finding, RepairReport
    from cocoindex.engine.usage import AppUsage, Usage
    from cocoindex.state.base import Store
    from cocoindex.state.tools.transfer import Moved

EXIT_VIOLATED = 1
_SHOWN = 100


@click.group("state")
def command() -> None:
    """Sizes, checks, copies and repairs of state stores.

    STORE is the directory that db_path names (also written lmdb:DIRECTORY), or the URL of a
    Postgres database: postgresql://USER@HOST/DATABASE?schema=SCHEMA.
    """


_STORE = click.argument("store", envvar=["COCOINDEX_DB", "COCOINDEX_DATABASE_URL"])
_APPS = click.option("--app-name", "apps", multiple=True, help="Only this app (repeatable).")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


# --- stores --------------------------------------------------------------------------------------


def location_of(store: str) -> str | PostgresLocation:
    """The directory or database that a store argument means.

    The database of the settings is opened with all of them (user, password, schema).

    Raises:
        CliError: it is another kind of store, or can't be read.
    """
    scheme, colon, rest = store.partition(":")
    if colon and scheme == "lmdb":
        return rest
    if "://" not in store:
        return store
    if not is_postgres_url(store):
        raise CliError(f"Stores of this kind are not available in this release: {redact(store)}")
    from cocoindex.engine.settings import DATABASE_ENV_VAR, Settings

    with explained():
        if store == os.environ.get(DATABASE_ENV_VAR):
            settings = Settings.from_env()
            assert settings.database is not None
            return settings.database.location(settings.db_schema_name)
        return PostgresLocation.of(store)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Errors of the product and of the system as one line."""
    try:
        yield
    except (CocoIndexError, OSError) as error:
        raise CliError(one_line(error)) from error


@contextlib.contextmanager
def opened(store: str, *, read_only: bool = False, create: bool = False) -> Iterator[Store]:
    """An open store, closed at the end. Raises ``CliError`` if there is none."""
    from cocoindex.cli.store import check_exists
    from cocoindex.state.open import open_store

    location = location_of(store)
    if not create:
        check_exists(location)
    with explained():
        found = open_store(location, read_only=read_only, holder="the command line")
        try:
            yield found
        finally:
            found.close()


def _chosen(store: Store, apps: Sequence[str]) -> list[str]:
    names = store.section_names()
    for app in apps:
        if app not in names:
            known = ", ".join(closest_first(app, names)) or "(none)"
            raise CliError(f"No app named '{app}' has state here. Persisted apps: {known}")
    return sorted(set(apps)) or names


def _size(count: int) -> str:
    """Bytes for people: ``12.3 MiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


# --- du ------------------------------------------------------------------------------------------


@command.command("du")
@_STORE
@_APPS
@_JSON
@click.option("-a", "--all", "everything", is_flag=True, help="Every entry, not the largest ten.")
def du(store: str, apps: tuple[str, ...], *, as_json: bool, everything: bool) -> None:
    """Sizes by app, table, function and container."""
    from cocoindex.engine.usage import measure

    measured: dict[str, AppUsage] = {}
    with opened(store, read_only=True) as found:
        for name in _chosen(found, apps):
            with found.section(name).snapshot() as snapshot:
                measured[name] = measure(snapshot)
        used = found.info.used_bytes
    path = shown_path(location_of(store))
    if as_json:
        shown = {name: _usage_json(usage) for name, usage in measured.items()}
        print(json.dumps({"store": path, "bytes": used, "apps": shown}, indent=2))
    else:
        print("\n".join(_usage_lines(path, used, measured, None if everything else 10)))


def _usage_json(usage: AppUsage) -> dict[str, Any]:
    def pair(used: Usage) -> dict[str, int]:
        return {"rows": used.rows, "bytes": used.bytes}

    return {
        **pair(usage.total),
        "tables": {name: pair(used) for name, used in usage.tables.items()},
        "functions": {redact(name): pair(used) for name, used in usage.functions.items()},
        "containers": {redact(name): pair(used) for name, used in usage.containers.items()},
    }


def _usage_lines(
    path: str, used: int, measured: dict[str, AppUsage], most: int | None
) -> Iterator[str]:
    yield f"{path}: {_size(used)}"
    if not measured:
        yield "  (none)"
    for name, usage in measured.items():
        yield ""
        yield f"{name}: {usage.total.rows} rows, {_size(usage.total.bytes)}"
        yield from _usage_group("tables", usage.tables, "rows", None)
        yield from _usage_group("functions", usage.functions, "rows", most)
        yield from _usage_group("containers", usage.containers, "target states", most)


def _usage_group(
    title: str, entries: dict[str, Usage], what: str, most: int | None
) -> Iterator[str]:
    from cocoindex.engine.usage import largest

    found = [(redact(name), used) for name, used in largest(entries) if used.rows]
    if not found:
        return
    yield f"  {title}:"
    for name, used in found[:most]:
        yield f"    {_size(used.bytes):>10}  {used.rows:>8} {what}  {name}"
    if most is not None and len(found) > most:
        yield f"    … and {len(found) - most} more (-a)"


# --- fsck ----------------------------------------------------------------------------------------


@command.command("fsck")
@_STORE
@_APPS
@_JSON
@click.option("--repair", is_flag=True, help="Mend what can be mended safely.")
def fsck(store: str, apps: tuple[str, ...], *, as_json: bool, repair: bool) -> None:
    """Check every invariant of the stored state; exit 1 if one is violated.

    Reading works while an update runs. A repair refuses then, and an update should follow it.
    """
    with opened(store, read_only=not repair) as found:
        run = _repair if repair else _check
        reports = [run(found, name) for name in _chosen(found, apps)]
    if as_json:
        print(json.dumps({"apps": [report.as_json() for report in reports]}, indent=2))
    else:
        print("\n".join(line for report in reports for line in report.lines()) or "(none)")
    if any(report.violations for report in reports):
        raise QuietExit(EXIT_VIOLATED)


class _Report:
    """Findings of one app, counted, the first of them in words."""

    def __init__(self, app: str) -> None:
        self.app = app
        self.violations = 0
        self.unfinished = 0
        self.repairable = 0
        self.shown: list[Finding] = []
        self.repair: RepairReport | None = None

    def add(self, finding: Finding) -> None:
        if finding.is_violation:
            self.violations += 1
        else:
            self.unfinished += 1
        self.repairable += finding.fix is not None
        if len(self.shown) < _SHOWN:
            self.shown.append(finding)

    def lines(self) -> Iterator[str]:
        yield f"{self.app}: {self._verdict()}"
        if self.repair is not None and self.repair.repaired:
            yield "  Repaired:"
            yield from (f"    {_words(f)}: {f.remedy}" for f in self.repair.repaired[:_SHOWN])
        for title, wanted in (("Violations:", True), ("Left for the next update:", False)):
            group = [finding for finding in self.shown if finding.is_violation is wanted]
            if group:
                yield f"  {title}"
                yield from (f"    {_words(finding)}" for finding in group)
        more = self.violations + self.unfinished - len(self.shown)
        if more:
            yield f"  … and {more} more"
        if self.repairable and self.repair is None and self.violations:
            yield "  Run again with --repair to mend what can be mended."

    def _verdict(self) -> str:
        parts = []
        if self.repair is not None:
            parts.append(f"{self.repair.repaired_count} repaired")
        if self.violations:
            parts.append(f"{self.violations} violated")
        if self.unfinished:
            parts.append(f"{self.unfinished} unfinished")
        if not self.violations and not self.unfinished:
            parts.append("ok")
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        repaired = [] if self.repair is None else self.repair.repaired
        return {
            "name": self.app,
            "violations": self.violations,
            "unfinished": self.unfinished,
            "findings": [_finding_json(finding) for finding in self.shown],
            "repaired": [_finding_json(finding) for finding in repaired],
        }


def _words(finding: Finding) -> str:
    return redact(str(finding))


def _finding_json(finding: Finding) -> dict[str, str]:
    return {
        "invariant": finding.invariant,
        "severity": finding.severity.value,
        "where": redact(finding.where),
        "problem": redact(finding.problem),
        "remedy": finding.remedy,
    }


def _check(store: Store, app: str) -> _Report:
    from cocoindex.engine.fsck import check_section

    report = _Report(app)
    with store.section(app).snapshot() as snapshot:
        for finding in check_section(snapshot):
            report.add(finding)
    return report


def _repair(store: Store, app: str) -> _Report:
    from cocoindex.engine.fsck import repair_section

    section = store.section(app)
    with section.acquire_lease():
        done = repair_section(section)
        store.flush()
        report = _check(store, app)
    report.repair = done
    return report


# --- moving --------------------------------------------------------------------------------------


@command.command("compact")
@_STORE
def compact(store: str) -> None:
    """Rewrite a store without its free space. Nobody may have it open meanwhile."""
    from cocoindex.cli.store import check_exists
    from cocoindex.state.tools.compact import compact_store

    location = location_of(store)
    check_exists(location)
    with explained():
        done = compact_store(location)
    print(f"{shown_path(location)}: {_size(done.before)} before, {_size(done.after)} now")


_FORCE_APPS = click.option(
    "-f", "--force", is_flag=True, help="Replace state that the store has of the same apps."
)


@command.command("export")
@_STORE
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_APPS
@click.option("-f", "--force", is_flag=True, help="Replace an existing file.")
def export(store: str, file: Path, apps: tuple[str, ...], *, force: bool) -> None:
    """Write the state of apps to one portable FILE."""
    from cocoindex.state.tools.archive import export_store

    with opened(store, read_only=True) as found:
        moved = export_store(found, file, _chosen(found, apps), force=force)
    print(f"Exported {_moved(moved)} to {file} ({_size(file.stat().st_size)}).")


@command.command("import")
@_STORE
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_FORCE_APPS
@click.option(
    "--max-row-bytes",
    type=click.IntRange(min=1),
    default=1 << 26,
    show_default=True,
    help="Refuse files with larger rows; a row is read as a whole.",
)
def import_(store: str, file: Path, *, force: bool, max_row_bytes: int) -> None:
    """Read the state of apps from a FILE made by 'cocoindex state export'.

    The file is checked to its end before anything is written. The store is made if missing.
    """
    from cocoindex.state.tools.archive import import_archive

    if not file.is_file():
        raise CliError(f"File does not exist: {file}")
    with opened(store, create=True) as found:
        moved = import_archive(file, found, force=force, largest_row=max_row_bytes)
    print(f"Imported {_moved(moved)} from {file}.")


@command.command("copy")
@click.argument("source")
@click.argument("target")
@_APPS
@_FORCE_APPS
def copy(source: str, target: str, apps: tuple[str, ...], *, force: bool) -> None:
    """Copy the state of apps from the store SOURCE to the store TARGET, made if missing."""
    from cocoindex.state.tools.transfer import copy_store

    with opened(source, read_only=True) as found, opened(target, create=True) as made:
        moved = copy_store(found, made, _chosen(found, apps), force=force)
    print(f"Copied {_moved(moved)} to {shown_path(location_of(target))}.")


def _moved(moved: Moved) -> str:
    if not moved.apps:
        print("Warning: there is no state of any app.", file=sys.stderr)
    names = ", ".join(moved.apps) or "nothing"
    return f"{names} ({moved.rows} row{'s' * (moved.rows != 1)})"
