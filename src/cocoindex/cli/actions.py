"""How planned actions are shown.

An action that offers ``__coco_describe__()`` is shown as the :class:`Described` (or a mapping of
the same fields) that it returns; any other one by a ``__str__`` of its own, or else by
its ``repr``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cocoindex.cli.redact import redact

VERBS = ("create", "update", "delete", "replace", "alter", "keep")


class Described(NamedTuple):
    """One planned action in the user's terms."""

    target: str
    verb: str
    key: str
    fields: tuple[str, ...] = ()
    """Names of the columns or parts that change; empty if all or none."""


def describe(action: Any) -> Described | None:
    """What ``action`` says about itself, or None if it can't."""
    offered = getattr(type(action), "__coco_describe__", None)
    if offered is None:
        return None
    said = offered(action)
    if isinstance(said, Mapping):
        fields = tuple(str(field) for field in said.get("fields", ()))
        return Described(str(said["target"]), str(said["verb"]), str(said["key"]), fields)
    target, verb, key, *rest = said
    return Described(str(target), str(verb), str(key), tuple(map(str, rest[0] if rest else ())))


def is_change(action: Any) -> bool:
    """Whether ``action`` does anything: one whose verb is ``keep`` only makes sure."""
    said = describe(action)
    return said is None or said.verb != "keep"


Withheld = tuple[str, int, int]
"""Where the deletion guard withholds removals, how many, and how many children there were."""


def preview_lines(actions: Sequence[Any], withheld: Sequence[Withheld] = ()) -> Iterator[str]:
    """The plan as text: described actions by target, the others, totals, withheld removals."""
    yield "Preview: planned target actions"
    if actions:
        yield from _action_lines(actions)
    else:
        yield "  No target actions planned."
    if withheld:
        yield "Withheld by the deletion guard (--allow-deletes approves):"
        for path, removed, had in withheld:
            yield f"  removal of {removed} of {had} children below {redact(path)}"


def _action_lines(actions: Sequence[Any]) -> Iterator[str]:
    described, others = _split(actions)
    for target, group in described.items():
        yield f"  {redact(target)}:"
        yield from (f"    {_described_line(action)}" for action in group)
    yield from (f"  {redact(_text(action))}" for action in others)
    yield _totals(described, others)


def _text(action: Any) -> str:
    kinds = (kind for kind in type(action).__mro__ if kind.__module__ != "builtins")
    return str(action) if any("__str__" in vars(kind) for kind in kinds) else repr(action)


def _split(actions: Iterable[Any]) -> tuple[dict[str, list[Described]], list[Any]]:
    described: dict[str, list[Described]] = {}
    others = []
    for action in actions:
        said = describe(action)
        if said is None:
            others.append(action)
        else:
            described.setdefault(said.target, []).append(said)
    return described, others


def _described_line(action: Described) -> str:
    fields = f" ({', '.join(action.fields)})" if action.fields else ""
    return redact(f"{action.verb} {action.key}{fields}")


def _totals(described: Mapping[str, Sequence[Described]], others: Sequence[Any]) -> str:
    number = sum(map(len, described.values())) + len(others)
    verbs = Counter(action.verb for group in described.values() for action in group)
    parts = [f"{count} {verb}" for verb, count in verbs.items()]
    if others and parts:
        parts.append(f"{len(others)} other")
    tail = f": {', '.join(parts)}" if parts else ""
    return f"Total: {number} action{'s' * (number != 1)}{tail}"


def preview_json(actions: Sequence[Any], withheld: Sequence[Withheld] = ()) -> dict[str, Any]:
    """The plan as data."""
    described, _ = _split(actions)
    verbs = Counter(action.verb for group in described.values() for action in group)
    return {
        "actions": [_action_json(action) for action in actions],
        "total": len(actions),
        "by_verb": dict(verbs),
        "withheld": [
            {"path": redact(path), "removed": removed, "had": had}
            for path, removed, had in withheld
        ],
    }


def _action_json(action: Any) -> dict[str, Any]:
    said = describe(action)
    if said is None:
        return {"repr": redact(repr(action))}
    return {
        "target": redact(said.target),
        "verb": said.verb,
        "key": redact(said.key),
        "fields": list(said.fields),
    }
