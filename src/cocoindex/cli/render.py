"""Text and JSON of what inspection yields. Pure functions over values of ``cocoindex.inspect``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cocoindex.core.keys import key_text

Json = dict[str, Any]


def node_mark(info: Any) -> str:
    """``[component]``, or nothing for a directory."""
    return " [component]" if is_component(info) else ""


def is_component(info: Any) -> bool:
    return str(info.node_type) == "Component"


# --- Stable paths ------------------------------------------------------------------------


class PathTree:
    """Tree lines of paths that arrive depth-first; keeps the last path only."""

    def __init__(self) -> None:
        self._above: tuple[Any, ...] = ()

    def lines(self, detail: Any) -> Iterator[str]:
        """The line of one path, after those of ancestors that were not listed themselves."""
        keys = tuple(detail.path.parts())
        if not keys:
            yield f"- /{node_mark(detail)}{_counts(detail)}"
            return
        for depth in range(_shared(self._above, keys), len(keys) - 1):
            yield _tree_line(depth, keys[depth])
        yield _tree_line(len(keys) - 1, keys[-1]) + node_mark(detail) + _counts(detail)
        self._above = keys


def _shared(above: Sequence[Any], keys: Sequence[Any]) -> int:
    """How many of the ancestors of ``keys`` have a line already."""
    shared = 0
    for a, b in zip(above, keys[:-1], strict=False):
        if type(a) is not type(b) or a != b:
            break
        shared += 1
    return shared


def _tree_line(depth: int, key: Any) -> str:
    return f"{'  ' * (depth + 1)}- {key if isinstance(key, str) else key_text(key)}"


def _counts(detail: Any) -> str:
    states = detail.target_state_count
    memos = memo_count(detail)
    shown = [f"states:{states}"] if states else []
    if memos:
        shown.append(f"memos:{memos}")
    return "".join(f" {part}" for part in shown)


def memo_count(detail: Any) -> int:
    """Memo entries of a component, as far as the engine counts them: at least whether any."""
    return int(getattr(detail, "memo_count", detail.has_memoization))


def detail_lines(detail: Any, *, fingerprints: bool = False) -> Iterator[str]:
    """Everything known about one path, with a blank line at the end."""
    yield f"  {detail.path}"
    kind = "component" if is_component(detail) else "directory"
    yield f"    type:{kind} version:{detail.version} processor:{detail.processor_name or '-'}"
    yield (
        f"    has_memoization:{_bool(detail.has_memoization)} "
        f"target_state_count:{detail.target_state_count}"
    )
    if detail.target_state_items:
        yield "    Target states:"
    for item in detail.target_state_items:
        yield f"      - path:{item_path(item, fingerprints=fingerprints)}"
        yield (
            f"        states:{_states(item)} schema_version:{item.provider_schema_version} "
            f"generation:{_generation(item)}"
        )
    yield ""


def item_path(item: Any, *, fingerprints: bool) -> str:
    return str(item.fingerprint_path if fingerprints else item.target_state_path)


def _bool(value: object) -> str:
    return "true" if value else "false"


def _states(item: Any) -> str:
    return ",".join(f"{state.version}:{state.state}" for state in item.states) or "-"


def _generation(item: Any) -> str:
    generation = item.provider_generation
    if generation is None:
        return "None"
    return f"{generation.provider_id}.{generation.provider_schema_version}"


# --- Target states -----------------------------------------------------------------------


def entry_path(entry: Any, *, fingerprints: bool) -> str:
    return str(entry.fingerprint_path if fingerprints else entry.readable_path)


def entry_lines(entry: Any, *, fingerprints: bool = False) -> Iterator[str]:
    """A tracked target state and its owner."""
    yield f"  {entry_path(entry, fingerprints=fingerprints)}{_dangling(entry)}"
    yield f"    owner:{entry.owner_component_path}"


def _dangling(entry: Any) -> str:
    return " [dangling]" if entry.dangling else ""


class TargetTree:
    """Tree lines of target states that arrive depth-first; keeps the last path only."""

    def __init__(self, *, fingerprints: bool = False) -> None:
        self._fingerprints = fingerprints
        self._above: tuple[str, ...] = ()

    def lines(self, entry: Any) -> Iterator[str]:
        """The line of one target state, after those of ancestors that are none themselves."""
        segments = self._segments(entry)
        for depth in range(_shared(self._above, segments), len(segments) - 1):
            yield f"{'  ' * depth}- {segments[depth]}"
        indent = "  " * (len(segments) - 1)
        yield f"{indent}- {segments[-1]}{_dangling(entry)} owner:{entry.owner_component_path}"
        self._above = segments

    def _segments(self, entry: Any) -> tuple[str, ...]:
        if self._fingerprints:
            return tuple(str(entry.fingerprint_path).strip("/").split("/"))
        return tuple(entry.readable_segments)


def container_of(segments: Sequence[str]) -> str:
    """The target that holds a target state, by its readable path."""
    return "/".join(segments[:-1] if len(segments) > 1 else segments)


def count_lines(counts: dict[str, int], most: int = 20) -> list[str]:
    """``  @cocoindex/localfs/[null,"/out"]: 3 target states``, at most ``most`` of them."""
    lines = [f"  {name}: {n} target state{'s' * (n != 1)}" for name, n in counts.items()]
    hidden = len(lines) - most
    return [*lines[:most], f"  … and {hidden} more targets"] if hidden > 0 else lines


# --- JSON --------------------------------------------------------------------------------


def path_json(info: Any) -> Json:
    return {"path": str(info.path), "type": "component" if is_component(info) else "directory"}


def detail_json(detail: Any, *, fingerprints: bool = False) -> Json:
    return {
        **path_json(detail),
        "version": detail.version,
        "processor": detail.processor_name or None,
        "has_memoization": bool(detail.has_memoization),
        "memo_count": memo_count(detail),
        "target_state_count": detail.target_state_count,
        "target_states": [
            _item_json(item, fingerprints=fingerprints) for item in detail.target_state_items
        ],
    }


def _item_json(item: Any, *, fingerprints: bool) -> Json:
    generation = item.provider_generation
    return {
        "path": item_path(item, fingerprints=fingerprints),
        "states": [{"version": s.version, "state": str(s.state)} for s in item.states],
        "schema_version": item.provider_schema_version,
        "generation": None if generation is None else _generation(item),
    }


def entry_json(entry: Any, *, fingerprints: bool = False) -> Json:
    return {
        "path": entry_path(entry, fingerprints=fingerprints),
        "segments": list(entry.readable_segments),
        "owner": str(entry.owner_component_path),
        "dangling": bool(entry.dangling),
    }
