"""Text and JSON of inspected values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from cocoindex.cli import render
from cocoindex.core.keys import Symbol
from cocoindex.core.paths import StablePath


def path_info(*keys: Any, kind: str = "Component", **more: Any) -> Any:
    values = {
        "path": StablePath(keys),
        "node_type": kind,
        "version": 1,
        "processor_name": "f",
        "target_state_count": 0,
        "has_memoization": False,
        "target_state_items": [],
    }
    return SimpleNamespace(**{**values, **more})


ITEM = SimpleNamespace(
    target_state_path='/@cocoindex/localfs/[null,"/out"]/"direct.txt"[provider_id=1]',
    fingerprint_path="/#aa/#bb",
    states=[SimpleNamespace(version=1, state="Existing")],
    provider_schema_version=0,
    provider_generation=None,
)


def entry(owner: str, *segments: str, dangling: bool = False) -> Any:
    return SimpleNamespace(
        fingerprint_path="/#aa/#bb",
        readable_path="/" + "/".join(segments),
        readable_segments=list(segments),
        owner_component_path=owner,
        dangling=dangling,
    )


def tree_of(tree: Any, *items: Any) -> list[str]:
    return [line for item in items for line in tree.lines(item)]


def test_details_of_a_path_end_with_a_blank_line() -> None:
    detail = path_info(
        "direct", processor_name="process_file", target_state_count=1, target_state_items=[ITEM]
    )
    assert list(render.detail_lines(detail)) == [
        '  /"direct"',
        "    type:component version:1 processor:process_file",
        "    has_memoization:false target_state_count:1",
        "    Target states:",
        '      - path:/@cocoindex/localfs/[null,"/out"]/"direct.txt"[provider_id=1]',
        "        states:1:Existing schema_version:0 generation:None",
        "",
    ]


def test_details_of_a_directory_have_no_processor() -> None:
    detail = path_info("files", kind="Directory", processor_name="", version=0)
    assert list(render.detail_lines(detail))[1] == "    type:directory version:0 processor:-"


def test_details_show_stored_fingerprints_generations_and_several_states_on_demand() -> None:
    item = SimpleNamespace(
        **{
            **vars(ITEM),
            "states": [
                SimpleNamespace(version=1, state="Existing"),
                SimpleNamespace(version=2, state="Deleted"),
            ],
            "provider_generation": SimpleNamespace(provider_id=3, provider_schema_version=4),
        }
    )
    lines = list(render.detail_lines(path_info("a", target_state_items=[item]), fingerprints=True))
    assert lines[4:6] == [
        "      - path:/#aa/#bb",
        "        states:1:Existing,2:Deleted schema_version:0 generation:3.4",
    ]


def test_the_tree_indents_children_and_counts_states_and_memos() -> None:
    lines = tree_of(
        render.PathTree(),
        path_info(),
        path_info("files", kind="Directory"),
        path_info("files", "a.txt", target_state_count=2, has_memoization=True),
        path_info("files", 1),
        path_info("setup"),
    )
    assert lines == [
        "- / [component]",
        "  - files",
        "    - a.txt [component] states:2 memos:1",
        "    - 1 [component]",
        "  - setup [component]",
    ]


def test_ancestors_that_are_not_listed_get_a_line_of_their_own() -> None:
    lines = tree_of(
        render.PathTree(), path_info("a", 1, "x"), path_info("a", 1, "y"), path_info("a", True, "z")
    )
    assert lines == [
        "  - a",
        "    - 1",
        "      - x [component]",
        "      - y [component]",
        "    - true",
        "      - z [component]",
    ]


def test_symbols_and_tuples_keep_their_text_form_in_the_tree() -> None:
    lines = tree_of(render.PathTree(), path_info(Symbol("s")), path_info(("t", None)))
    assert lines == ["  - @s [component]", '  - ["t",null] [component]']


def test_target_states_are_listed_with_their_owners() -> None:
    lines = list(render.entry_lines(entry('/"setup"', "@x", '"a"', dangling=True)))
    assert lines == ['  /@x/"a" [dangling]', '    owner:/"setup"']
    assert next(render.entry_lines(entry("/", "@x"), fingerprints=True)) == "  /#aa/#bb"


def test_target_states_nest_under_their_parents() -> None:
    lines = tree_of(
        render.TargetTree(),
        entry('/"setup"', "@cocoindex/localfs", '[null,"/out"]'),
        entry('/"files"/"file2.txt"', "@cocoindex/localfs", '[null,"/out"]', '"file2.txt"'),
    )
    assert lines == [
        "- @cocoindex/localfs",
        '  - [null,"/out"] owner:/"setup"',
        '    - "file2.txt" owner:/"files"/"file2.txt"',
    ]


def test_states_are_counted_by_the_target_that_holds_them() -> None:
    assert render.container_of(["@x", '"d"', "1"]) == '@x/"d"'
    assert render.container_of(["@x"]) == "@x"
    counts = {"@x": 1, '@x/"d"': 2}
    assert render.count_lines(counts) == ["  @x: 1 target state", '  @x/"d": 2 target states']
    assert render.count_lines(counts, most=1)[1:] == ["  … and 1 more targets"]
