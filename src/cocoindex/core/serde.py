"""Values to bytes and back, for what the state store keeps.

One routing byte, then the payload: 01 msgpack, 02 msgpack of a pydantic model's JSON form, 80 a
pickle (the byte is the pickle's own first). Within msgpack, extension 100 holds a pickle.
Reading goes by the static type, and pickles are read by :mod:`cocoindex.core.unpickle` only.
"""

from __future__ import annotations

import functools
import pathlib
import sys
import types
import warnings
from collections.abc import Callable
from typing import Annotated, Any, Final, NewType, TypeVar, Union, get_args, get_origin

import msgspec

from cocoindex.core.sentinels import NonExistenceType
from cocoindex.core.unpickle_values import allow_unpickling, is_unpicklable_type
from cocoindex.errors import DeserializationError, SerializationError

__all__ = [
    "DeserializationError",
    "DeserializeFn",
    "SerializationError",
    "deserialize",
    "enable_strict_serialize",
    "get_deserialize_fn",
    "make_deserialize_fn",
    "serialize",
    "serialize_by_pickle",
    "strip_non_existence",
    "survives_generic_round_trip",
    "unpickle_safe",
]

DeserializeFn = Callable[[bytes | memoryview], Any]

T = TypeVar("T")

_MSGPACK: Final = b"\x01"
_PYDANTIC: Final = b"\x02"
_PICKLE: Final = 0x80
_PICKLE_EXTENSION: Final = 100
_PICKLE_PROTOCOL: Final = 5

_PLAIN_TYPES: Final = frozenset((type(None), bool, int, float, str, bytes, list, tuple, dict))

_MAX_ENCODED_TYPES: Final = 1024  # programs that make classes endlessly must not keep them all

_pickled_types: set[type] = {
    complex,
    type,
    pathlib.PurePath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    pathlib.Path,
    pathlib.PosixPath,
    pathlib.WindowsPath,
}
_encoded_types: set[type] = {*_PLAIN_TYPES}
"""And NamedTuples met so far that msgspec encodes: what they are need not be found out again."""

_strict = False


# --- Registration -------------------------------------------------------------------------


def unpickle_safe(cls: T) -> T:
    """Allow instances of ``cls`` in pickles that are read back. Usable as a decorator."""
    allow_unpickling(cls)
    return cls


def serialize_by_pickle(cls: type[T]) -> type[T]:
    """Store instances of exactly this class as pickles; implies :func:`unpickle_safe`.

    Warns for a dataclass, NamedTuple or msgspec Struct: nested in another value these are
    encoded by field, whatever is registered for them.
    """
    if _encoded_by_field(cls):
        warnings.warn(
            f"@serialize_by_pickle on {cls.__qualname__} has no effect where it is nested in "
            "another value: dataclasses, NamedTuples and msgspec Structs are stored by field.",
            stacklevel=2,
        )
    allow_unpickling(cls)
    _pickled_types.add(cls)
    _encoded_types.discard(cls)
    return cls


def enable_strict_serialize() -> None:
    """From now on refuse to pickle what could not be read back. For tests."""
    global _strict  # noqa: PLW0603 - a process-wide switch, as its callers expect
    _strict = True


def _encoded_by_field(cls: type) -> bool:
    is_named_tuple = issubclass(cls, tuple) and hasattr(cls, "_fields")
    return hasattr(cls, "__dataclass_fields__") or is_named_tuple or issubclass(cls, msgspec.Struct)


# --- Writing ------------------------------------------------------------------------------


def serialize(value: Any, source_label: str | None = None) -> bytes:
    """``value`` as bytes that :func:`make_deserialize_fn` of its declared type reads back.

    Args:
        value: what to write; never changed, never kept.
        source_label: what it is, for the error, such as ``"return value of m.f()"``.

    Raises:
        SerializationError: part of ``value`` can't be written.
    """
    kind = type(value)
    try:
        if kind in _encoded_types:
            return _MSGPACK + _encode(value)
        return _serialize_object(value, kind)
    except (OverflowError, UnicodeEncodeError) as error:
        if _is_plain(value):  # numbers beyond 64 bits, text with lone surrogates
            return _dump_pickle(value)
        raise _cannot_serialize(value, source_label, error) from error
    except RecursionError as error:
        raise _cannot_serialize(value, source_label, "nested too deeply, or in itself") from error
    except SerializationError as error:
        if source_label is None:
            raise
        raise SerializationError(f"{error} (in {source_label})") from error.__cause__
    except (TypeError, ValueError) as error:  # msgspec or pydantic, about part of the value
        raise _cannot_serialize(value, source_label, error) from error


def _serialize_object(value: Any, kind: type) -> bytes:
    if _is_pickled(value, kind):
        return _dump_pickle(value)
    if hasattr(kind, "model_dump") and _is_pydantic(value):
        return _PYDANTIC + _encode(value.model_dump(mode="json"))
    if issubclass(kind, tuple) and len(_encoded_types) < _MAX_ENCODED_TYPES:
        _encoded_types.add(kind)
    return _MSGPACK + _encode(value)


def _cannot_serialize(value: Any, source_label: str | None, why: object) -> SerializationError:
    where = f" (in {source_label})" if source_label else ""
    return SerializationError(f"Cannot serialize {type(value).__name__}{where}: {why}")


def _is_pickled(value: Any, kind: type) -> bool:
    if kind in _pickled_types or isinstance(value, type):
        return True
    numpy = sys.modules.get("numpy")
    return numpy is not None and (kind is numpy.ndarray or isinstance(value, numpy.dtype))


def _is_pydantic(value: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(value, pydantic.BaseModel)


def _encode_hook(value: Any) -> Any:
    """What msgspec asks for a nested value that it can't encode itself."""
    kind = type(value)
    if _is_pickled(value, kind) or is_unpicklable_type(kind):
        return msgspec.msgpack.Ext(_PICKLE_EXTENSION, _dump_pickle(value))
    if _is_pydantic(value):
        return value.model_dump(mode="json")
    raise SerializationError(
        f"Cannot serialize {kind.__name__} ({kind.__module__}.{kind.__qualname__}): use a "
        "dataclass, a NamedTuple, a msgspec Struct or a pydantic model, or decorate the class "
        "with @coco.serialize_by_pickle"
    )


_encode: Final = msgspec.msgpack.Encoder(enc_hook=_encode_hook).encode


def _dump_pickle(value: Any) -> bytes:
    import pickle  # here and below: few programs have pickles, all of them import this

    try:
        data = pickle.dumps(value, _PICKLE_PROTOCOL)
        if _strict:
            _load_pickle(data)
    except Exception as error:  # whatever user code run by pickle raises
        raise SerializationError(
            f"Cannot serialize {type(value).__name__} by pickle: {error}"
        ) from error
    return data


def _load_pickle(data: bytes | memoryview) -> Any:
    from cocoindex.core.unpickle import restricted_loads

    return restricted_loads(data)


def _is_plain(value: Any) -> bool:
    """Whether ``value`` is made of builtin values and containers only."""
    kind = type(value)
    if kind is dict:
        return all(_is_plain(part) for item in value.items() for part in item)
    if kind in (list, tuple, set, frozenset):
        return all(map(_is_plain, value))
    return kind in _PLAIN_TYPES


# --- Reading ------------------------------------------------------------------------------


def deserialize(data: bytes | memoryview, type_hint: Any = Any) -> Any:
    """The value in ``data``, as ``type_hint``. Raises as what :func:`make_deserialize_fn` makes."""
    return get_deserialize_fn(type_hint)(data)


def make_deserialize_fn(type_hint: Any, source_label: str | None = None) -> DeserializeFn:
    """A function from bytes to values of ``type_hint``.

    Args:
        type_hint: a type, or a function without arguments that is called at the first read and
            returns one. ``NonExistenceType`` in a union is ignored: it is never stored.
        source_label: where the hint is written, such as ``"return type of m.f()"``.

    The returned function raises ``DeserializationError``, naming the hint and the label.
    """
    reader = _Deserializer(type_hint, source_label)

    def read(data: bytes | memoryview) -> Any:
        # A view of its own costs more than the copy of a few bytes.
        if 0 < len(data) < _SMALL and data[0] == 1:
            decode = reader.decode or reader.build_decoder()
            try:
                return decode(data[1:])
            except Exception as error:  # noqa: BLE001 - also what a user's __post_init__ raises
                raise reader.unreadable(error) from (_refusal(error) or error)
        return reader.read(data)

    return read


@functools.lru_cache(maxsize=1024)
def _cached_deserialize_fn(type_hint: Any, source_label: str | None) -> DeserializeFn:
    return make_deserialize_fn(type_hint, source_label)


def get_deserialize_fn(type_hint: Any, source_label: str | None = None) -> DeserializeFn:
    """Like :func:`make_deserialize_fn`, remembering the functions it made."""
    try:
        return _cached_deserialize_fn(type_hint, source_label)
    except TypeError:  # an unhashable hint, e.g. Annotated[int, []]
        return make_deserialize_fn(type_hint, source_label)


def strip_non_existence(type_hint: Any) -> Any:
    """``type_hint`` without ``NonExistenceType``, if it is a union that has it."""
    if get_origin(type_hint) not in (Union, types.UnionType):
        return type_hint
    args = get_args(type_hint)
    kept = tuple(arg for arg in args if arg is not NonExistenceType)
    return type_hint if len(kept) == len(args) else Union[kept]  # noqa: UP007 - made at run time


_SMALL: Final = 1024
"""Bytes of a payload that is rather copied than viewed."""


class _Deserializer:
    """Reads values of one type hint; decoders are built when first needed."""

    __slots__ = ("_adapter", "_hint", "_source_label", "decode")

    def __init__(self, hint: Any, source_label: str | None) -> None:
        self._hint = hint
        self._source_label = source_label
        self.decode: Callable[[bytes | memoryview], Any] | None = None
        self._adapter: Any = None

    def read(self, data: bytes | memoryview) -> Any:
        if len(data) == 0:
            raise self._error("Empty payload")
        route = data[0]
        if route == 1:
            decode = self.decode or self.build_decoder()
            try:
                return decode(memoryview(data)[1:])
            except Exception as error:  # noqa: BLE001 - also what a user's __post_init__ raises
                raise self.unreadable(error) from (_refusal(error) or error)
        if route == _PICKLE:
            return self._read_pickle(data)
        if route == 2:
            return self._read_pydantic(memoryview(data)[1:])
        raise self._error(f"Unknown routing byte: {route:#x}")

    def unreadable(self, error: Exception) -> DeserializationError:
        what = "msgspec" if _refusal(error) is None else "pickle"
        return self._error(f"Failed to deserialize {what} payload: {error}")

    def build_decoder(self) -> Callable[[bytes | memoryview], Any]:
        hint = self._resolved_hint()
        try:
            decoder = msgspec.msgpack.Decoder(hint, dec_hook=_decode_hook, ext_hook=_extension_hook)
        except Exception as error:  # msgspec inspects user classes
            advice = (
                " (a union of several classes needs tagged msgspec Structs: "
                "class A(msgspec.Struct, tag=True))"
                if "union" in str(error)
                else ""
            )
            raise self._error(f"No decoder for this type: {error}{advice}") from error
        self.decode = decoder.decode
        return self.decode

    def _read_pickle(self, data: bytes | memoryview) -> Any:
        try:
            value = _load_pickle(data)
        except Exception as error:  # also whatever a registered class raises
            raise self._error(f"Failed to deserialize pickle payload: {error}") from error
        if not _fits(value, self._resolved_hint()):
            raise self._error(f"A stored {type(value).__qualname__} is not of this type")
        return value

    def _read_pydantic(self, payload: memoryview) -> Any:
        try:
            tree = msgspec.msgpack.decode(payload, ext_hook=_extension_hook)
            hint = self._resolved_hint()
            return tree if hint is Any else self._validate(tree, hint)
        except Exception as error:  # also whatever a user's validators raise
            raise self._error(f"Failed to deserialize pydantic payload: {error}") from error

    def _validate(self, tree: Any, hint: Any) -> Any:
        if self._adapter is None:
            import pydantic

            self._adapter = pydantic.TypeAdapter(hint)
        return _validated(tree, self._adapter.validate_python, self._adapter.validate_json)

    def _resolved_hint(self) -> Any:
        if isinstance(self._hint, (types.FunctionType, types.MethodType, functools.partial)):
            self._hint = self._hint()
        self._hint = strip_non_existence(self._hint)
        return self._hint

    def _error(self, what: str) -> DeserializationError:
        label = f", source={self._source_label}" if self._source_label else ""
        return DeserializationError(f"{what} (type_hint={self._hint}{label})")


def _validated(
    tree: Any, validate_python: Callable[[Any], Any], validate_json: Callable[[bytes], Any]
) -> Any:
    try:
        return validate_python(tree)
    except ValueError:
        # A strict model takes its JSON form only as JSON; the other way round, JSON has no NaN.
        return validate_json(msgspec.json.encode(tree))


def _decode_hook(kind: Any, value: Any) -> Any:
    """What msgspec asks for a type that it does not know: the value it found there."""
    wanted = get_origin(kind) or kind
    if isinstance(wanted, type) and isinstance(value, wanted):
        return value
    if hasattr(wanted, "model_validate"):
        return _validated(value, wanted.model_validate, wanted.model_validate_json)
    raise DeserializationError(
        f"Expected {getattr(wanted, '__qualname__', wanted)}, got {type(value).__qualname__}"
    )


def _extension_hook(code: int, data: memoryview) -> Any:
    if code != _PICKLE_EXTENSION:
        raise DeserializationError(f"unknown extension code {code}")
    return _load_pickle(data)


def _refusal(error: BaseException) -> BaseException | None:
    """The refusal of a pickle below what msgspec made of it, if that is what happened."""
    from pickle import UnpicklingError

    below: BaseException | None = error
    while below is not None:
        if isinstance(below, UnpicklingError):
            return below
        below = below.__cause__
    return None


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` can be meant by ``hint``, as far as the outermost class tells."""
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, arg) for arg in get_args(hint))
    if get_origin(hint) is Annotated:
        return _fits(value, get_args(hint)[0])
    if isinstance(hint, NewType):
        return _fits(value, hint.__supertype__)
    if hint is None:
        return value is None
    wanted = get_origin(hint) or hint
    if wanted is float or wanted is complex:
        return isinstance(value, (int, float, wanted))
    try:
        return not isinstance(wanted, type) or isinstance(value, wanted)
    except TypeError:  # a TypedDict or a protocol: nothing to tell from the class
        return True


# --- Without a type -----------------------------------------------------------------------


def survives_generic_round_trip(value: Any) -> bool:
    """Whether reading ``value`` back without a type gives the same types again.

    False for what becomes a ``dict`` or ``list`` on the way: dataclasses, sets, tuples, …
    """
    kind = type(value)
    if kind is dict:
        return all(_survives_as_key(key) for key in value) and all(
            map(survives_generic_round_trip, value.values())
        )
    if kind is list:
        return all(map(survives_generic_round_trip, value))
    if kind in _PLAIN_TYPES:
        return kind is not tuple
    return _is_pickled(value, kind) or (
        is_unpicklable_type(kind) and not _encoded_by_field(kind) and not _is_pydantic(value)
    )


def _survives_as_key(key: Any) -> bool:
    if type(key) is tuple:
        return all(map(_survives_as_key, key))
    return survives_generic_round_trip(key)
