"""How planned actions are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from cocoindex.cli.actions import is_change, preview_json, preview_lines
from cocoindex.cli.redact import redact


class Raw(NamedTuple):
    op: str
    dsn: str = ""


@dataclass
class Row:
    verb: str
    key: str
    fields: tuple[str, ...] = ()

    def __coco_describe__(self) -> dict[str, Any]:
        return {"target": "docs", "verb": self.verb, "key": self.key, "fields": self.fields}


def test_nothing_planned_says_so() -> None:
    assert list(preview_lines([])) == [
        "Preview: planned target actions",
        "  No target actions planned.",
    ]


def test_actions_that_say_nothing_of_themselves_are_shown_by_their_repr() -> None:
    assert list(preview_lines([Raw("put")])) == [
        "Preview: planned target actions",
        "  Raw(op='put', dsn='')",
        "Total: 1 action",
    ]


def test_described_actions_are_grouped_by_target_and_counted_by_verb() -> None:
    actions = [Row("create", '"a"'), Raw("x"), Row("update", '"b"', ("title", "body"))]
    assert list(preview_lines(actions)) == [
        "Preview: planned target actions",
        "  docs:",
        '    create "a"',
        '    update "b" (title, body)',
        "  Raw(op='x', dsn='')",
        "Total: 3 actions: 1 create, 1 update, 1 other",
    ]


def test_the_plan_is_data_too() -> None:
    assert preview_json([Row("create", "1"), Raw("x")]) == {
        "actions": [
            {"target": "docs", "verb": "create", "key": "1", "fields": []},
            {"repr": "Raw(op='x', dsn='')"},
        ],
        "total": 2,
        "by_verb": {"create": 1},
        "withheld": [],
    }


def test_passwords_never_show() -> None:
    planted = "hunter2-canary"
    texts = [
        repr(Raw("x", f"postgresql://me:{planted}@host/db")),
        f"host=h password={planted} dbname=x",
        repr({"api_key": planted, "name": "n"}),
        repr({"OPENAI_API_KEY": planted}),
        f"Conn(secret={planted!r}, port=1)",
    ]
    assert all(planted not in redact(text) for text in texts)
    assert "port=1" in redact(texts[-1])
    assert redact("http://host/a:b@c") == "http://host/a:b@c"


def test_what_is_only_kept_is_no_change() -> None:
    assert [is_change(action) for action in (Row("keep", "a"), Row("update", "a"), Raw("x"))] == [
        False,
        True,
        True,
    ]
