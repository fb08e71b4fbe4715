"""Histories in words, for people who read a failing one."""

from __future__ import annotations

from typing import Any

from cocoindex.testing.simulation import Outcome
from histories.model import CallModel, Comp, Model


def difference(found: dict[Any, str], expected: dict[Any, str]) -> str:
    lines = [
        f"{'/'.join(path)}: {found.get(path)} instead of {expected.get(path)}"
        for path in sorted(found | expected)
        if found.get(path) != expected.get(path)
    ]
    return "; ".join(lines[:6])


def spoiled(outcome: Outcome) -> str:
    """How an update ended in which something was to go wrong."""
    struck = [f"{kind} at {point} of {where}" for point, where, kind in outcome.plan.struck]
    return f"{outcome.kind} {outcome.value or ''}; {', '.join(struck) or 'nothing struck'}"


def brief(actions: list[Any]) -> str:
    return ", ".join(f"{a.op} {'/'.join(a.path)}" for a in actions[:12]) or "no action"


def describe_edit(before: Model, after: Model) -> str:
    if before.files != after.files:
        return f"files are {after.files}"
    if before.codes != after.codes:
        return f"code is { {k: v for k, v in after.codes.items() if v} }"
    if before.tone != after.tone:
        return f"tone is {after.tone}"
    return show(after)


def show(model: Model) -> str:
    return _comp_text(model.root)


def _comp_text(comp: Comp) -> str:
    parts = [f"{'/'.join(p)}={s}" for p, s in comp.rows.items()]
    parts += [f"{'/'.join(p)}=!{s}" for p, s in comp.claims.items()]
    parts += map(_call_text, comp.calls)
    parts += [f"{t.kind}:{t.name}({t.shape}|{t.minor}{t.inner or ''})" for t in comp.tables]
    parts += map(_comp_text, comp.children)
    flags = {
        "+w": comp.is_wrapped, "+p": comp.passes, "+tone": comp.tone, "+gather": comp.together,
        f"+s{comp.states}": comp.states,
    }  # fmt: skip
    flag_text = "".join(flag for flag, is_set in flags.items() if is_set)
    return f"{comp.name}:{comp.how}/{comp.kind}{flag_text}[{', '.join(parts)}]"


def _call_text(call: CallModel) -> str:
    rows = [f"{'/'.join(p)}={s}" for p, s in call.rows.items()]
    parts = ", ".join([*rows, *map(_call_text, call.inner)])
    return f"{call.kind}.{call.name}{'+tone' if call.tone else ''}({parts})"
