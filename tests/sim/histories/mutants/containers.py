"""Mistakes about containers and what is below them."""

from __future__ import annotations

from unittest.mock import patch

from cocoindex.core.keys import encode_path
from cocoindex.engine import absent_providers, leftovers, operations, planner, rows
from histories.mutants.mutant import mutant


@mutant("forgets the generation bump")
def no_generation_bump():
    original = planner.Planner._next_generation

    def next_generation(self, declaration, item, invalidation):
        return original(self, declaration, item, None)

    return [patch.object(planner.Planner, "_next_generation", next_generation)]


@mutant("a lossy change is like none for rows that are known")
def lossy_ignored():
    original = planner.Planner._next_generation

    def next_generation(self, declaration, item, invalidation):
        kind = None if invalidation == "lossy" else invalidation
        return original(self, declaration, item, kind)

    return [patch.object(planner.Planner, "_next_generation", next_generation)]


@mutant("looks for a container that is gone in the one around it")
def container_of_container():
    def container_row(run, keys):
        for end in range(len(keys), 1, -1):
            path = rows.target_path_of(encode_path(keys[:end]))
            raw = run.app.section.get(rows.owner_key(path))
            if raw is not None:
                return raw
        return None

    return [patch.object(module, "container_row", container_row)
            for module in (absent_providers, leftovers)]  # fmt: skip


@mutant("does not come back to what had to wait for a container")
def leftovers_forgotten():
    async def clear_leftovers(run):
        return False

    return [patch.object(operations, "clear_leftovers", clear_leftovers)]


@mutant("does not pass over the tree again for a container that was reused")
def no_second_pass():
    original = operations.clear_leftovers

    async def clear_leftovers(run):
        await original(run)
        return False

    return [patch.object(operations, "clear_leftovers", clear_leftovers)]


@mutant("forgets the memos of those who had to wait for a container")
def held_memos_lost():
    return [patch.object(leftovers, "_store_held_memos", lambda run: run.held_memos.clear())]


@mutant("memoizes those who still wait for a container")
def memo_over_leftovers():
    def store(run):
        held = run.held_memos.items()
        run.app.section.write([(rows.component_memo_key(number), memo) for number, memo in held])
        run.held_memos = {}

    return [patch.object(leftovers, "_store_held_memos", store)]
