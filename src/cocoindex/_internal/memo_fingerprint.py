"""Alias for programs that import from here: the fingerprints of memo keys."""

from collections.abc import Callable, Mapping
from typing import Any

from cocoindex.callables.call_key import CallKeys
from cocoindex.callables.identity import Identity, full_name
from cocoindex.core.fingerprint import Fingerprint
from cocoindex.core.memo_key import (
    fingerprint_value,
    memo_fingerprint,
    register_memo_key_function,
    register_not_memo_keyable,
    unregister_memo_key_function,
)

__all__ = [
    "fingerprint_call",
    "memo_fingerprint",
    "register_memo_key_function",
    "register_not_memo_keyable",
    "unregister_memo_key_function",
]


def fingerprint_call(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    state_methods: list[Any],
    *,
    version: int | None = None,
    prefix_args: tuple[Any, ...] = (),
) -> Fingerprint:
    """Fingerprint of calling ``fn`` with ``prefix_args``, then ``args`` and ``kwargs``.

    State functions met in the arguments are added to ``state_methods``. Raises ``TypeError``
    for an argument that can't be keyed.
    """
    call = CallKeys(fn, Identity(fn), full_name(fn), None).key((*prefix_args, *args), kwargs)
    state_methods.extend(call.state_fns)
    if version is None:
        return Fingerprint(call.fingerprint)
    return Fingerprint(fingerprint_value((call.fingerprint, version)))
