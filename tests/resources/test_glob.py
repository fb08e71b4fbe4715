from __future__ import annotations

import re
from functools import cache
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cocoindex.resources._glob import Glob
from cocoindex.resources.file import PatternFilePathMatcher


def matches(pattern: str, path: str) -> bool:
    return PatternFilePathMatcher([pattern]).is_file_included(PurePosixPath(path))


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*.py", "b.py", True),
        ("*.py", "a/b.py", True),
        ("*.py", ".hidden.py", True),
        ("src/*.py", "src/x/y.py", True),
        ("src/*.py", "x/src/y.py", False),
        ("a?b", "a/b", True),
        ("a?b", "ab", False),
        ("**/a", "a", True),
        ("**/a", "x/y/a", True),
        ("**/a", "xa", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "axb", False),
        ("a/**/**/b", "a/b", True),
        ("a/**", "a/b", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("**/foo/**", "foo/x", True),
        ("**", "a/b", True),
        ("**/", "a/b", True),
        ("**/**", "a", True),
        ("a**b", "a/x/b", True),
        ("a/b**", "a/b/c", True),
        ("[abc]x", "bx", True),
        ("[a-c]x", "dx", False),
        ("[!a]x", "ax", False),
        ("[^a]x", "bx", True),
        ("[]a]", "]", True),
        ("[!]]", "]", False),
        ("[a-]", "-", True),
        ("[&&a]", "&", True),
        ("[a\\]", "\\", True),
        ("{a,b}.txt", "b.txt", True),
        ("{a,b{c,d}}", "bd", True),
        ("x{,y}", "x", True),
        ("{a/b,c}/d", "a/b/d", True),
        ("{**/a,b}", "x/a", True),
        ("x{/**,}", "x", True),
        ("x{/**,}", "x/y/z", True),
        ("a,b", "a,b", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("\\{a", "{a", True),
        ("/a", "a", False),
        ("a/", "a", False),
        ("./a", "a", False),
        ("A", "a", False),
        ("a.c", "abc", False),
        ("*", "a\nb", True),
    ],
)
def test_a_glob_matches_as_specified(pattern: str, path: str, expected: bool) -> None:
    assert matches(pattern, path) is expected


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("[ab", "'[' is never closed"),
        ("[]", "'[' is never closed"),
        ("{a,b", "'{' is never closed"),
        ("a}", "'}' without '{'"),
        ("[z-a]", "inverted range 'z-a'"),
        ("a\\", "escapes nothing"),
        ("{" * 40 + "}" * 40, "nested deeper"),
        ("a/" * 200, "components"),
        ("a" * 5000, "longer than"),
    ],
)
def test_a_malformed_glob_names_itself_and_the_fault(pattern: str, fault: str) -> None:
    with pytest.raises(ValueError) as caught:
        PatternFilePathMatcher([pattern])
    assert fault in str(caught.value)
    assert repr(pattern) in str(caught.value)


# --- against a slow matcher that only does the obvious ---


def _expand(pattern: str) -> list[str]:
    """All brace-free spellings (test patterns hold neither classes nor escapes with braces)."""
    opening = pattern.rfind("{")
    if opening < 0:
        return [pattern]
    closing = pattern.index("}", opening)
    head, body, tail = pattern[:opening], pattern[opening + 1 : closing], pattern[closing + 1 :]
    return [x for part in body.split(",") for x in _expand(head + part + tail)]


def slow_match(pattern: str, path: str) -> bool:
    return any(_components_match(tuple(p.split("/")), path) for p in _expand(pattern))


@cache
def _components_match(components: tuple[str, ...], path: str) -> bool:
    if components == ("**",):
        return True
    head, rest = components[0], components[1:]
    if head == "**" and rest:
        starts = [0] + [i + 1 for i, c in enumerate(path) if c == "/"]
        return any(_components_match(rest, path[i:]) for i in starts)
    if rest == ("**",):
        cuts = [i for i, c in enumerate(path) if c == "/" and i + 1 < len(path)]
        return any(_text_matches(head, path[:i]) for i in cuts)
    if not rest:
        return _text_matches(head, path)
    # Wildcards cross "/", so any slash may be the one that the pattern spells out.
    cuts = [i for i, c in enumerate(path) if c == "/"]
    return any(
        _text_matches(head, path[:i]) and _components_match(rest, path[i + 1 :]) for i in cuts
    )


@cache
def _text_matches(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_text_matches(pattern[1:], text[i:]) for i in range(len(text) + 1))
    if not text:
        return False
    if pattern[0] == "[":
        end = pattern.index("]")
        negated = pattern[1] == "!"
        members = pattern[1 + negated : end]
        return (text[0] in members) != negated and _text_matches(pattern[end + 1 :], text[1:])
    if pattern[0] == "?" or pattern[0] == text[0]:
        return _text_matches(pattern[1:], text[1:])
    return False


pieces = st.sampled_from(["a", "b", ".", "*", "?", "[ab]", "[!a]"])
choices = st.lists(st.sampled_from(["a", "b", "a/b", "", "?", "ab"]), min_size=1, max_size=3).map(
    lambda parts: "{" + ",".join(parts) + "}"
)
texts = st.lists(pieces | choices, min_size=1, max_size=3).map("".join)
patterns = (
    st.lists(texts | st.just("**"), min_size=1, max_size=4)
    .map("/".join)
    # Stars next to stars have rules of their own, pinned above.
    .filter(lambda p: not re.search(r"\*\*\*|\*\*[^/]|[^/]\*\*", p))
    # As has a `**` whose neighbour may be empty.
    .filter(lambda p: not ("**" in p and any(not c for q in _expand(p) for c in q.split("/"))))
)
paths = st.lists(st.text("ab.", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


@settings(max_examples=400, deadline=None)
@given(patterns, paths)
def test_the_translation_agrees_with_a_slow_matcher(pattern: str, path: str) -> None:
    assert bool(re.fullmatch(Glob(pattern).full, path, re.DOTALL)) == slow_match(pattern, path)


@settings(max_examples=300, deadline=None)
@given(patterns, paths, paths)
def test_a_directory_above_a_match_is_never_pruned(pattern: str, above: str, below: str) -> None:
    if slow_match(pattern, f"{above}/{below}"):
        assert PatternFilePathMatcher([pattern]).includes_dir(above)
