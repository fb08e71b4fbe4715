"""Mistakes about memos and what they depend on."""

from __future__ import annotations

from unittest.mock import patch

from cocoindex.engine import calls, component_memo, dependencies, frames, function_memos, submit
from histories.mutants.mutant import mutant


@mutant("reuses a function memo over an unsettled item")
def memo_over_unsettled():
    original = function_memos.FunctionMemos._is_settled

    def is_settled(self, path):
        original(self, path)
        return path in self._settled

    return [patch.object(function_memos.FunctionMemos, "_is_settled", is_settled)]


@mutant("keeps the component memo while the body runs")
def memo_kept_during_body():
    return [patch.object(component_memo.ComponentMemo, "drop", lambda self: None)]


@mutant("stores a component memo although something below failed")
def memo_despite_failure():
    return [patch.object(submit, "_may_memoize", lambda execution: True)]


@mutant("a hit does not hand its dependencies to the caller")
def hit_drops_dependencies():
    def finish(self, entry):
        if entry.is_new:
            self.scope.frame.receive_call(entry.row.deps, self.key.fingerprint)
        else:
            self.scope.frame.refs[self.key.fingerprint] = None
        return entry.value

    return [patch.object(calls._MemoCall, "finish", finish)]


@mutant("a parent does not depend on the code of its children")
def child_logic_lost():
    return [patch.object(frames.Frame, "receive_child", lambda self, deps: self._receive(deps))]


@mutant("changed context values do not reach callers")
def context_lost():
    def receive(self, deps):
        for path, *generation in deps.providers:
            self.providers[path] = tuple(generation)

    return [patch.object(frames.Frame, "_receive", receive)]


@mutant("provider generations do not reach callers")
def generations_lost():
    return [
        patch.object(frames.Frame, "_receive", lambda self, deps: self.context.absorb(deps.context))
    ]


@mutant("does not ask memo states")
def states_ignored():
    valid = property(lambda self: True)
    return [patch.object(dependencies.StateAnswers, "all_valid", valid)]


@mutant("deletes what a reused memo covers")
def covered_items_deleted():
    return [patch.object(function_memos.FunctionMemos, "contained", lambda self: set())]


@mutant("keeps function memos that were not reached")
def unreached_memos_kept():
    original = function_memos.FunctionMemos.commit_rows

    def commit_rows(self, robbed):
        return [row for row in original(self, robbed) if row[1] is not None]

    return [patch.object(function_memos.FunctionMemos, "commit_rows", commit_rows)]
