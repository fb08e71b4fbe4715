"""Generic classes whose subscription takes any number of arguments at run time.

Existing connectors write ``TargetHandler`` with one to four type arguments, and evaluate such
annotations at definition time. Type checkers see ordinary generics with defaults.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, Generic

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T1 = TypeVar("T1", default=Any)
    T2 = TypeVar("T2", default=Any)
    T3 = TypeVar("T3", default=Any)
    T4 = TypeVar("T4", default=Any)

    class Generic1(Generic[T1]): ...

    class Generic2(Generic[T1, T2]): ...

    class Generic3(Generic[T1, T2, T3]): ...

    class Generic4(Generic[T1, T2, T3, T4]): ...

else:
    from typing import TypeVar

    T1, T2, T3, T4 = (TypeVar(f"T{i}") for i in range(1, 5))

    class _LooseGeneric:
        __slots__ = ()

        def __class_getitem__(cls, params: Any) -> Any:
            return subscripted(cls, params)

    Generic1 = Generic2 = Generic3 = Generic4 = _LooseGeneric


def subscripted(cls: type[Any], params: Any) -> Any:
    """``cls[params]`` as an alias that can be called, used as a base and put into unions."""
    return types.GenericAlias(cls, params if isinstance(params, tuple) else (params,))


def allow_any_arity(cls: type[Any]) -> None:
    """Give a class (such as a generic NamedTuple) subscription with any number of arguments."""
    cls.__class_getitem__ = classmethod(subscripted)


def base_arguments(cls: type[Any], origin: type[Any]) -> tuple[Any, ...]:
    """Type arguments with which ``cls`` (or a base of it) subclasses ``origin``, or ``()``."""
    for klass in cls.__mro__:
        for base in klass.__dict__.get("__orig_bases__", ()):
            if getattr(base, "__origin__", None) is origin:
                return tuple(base.__args__)
    return ()
