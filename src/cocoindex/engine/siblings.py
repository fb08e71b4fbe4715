"""Components that are mounted one after the other, and differ in nothing but the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cocoindex.engine import rows
from cocoindex.engine.dependencies import are_current
from cocoindex.engine.lifecycle import note_hit
from cocoindex.engine.scope import ComponentContext, enter, leave

if TYPE_CHECKING:
    from cocoindex.core.keys import StableKey
    from cocoindex.engine.component_memo import ComponentMemo
    from cocoindex.engine.function import CallKey, Function
    from cocoindex.engine.rows import MemoPattern
    from cocoindex.engine.tree import Level


class Siblings:
    """The children that one ``mount_each`` call mounts, all of one memoized function.

    A child whose memo is like the one that was reused before it is reused at a glance: what the
    two have in common needs not be decoded and judged again, except for what may change while a
    run goes on.
    """

    __slots__ = ("_deps", "_function", "_pattern", "_scope")

    def __init__(self, scope: ComponentContext, function: Function) -> None:
        """``scope``: where memo keys and states of children are asked for."""
        self._scope = scope
        self._function = function
        self._pattern: MemoPattern | None = None
        self._deps = rows.Dependencies()

    def call_key(
        self, keys: tuple[StableKey, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> CallKey | None:
        """The key of a child's call; None if it has none, as its probe will find, too."""
        function = self._function
        try:
            return function.plain_call_key(args, kwargs) or self._asked_key(keys, args, kwargs)
        except Exception:  # noqa: BLE001 - found again, and reported, by the child's own execution
            return None

    def _asked_key(
        self, keys: tuple[StableKey, ...], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> CallKey:
        self._scope.subpath = keys
        token = enter(self._scope)
        try:
            return self._function.call_key(args, kwargs)
        finally:
            leave(token)

    def follow(self, memo: ComponentMemo) -> None:
        """Compare the next children with one that was just reused."""
        self._pattern, self._deps = memo.pattern(), memo.deps

    def reuse(self, level: Level, place: bytes, key: CallKey) -> bool:
        """Reuse a child if a glance at its memo is enough to know that it is current.

        ``place``: where it was claimed in ``level``.
        """
        stored = level.stored.get(place)
        if self._pattern is None or stored is None or key.state_fns:
            return False
        if not self._is_current(self._pattern, stored, key):
            self._pattern = None
            return False
        level.found += 1
        scope = self._scope
        if scope.frame.context:  # nothing will be stored that depends on it
            scope.frame.take_context()
        # What it depends on, the parent knows from the one that is followed.
        note_hit(scope.execution.run, scope.stats, self._function.name, rows.unpack_id(stored))
        return True

    def _is_current(self, pattern: MemoPattern, stored: bytes, key: CallKey) -> bool:
        run, memo_key = self._scope.execution.run, rows.memo_key_below(stored)
        if run.cancelled_by is not None or memo_key is None:
            return False
        raw = run.app.section.get(memo_key, ahead=True)
        return (
            raw is not None
            and pattern.matches(raw, key.fingerprint)
            and are_current(run, self._deps, self._function.logic())
        )
