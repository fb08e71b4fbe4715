"""Mistakes about memos and what they depend on."""

from __future__ import annotations

from unittest.mock import patch

from cocoindex.engine import (
    component_memo,
    dependencies,
    frames,
    function_memos,
    memo_call,
    submit,
)
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
    def hand_over(entry, scope):
        if entry.is_new:
            scope.frame.receive_call(entry.terms.deps, entry.row.fingerprint)
        else:
            scope.frame.refs[entry.row.fingerprint] = None
        return entry.value

    return [patch.object(memo_call, "hand_over", hand_over)]


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
    def receive(self, deps):
        self.context[deps.context] = None

    return [patch.object(frames.Frame, "_receive", receive)]


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
