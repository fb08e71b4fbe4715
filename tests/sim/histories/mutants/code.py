"""Mistakes about user states and about the code of functions."""

from __future__ import annotations

import sys
from unittest.mock import patch

from cocoindex.callables import captured, identity
from cocoindex.callables.source import Body
from cocoindex.engine import user_state
from histories.mutants.mutant import mutant


@mutant("keeps states that the component does not ask for any more")
def states_stay():
    original = user_state.UserState.commit_rows

    def commit_rows(self):
        return [row for row in original(self) if row[1] is not None]

    return [patch.object(user_state.UserState, "commit_rows", commit_rows)]


@mutant("stores a component's state before its targets are applied")
def state_before_sinks():
    original = user_state.UserState.commit_rows

    def commit_rows(self):
        batch = original(self)
        section = sys._getframe(1).f_locals["run"].app.section
        section.write(batch)
        return batch

    return [patch.object(user_state.UserState, "commit_rows", commit_rows)]


@mutant("does not look at the text of functions")
def body_ignored():
    body = property(lambda self: Body(b"", frozenset()))
    return [patch.object(captured.FunctionParts, "body", body)]


@mutant("does not look at version numbers")
def version_ignored():
    return [patch.object(identity.Logic, "_version_content", identity.Logic._head)]


@mutant("does not look at closures and constants")
def data_ignored():
    return [patch.object(captured.Watch, "read", lambda self: b"")]
