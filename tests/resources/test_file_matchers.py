from __future__ import annotations

import pickle
from pathlib import PurePosixPath

import pytest

from cocoindex.resources.file import (
    FilePathMatcher,
    MatchAllFilePathMatcher,
    PatternFilePathMatcher,
)

P = PurePosixPath


def enters(matcher: FilePathMatcher, *paths: str) -> list[str]:
    return [path for path in paths if matcher.is_dir_included(P(path))]


def takes(matcher: FilePathMatcher, *paths: str) -> list[str]:
    return [path for path in paths if matcher.is_file_included(P(path))]


def test_without_patterns_everything_is_included() -> None:
    for matcher in (PatternFilePathMatcher(), MatchAllFilePathMatcher()):
        assert takes(matcher, "a", "a/b") == ["a", "a/b"]
        assert enters(matcher, "a", "a/b") == ["a", "a/b"]
        assert isinstance(matcher, FilePathMatcher)


def test_an_empty_include_list_takes_nothing_and_an_empty_exclude_list_everything() -> None:
    assert takes(PatternFilePathMatcher([]), "a") == []
    assert takes(PatternFilePathMatcher(None, []), "a") == ["a"]


def test_a_file_is_taken_if_included_and_not_excluded() -> None:
    matcher = PatternFilePathMatcher(["*.py"], ["test_*", "**/test_*"])
    assert takes(matcher, "a.py", "x/a.py", "a.txt", "x/test_a.py") == ["a.py", "x/a.py"]


def test_an_excluded_directory_says_nothing_about_a_file_asked_for_directly() -> None:
    matcher = PatternFilePathMatcher(excluded_patterns=["a"])
    assert enters(matcher, "a", "b") == ["b"]
    assert takes(matcher, "a/x") == ["a/x"]


@pytest.mark.parametrize("excluded", [["a/**", "!a/keep"], ["!a/keep", "a/**"]])
def test_the_order_of_exceptions_does_not_matter(excluded: list[str]) -> None:
    matcher = PatternFilePathMatcher(excluded_patterns=excluded)
    assert takes(matcher, "a/keep", "a/other") == ["a/keep"]


def test_an_exception_without_a_rule_has_no_effect() -> None:
    matcher = PatternFilePathMatcher(excluded_patterns=["!a"])
    assert takes(matcher, "a", "b") == ["a", "b"]
    assert enters(matcher, "a", "b") == ["a", "b"]


@pytest.mark.parametrize(
    ("excluded", "entered", "pruned"),
    [
        (["**/.*", "!**/.github/**"], [".github", "x/.github"], [".git", "x/.git"]),
        (
            ["dir1/**", "!dir1/dir2/dir3/a.yml"],
            ["dir1", "dir1/dir2", "dir1/dir2/dir3"],
            ["dir1/other", "dir1/dir2/other"],
        ),
        (["a/**", "!a/{b/c,d}/e"], ["a", "a/b", "a/b/c", "a/d"], ["a/x", "a/b/x"]),
        (["a/**", "!a/*/c/*.yml"], ["a/b", "a/b/c", "a/x/y"], []),
        (["a/**", "!a/[bc]/d?/e"], ["a/b", "a/c", "a/b/dx"], ["a/d", "a/b/x"]),
        (["a/**", "!a/**/keep.txt"], ["a/b", "a/b/c"], []),
        (["node_modules", "!**/*.md"], ["src"], ["node_modules"]),
        (["node_modules", "!*/keep/*.md"], ["src"], ["node_modules"]),
        (["**/b", "!*/b/c"], ["x/b", "x/y/b"], []),
        (["a", "!{**/,}x/y", "!**"], ["a"], []),
    ],
)
def test_exceptions_reopen_the_directories_that_lead_to_them(
    excluded: list[str], entered: list[str], pruned: list[str]
) -> None:
    matcher = PatternFilePathMatcher(excluded_patterns=excluded)
    assert enters(matcher, *entered, *pruned) == entered


def test_includes_with_a_literal_head_prune() -> None:
    matcher = PatternFilePathMatcher(["src/**/*.py", "lib/{a,b}/*.c"])
    asked = ("src", "src/x", "docs", "lib", "lib/a", "lib/c", ".")
    assert enters(matcher, *asked) == ["src", "src/x", "lib", "lib/a", "."]
    unpruned = PatternFilePathMatcher(["src/**/*.py"], prune_by_included=False)
    assert enters(unpruned, "docs") == ["docs"]


def test_includes_without_a_literal_head_do_not_prune() -> None:
    assert enters(PatternFilePathMatcher(["*.py", "src/x"]), "docs") == ["docs"]


def test_matchers_are_values() -> None:
    one, same = PatternFilePathMatcher(["a"], ["b"]), PatternFilePathMatcher(("a",), ["b"])
    assert one == same
    assert hash(one) == hash(same)
    assert one != PatternFilePathMatcher(["a"])
    assert pickle.loads(pickle.dumps(one)) == one
    assert repr(one) == "PatternFilePathMatcher(included_patterns=['a'], excluded_patterns=['b'])"
    assert MatchAllFilePathMatcher() == MatchAllFilePathMatcher()
    assert one.__coco_memo_key__() == same.__coco_memo_key__()


def test_a_bare_string_is_refused_as_a_list_of_patterns() -> None:
    with pytest.raises(TypeError, match="must be a list"):
        PatternFilePathMatcher("*.py")


def test_too_many_alternatives_in_an_exception_are_refused() -> None:
    with pytest.raises(ValueError, match="alternatives"):
        PatternFilePathMatcher(excluded_patterns=["a", "!" + "{,**/}" * 12 + "x"])
