"""Target-state providers: namespaces of target states, and what the engine knows of handlers."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from cocoindex.core.keys import (
    SCALAR_ENCODERS,
    StableKey,
    Symbol,
    encode_key,
    key_segment,
    normalize_and_encode,
    path_text,
)
from cocoindex.core.sentinels import NOT_SET
from cocoindex.core.serde import deserialize, make_deserialize_fn
from cocoindex.engine.generics import T1, T2, T3, Generic1, Generic3, base_arguments
from cocoindex.engine.targets import TargetHandler, check_handler
from cocoindex.errors import DeserializationError, UsageError, UsageTypeError, UsageValueError

if TYPE_CHECKING:
    from cocoindex.engine.targets import TargetReconcileOutput

Generation = tuple[int, int]
"""``(provider id, schema version)`` of a child provider."""

FIRST_GENERATION: Generation = (0, 0)


class HandlerInfo:
    """A handler with what its annotations say: how to decode records and rebuild keys."""

    __slots__ = ("_key_type", "decode_record", "handler", "rebuilds_keys", "reconcile")

    def __init__(self, handler: Any) -> None:
        self.handler = handler
        self.reconcile: Callable[..., TargetReconcileOutput | None] = handler.reconcile
        types = _handler_types(type(handler))
        self._key_type = types.key
        self.rebuilds_keys = types.key is not None
        self.decode_record: Callable[[bytes], Any] = types.decode

    def wants_children_first(self, key: Any, record: Any) -> bool:
        """Whether this container's children must be deleted one by one before it."""
        answer = getattr(self.handler, "reconcile_children_on_delete", False)
        return bool(answer(self.key(key), record) if callable(answer) else answer)

    def key(self, key: Any) -> Any:
        """``key`` as the NamedTuple class the handler asks for, if it does."""
        return key if self._key_type is None else _as_named_tuple(self._key_type, key)


class _HandlerTypes(msgspec.Struct, frozen=True):
    key: Any
    decode: Callable[[bytes], Any]


_types_by_class: dict[type, _HandlerTypes] = {}


def _handler_types(cls: type) -> _HandlerTypes:
    known = _types_by_class.get(cls)
    if known is None:
        known = _types_by_class[cls] = _inspect_handler(cls)
    return known


def _inspect_handler(cls: type) -> _HandlerTypes:
    annotations = _parameter_annotations(cls.reconcile)  # type: ignore[attr-defined]
    generic_key, generic_record = _generic_types(cls)
    record = _element_type(annotations.get(2))
    is_annotated = record is not None
    if record is None:
        record = generic_record if generic_record is not None else Any
    decode = make_deserialize_fn(record, f"tracking record of {cls.__module__}.{cls.__qualname__}")
    key = annotations.get(0, generic_key)
    return _HandlerTypes(
        key if _is_named_tuple(key) else None, decode if is_annotated else _or_untyped(decode)
    )


def _or_untyped(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """What was not annotated may be of another type."""

    def decode_record(payload: bytes) -> Any:
        try:
            return decode(payload)
        except DeserializationError:
            return deserialize(payload)

    return decode_record


def _parameter_annotations(method: Any) -> dict[int, Any]:
    """Resolved annotations of a method by position after ``self``."""
    code = getattr(method, "__code__", None)
    if code is None:
        return {}
    names = code.co_varnames[1 : code.co_argcount]
    try:
        hints = typing.get_type_hints(method)
    except Exception:  # noqa: BLE001 - user code: names may exist for the type checker only
        hints = _resolve_one_by_one(method)
    return {i: hints[name] for i, name in enumerate(names) if name in hints}


def _resolve_one_by_one(method: Any) -> dict[str, Any]:
    resolved: dict[str, Any] = {}
    for name, annotation in getattr(method, "__annotations__", {}).items():
        if not isinstance(annotation, str):
            resolved[name] = annotation
            continue
        try:
            resolved[name] = eval(annotation, method.__globals__)  # noqa: S307 - the user's own code
        except Exception:  # noqa: BLE001, S112 - an unresolvable annotation is no annotation
            continue
    return resolved


def _element_type(annotation: Any) -> Any:
    """``T`` of ``Collection[T]`` and its like, or None."""
    arguments = typing.get_args(annotation)
    if len(arguments) == 1 or (len(arguments) == 2 and arguments[1] is Ellipsis):
        return arguments[0] if not isinstance(arguments[0], typing.TypeVar) else None
    return None


def _generic_types(cls: type) -> tuple[Any, Any]:
    """Key and record type from ``TargetHandler[...]`` in the bases; None where it says nothing."""
    arguments = base_arguments(cls, TargetHandler)
    if len(arguments) == 2:
        return None, arguments[1]
    if len(arguments) == 3:
        third = arguments[2]
        is_child = third in (None, type(None)) or callable(getattr(third, "reconcile", None))
        return (None, arguments[1]) if is_child else (arguments[0], third)
    if len(arguments) == 4:
        return arguments[0], arguments[2]
    return None, None


def _is_named_tuple(candidate: Any) -> bool:
    return (
        isinstance(candidate, type)
        and issubclass(candidate, tuple)
        and hasattr(candidate, "_fields")
    )


def _as_named_tuple(cls: Any, key: Any) -> Any:
    if not isinstance(key, tuple) or len(key) != len(cls._fields):
        return key
    hints = _field_types(cls)
    return cls(
        *(
            _as_named_tuple(hints[name], part) if _is_named_tuple(hints.get(name)) else part
            for name, part in zip(cls._fields, key, strict=True)
        )
    )


def _field_types(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except Exception:  # noqa: BLE001 - user code: names may exist for the type checker only
        return {}


class TargetStateProvider(Generic3[T1, T2, T3]):
    """A namespace of target states. Made by the engine: by registering a root provider, by
    declaring a container, or by :meth:`attachment`.
    """

    __slots__ = (
        "_attachments",
        "_text",
        "_unresolved",
        "encoded_path",
        "generation",
        "info",
        "keys",
        "parent",
        "target_path",
    )

    parent: TargetStateProvider[Any, Any, Any] | None
    keys: tuple[StableKey, ...]
    encoded_path: bytes
    target_path: bytes
    generation: Generation | None
    info: HandlerInfo | None
    _text: str
    _unresolved: str
    _attachments: dict[str, TargetStateProvider[Any, Any, Any]]

    def __init__(self) -> None:
        raise UsageTypeError("target-state providers are made by the engine only")

    # --- for users -------------------------------------------------------------------------

    def target_state(
        self, key: Any, value: Any = NOT_SET, *, spec: Any = NOT_SET
    ) -> TargetState[T3]:
        """A target state to declare: ``key`` should look like ``value`` (also spelt ``spec``).

        Raises:
            TypeError, ValueError: ``key`` is no stable key, or not exactly one value is given.
        """
        if value is NOT_SET or spec is not NOT_SET:
            value = _only_one(value, spec)
        encode = SCALAR_ENCODERS.get(type(key))
        if encode is not None:
            return TargetState(self, key, encode(key), value)
        normalized, encoded = normalize_and_encode(key)
        return TargetState(self, normalized, encoded, value)

    def attachment(self, att_type: str) -> TargetStateProvider[Any, Any, Any]:
        """The provider of auxiliary states of kind ``att_type``; the same object every time.

        Raises:
            ValueError: the handler does not support this kind.
            RuntimeError: outside a component, or the container is not resolved yet.
        """
        from cocoindex.engine.scope import current_scope

        run = current_scope().execution.run
        provider = self.find_attachment(att_type)
        if provider is None:
            raise UsageValueError(
                f"Handler does not support attachment type: {att_type!r} (at {self})"
            )
        run.add_provider(provider)
        return provider

    @property
    def memo_key(self) -> str:
        text = self._text
        if not text:
            text = self._text = path_text(self.keys)
        if self.generation is not None:
            text += f"[{self.generation[0]},{self.generation[1]}]"
        return text

    def __coco_memo_key__(self) -> str:
        return self.memo_key

    def __repr__(self) -> str:
        return f"TargetStateProvider({path_text(self.keys)})"

    def __str__(self) -> str:
        return path_text(self.keys)

    # --- for the engine --------------------------------------------------------------------

    def path_of(self, encoded_key: bytes) -> bytes:
        """The target path of the target state with this key."""
        return self.target_path + key_segment(encoded_key)

    @property
    def provider_id(self) -> int | None:
        return None if self.generation is None else self.generation[0]

    @property
    def schema_version(self) -> int:
        return 0 if self.generation is None else self.generation[1]

    def resolve(self, handler: Any) -> None:
        check_handler(handler, f"children of {self}")
        self.info = HandlerInfo(handler)
        self._unresolved = ""
        self._attachments = {}

    def fail_to_resolve(self, reason: str) -> None:
        self._unresolved = reason

    @property
    def is_pending(self) -> bool:
        """Declared in this run, but its container was not applied yet."""
        return self.info is None and not self._unresolved

    def require_info(self) -> HandlerInfo:
        if self.info is None:
            raise UsageError(self._unresolved or _pending_message(self))
        return self.info

    def find_attachment(self, att_type: str) -> TargetStateProvider[Any, Any, Any] | None:
        """The attachment provider, made on first use; None if the handler knows no such kind."""
        info = self.require_info()
        known = self._attachments.get(att_type)
        if known is not None:
            return known
        handler = attachment_handler(info.handler, att_type)
        if handler is None:
            return None
        provider = make_provider(self, Symbol(att_type), self.generation or FIRST_GENERATION)
        provider.resolve(handler)
        self._attachments[att_type] = provider
        return provider


def _only_one(value: Any, spec: Any) -> Any:
    if (value is NOT_SET) is (spec is NOT_SET):
        raise UsageTypeError("target_state() takes a key and one value (or spec=)")
    return spec if value is NOT_SET else value


def _pending_message(provider: TargetStateProvider[Any, Any, Any]) -> str:
    return (
        f"container {provider} is still pending: its children can be declared only after the "
        "container was mounted with coco.mount_target() or coco.use_mount()"
    )


def attachment_handler(handler: Any, att_type: str) -> Any:
    by_type = getattr(handler, "attachments", None)
    if callable(by_type):
        found = by_type().get(att_type)
        if found is not None:
            return found
    on_demand = getattr(handler, "attachment", None)
    return on_demand(att_type) if callable(on_demand) else None


def make_provider(
    parent: TargetStateProvider[Any, Any, Any] | None,
    key: StableKey,
    generation: Generation | None,
) -> TargetStateProvider[Any, Any, Any]:
    encoded = encode_key(key)
    provider: TargetStateProvider[Any, Any, Any] = object.__new__(TargetStateProvider)
    provider.parent = parent
    provider.generation = generation
    provider.info = None
    provider._text = ""
    provider._unresolved = ""
    provider._attachments = {}
    provider.keys = (key,) if parent is None else (*parent.keys, key)
    provider.encoded_path = encoded if parent is None else parent.encoded_path + encoded
    prefix = b"" if parent is None else parent.target_path
    provider.target_path = prefix + key_segment(encoded)
    return provider


_roots: dict[str, TargetStateProvider[Any, Any, Any]] = {}


def register_root_target_states_provider(
    name: str, handler: Any
) -> TargetStateProvider[Any, Any, Any]:
    """Register the handler of a top-level namespace of target states.

    Args:
        name: unique in the process, and persisted: never change it.
        handler: see :class:`TargetHandler`.

    Raises:
        TypeError: ``handler`` has no callable ``reconcile``.
        ValueError: the name is registered already (by another handler class; a reloaded
            module replaces its own handler).
    """
    check_handler(handler, f"root provider {name!r}")
    known = _roots.get(name)
    if known is not None:
        if not _is_reloaded(known, handler):
            raise UsageValueError(f"root provider {name!r} is already registered")
        known.resolve(handler)
        return known
    provider = make_provider(None, Symbol(name), None)
    provider.resolve(handler)
    _roots[name] = provider
    return provider


def _is_reloaded(known: TargetStateProvider[Any, Any, Any], handler: Any) -> bool:
    """A module that runs again defines a new class under the old one's name."""
    old, new = type(known.require_info().handler), type(handler)
    same_name = (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)
    return same_name and old is not new and "<locals>" not in new.__qualname__


def root_provider(name: StableKey) -> TargetStateProvider[Any, Any, Any] | None:
    return _roots.get(name.name) if isinstance(name, Symbol) else None


TargetStatesProvider = TargetStateProvider
PendingTargetStateProvider = TargetStateProvider


class TargetState(msgspec.Struct, Generic1[T1], eq=False):
    """A key and a value under a provider, to be declared. Made by ``provider.target_state``."""

    provider: TargetStateProvider[Any, Any, Any]
    key: Any
    encoded_key: bytes
    value: Any
    child: TargetStateProvider[Any, Any, Any] | None = None

    @property
    def target_path(self) -> bytes:
        return self.provider.path_of(self.encoded_key)

    def __str__(self) -> str:
        return path_text((*self.provider.keys, self.key))

    def __repr__(self) -> str:
        return f"TargetState({self})"
