"""The memo of a whole component: reuse everything below a path without running anything."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cocoindex.core.serde import serialize
from cocoindex.engine import rows
from cocoindex.engine.dependencies import (
    NO_ANSWERS,
    StateAnswers,
    StateCheck,
    answers_now,
    answers_of,
    are_current,
    argument_checks,
    ask,
    call_all,
    context_checks,
    context_states,
    first_checks,
)
from cocoindex.engine.function_memos import labels_key
from cocoindex.engine.rows import ComponentMemoRow
from cocoindex.engine.scope import entered
from cocoindex.errors import DeserializationError, SerializationError

if TYPE_CHECKING:
    from cocoindex.engine.execution import Execution
    from cocoindex.engine.function import CallKey, Function
    from cocoindex.engine.run import Run
    from cocoindex.engine.tree import Place

_logger = logging.getLogger("cocoindex.engine")

_NOTHING = serialize(None)


class Probe(Enum):
    """What a look at the stored memo says."""

    HIT = auto()
    MISS = auto()
    ASK = auto()
    """The state functions of the arguments or of context values decide."""


# Before Python 3.12, a member is looked up ten times as fast in a module as in its class.
HIT: Final = Probe.HIT
MISS: Final = Probe.MISS
ASK: Final = Probe.ASK


class ComponentMemo(msgspec.Struct, eq=False):
    """Probe and storage of one component's memo."""

    _run: Run
    _place: Place
    function: Function
    _args: tuple[Any, ...]
    _kwargs: dict[str, Any]
    call_key: CallKey | None = None
    """Found by the probe, if the function is memoized and nobody has found it before."""
    found: Probe | None = None
    """What the probe has said, once it was made."""
    asked_context: bytes = b""
    """Context values that state functions have used outside of the component."""
    _checks: Sequence[StateCheck] = ()
    _outcomes: list[Any] | None = None
    _raw: bytes | None = None
    _row: ComponentMemoRow | None = None
    _states: StateAnswers | None = None

    @property
    def component_id(self) -> int:
        return self._place.node.id

    @property
    def deps(self) -> rows.Dependencies:
        assert self._row is not None
        return self._row.deps

    @property
    def _key(self) -> bytes:
        return rows.component_memo_key(self._place.node.id)

    def __str__(self) -> str:
        return f"{self.function.name} at {self._run.path_text(self.component_id)}"

    def probe(self) -> Probe:
        """Compare call, code, context, providers and states with what is stored.

        ``ASK`` is left only where a state function has to be awaited.
        """
        self.found = self._probe()
        if self.found is ASK:
            self.found = self.ask_now()
        return self.found

    def _probe(self) -> Probe:
        run, function = self._run, self.function
        raw = self._raw = (
            None if self._place.is_fresh else run.app.section.get(self._key, ahead=True)
        )
        if not function.memo:
            return MISS
        call_key = self.call_key
        if call_key is None:
            call_key = self.call_key = function.call_key(self._args, self._kwargs)
        if raw is None or run.full_reprocess:
            return MISS
        try:
            row = rows.decode_component_memo(raw)
        except ValueError as error:
            _logger.warning("the stored memo of %s is unreadable: %s", self, error)
            return MISS
        if row.fingerprint != call_key.fingerprint:
            return MISS
        if not are_current(run, row.deps, function.logic()):
            return MISS
        self._row = row
        checks = argument_checks(call_key.state_fns, row.states)
        if row.context_states:
            checks += context_checks(run, row.context_states)
        self._checks = checks
        return ASK if checks else HIT

    def ask_now(self) -> Probe:
        """Let the state functions decide, unless one of them has to be awaited."""
        assert self._row is not None
        self._outcomes = call_all(self._checks)
        answers = answers_now(self._outcomes)
        return ASK if answers is None else self._decide(self._row, answers)

    async def ask(self) -> Probe:
        """Let the state functions decide (those already called are not called again)."""
        assert self._row is not None
        outcomes, self._outcomes = self._outcomes, None
        if outcomes is None:
            outcomes = call_all(self._checks)
        answers = await answers_of(outcomes)
        if self._run.app.section.get(self._key) != self._raw:
            self._raw = None  # another component has taken an item over meanwhile
            return MISS
        return self._decide(self._row, answers)

    def _decide(self, row: ComponentMemoRow, answers: StateAnswers) -> Probe:
        """Accept the stored memo if every answer is valid; remember changed states."""
        key = self.call_key
        assert key is not None
        count = len(key.state_fns)
        if not answers.all_valid or len(row.states) != count:
            self._states = StateAnswers(answers.outcomes[:count], answers.serialized[:count])
            return MISS
        old = row.states
        if row.context_states:
            old = old + [state for _, states in row.context_states for state in states]
        if old != answers.serialized:
            self._write_states(row, answers.serialized)
        return HIT

    def _write_states(self, row: ComponentMemoRow, serialized: list[bytes]) -> None:
        count = len(row.states)
        row.states = serialized[:count]
        rest = iter(serialized[count:])
        row.context_states = [
            (fingerprint, [next(rest, state) for state in states])
            for fingerprint, states in row.context_states
        ]
        self._run.app.section.write([(self._key, rows.encode(row))])

    def result(self) -> Any:
        """The stored return value.

        Raises:
            DeserializationError: its type has changed.
        """
        assert self._row is not None
        return self.function.decode_result(self._row.value)

    def is_readable(self) -> bool:
        """Whether the stored return value can be read; if not, the component has to run."""
        try:
            self.result()
        except DeserializationError as error:
            _logger.warning(
                "the stored result of %s can't be read any more; it runs again: %s", self, error
            )
            self.found = MISS
            return False
        return True

    def pattern(self) -> rows.MemoPattern | None:
        """By what memos like this one, just reused, are known; None if each has to be asked."""
        raw, row = self._raw, self._row
        if raw is None or row is None or self._checks or row.value != _NOTHING:
            return None
        return rows.MemoPattern(raw, row)

    def close(self) -> None:
        """Let go of state functions that nobody has come to wait for."""
        for outcome in self._outcomes or ():
            if inspect.iscoroutine(outcome):
                outcome.close()

    def drop(self) -> None:
        """Forget the stored memo before the body starts."""
        if self._raw is not None:
            self._run.app.section.write([(self._key, None)])

    @property
    def asks_states(self) -> bool:
        """Whether a memo of this run depends on what state functions have yet to say."""
        count = 0 if self.call_key is None else len(self.call_key.state_fns)
        known = self._states
        return count > 0 and (known is None or len(known.serialized) != count)

    async def ask_states(self, execution: Execution) -> None:
        """Let the state functions say what the memo of this run depends on."""
        assert self.call_key is not None
        with entered(execution.scope):
            self._states = await ask(first_checks(self.call_key.state_fns))

    def encode(self, execution: Execution, value: Any) -> bytes | None:
        """The row to store once the component has succeeded; None if it is not memoized.

        Raises:
            TypeError: the result can't be serialized.
        """
        key, run = self.call_key, self._run
        if key is None:
            return None
        try:
            payload = self.function.encode_result(value)
        except SerializationError as error:
            raise SerializationError(
                f"result of memoized component {self.function.name} at {execution}: {error}"
            ) from error
        if self.asked_context:
            execution.frame.context[self.asked_context] = None
        deps, labels = execution.dependencies(), labels_key(key)
        run.note_labels(labels, key)
        states = self._states or NO_ANSWERS
        return rows.encode(
            ComponentMemoRow(
                key.fingerprint,
                payload,
                deps,
                states.serialized,
                context_states(run, deps.context) if deps.context else [],
                labels,
                key.checksums(),
            )
        )
