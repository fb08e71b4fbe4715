"""Mistakes in the submit protocol."""

from __future__ import annotations

from unittest.mock import patch

from cocoindex.engine import (
    leaving,
    lifecycle,
    planner,
    protocol,
    reconciling,
    submission,
    submit,
    sweep,
)
from cocoindex.testing.simulation import store as simulated
from histories.mutants.mutant import mutant


@mutant("possible states are not written before the sinks")
def no_possible_states():
    return [patch.object(submission.Submission, "precommit_rows", lambda self: self.take_rows())]


@mutant("commits before the sinks run")
def commit_before_sink():
    original = protocol.begin_now

    def begin_now(run, planned, commit, *, where):
        commit()
        return original(run, planned, lambda: None, where=where)

    return [patch.object(module, "begin_now", begin_now) for module in (submit, protocol)]


@mutant("calls sinks before the possible states are durable")
def sink_before_durable():
    async def flushed(self):
        if self.pending_bytes:
            self._store._start_commit(self._store._accepting)

    return [patch.object(simulated._Section, "flushed", flushed)]


@mutant("takes a failed sink for a successful one")
def failed_sink_is_success():
    original = protocol.Applying.answered

    def answered(self, children, _error):
        original(self, children, None)

    return [patch.object(protocol.Applying, "answered", answered)]


@mutant("tells handlers only of the newest possible state")
def only_newest_state():
    original = reconciling.previous

    def previous(*args):
        records, missing = original(*args)
        return records[-1:], missing

    return [patch.object(module, "previous", previous) for module in (planner, leaving)]


@mutant("never says that a target state may be missing")
def never_missing():
    original = reconciling.previous

    def previous(*args):
        records, missing = original(*args)
        return records, missing and not records

    return [patch.object(module, "previous", previous) for module in (planner, leaving)]


@mutant("leaves all possible states behind after a success")
def unsettled_commit():
    def settle(planned):
        return []

    return [patch.object(module, "settle", settle) for module in (submit, sweep)]


@mutant("does not release the owner rows of what is gone")
def owner_rows_stay():
    original = protocol.settle

    def settle(planned):
        original(planned)
        return []

    return [patch.object(module, "settle", settle) for module in (submit, sweep)]


@mutant("takes the targets of a body that failed for its declaration")
def failed_body_is_empty():
    original = lifecycle._process

    async def process(execution):
        try:
            return await original(execution)
        except Exception:  # noqa: BLE001 - the mistake
            return None

    return [patch.object(lifecycle, "_process", process)]


@mutant("a preview does not see what other components take over")
def preview_without_takeovers():
    original = protocol.begin_now

    def begin_now(run, planned, commit, *, where):
        if not run.is_preview:
            return original(run, planned, commit, where=where)
        for actions in planned.sinks():
            run.planned_actions += actions.actions
            run.sinks.plan(actions)
        planned.take_rows()
        commit()
        return None

    return [patch.object(module, "begin_now", begin_now) for module in (submit, protocol)]
