"""``cocoindex init``: a small project that runs as it is."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from cocoindex.cli.ask import ask_yes_no
from cocoindex.cli.template import project_files

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@click.command("init")
@click.argument("project_name", required=False)
@click.option("--dir", "directory", help="Where to create it. Default: a folder of that name.")
@click.option("-f", "--force", is_flag=True, help="Overwrite existing files without asking.")
def command(project_name: str | None, directory: str | None, *, force: bool) -> None:
    """Create a new project that is ready to run."""
    where = Path(directory or project_name or ".")
    name = project_name or where.resolve().name
    if not _NAME.fullmatch(name):
        raise click.UsageError(
            f"Invalid project name '{name}'. Project name must contain only alphanumeric "
            "characters, hyphens, and underscores."
        )
    files = project_files(name)
    if not force and not _may_write(where, files):
        print("Init cancelled.")
        return
    for relative, content in files.items():
        path = where / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    print("\n".join(_next_steps(name, where)))


def _may_write(where: Path, files: dict[str, str]) -> bool:
    """Ask if the directory holds anything, naming the files that would be overwritten."""
    if not where.is_dir() or not any(where.iterdir()):
        return True
    existing = [relative for relative in files if (where / relative).exists()]
    if existing:
        print(f"These files would be overwritten: {', '.join(existing)}", file=sys.stderr)
    return ask_yes_no(
        f"Directory '{where}' already exists and is not empty. Continue and overwrite existing "
        "files? [y/N]: "
    )


def _next_steps(name: str, where: Path) -> Sequence[str]:
    steps = [] if where == Path() else [f"cd {shlex.quote(str(where))}"]
    steps.append("uv run cocoindex update main.py")
    numbered = (f"  {number}. {step}" for number, step in enumerate(steps, 1))
    return [f"Created CocoIndex project '{name}' in '{where}'", "", "Next steps:", *numbered]
