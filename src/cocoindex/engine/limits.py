"""How large things may be that come from outside: keys, paths, components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cocoindex.core.keys import StableKey, Symbol, encode_key, key_text, path_text
from cocoindex.errors import UsageTypeError, UsageValueError

_SHOWN: Final = 40
_MOST_BYTES_PER_CHARACTER: Final = 4
_AROUND_TEXT: Final = 2


class Limits(msgspec.Struct, frozen=True):
    """Sizes beyond which data is refused with a ``ValueError``. ``None``: no limit.

    Attributes:
        key_bytes: encoded size of one key of a component, a target state or a user state, in
            bytes.
        path_depth: number of keys in the path of a component.
        states_per_component: number of target states that one component declares.
        bytes_in_flight: size of the state that waits for the disk, in bytes. Beyond it
            finishing components wait, nothing is refused; ``None``: the engine's own choice.
    """

    key_bytes: int | None = 4096
    path_depth: int | None = 256
    states_per_component: int | None = None
    bytes_in_flight: int | None = None

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if value is None:
                continue
            if type(value) is not int:
                raise UsageTypeError(
                    f"Limits.{field} must be an int or None, not {type(value).__name__}"
                )
            if value < 1:
                raise UsageValueError(f"Limits.{field} must be at least 1, not {value}")

    def check_path(self, path: Sequence[StableKey], added: int) -> None:
        """Check the path of a component, whose last ``added`` keys are new.

        Raises:
            ValueError: the path has too many keys, or a new one is too long.
        """
        depth = self.path_depth
        if depth is not None and len(path) > depth:
            raise UsageValueError(
                f"component path {path_text(path[:3])}/… has {len(path)} keys, more than "
                f"Limits.path_depth={depth}"
            )
        for key in path[len(path) - added :]:
            self.check_path_key(key)

    def check_path_key(self, key: StableKey) -> None:
        """Check a key of a component's path; raises like :meth:`check_key`."""
        if self.key_bytes is None:
            return
        if type(key) is str:
            if len(key) * _MOST_BYTES_PER_CHARACTER + _AROUND_TEXT <= self.key_bytes:
                return
        elif type(key) is int or type(key) is Symbol:  # a symbol is a name from code
            return
        self.check_key(key, encode_key(key))

    def check_key(self, key: StableKey, encoded: bytes) -> None:
        """Check a key of which the encoded form is known.

        Raises:
            ValueError: it is too long.
        """
        if self.key_bytes is not None and len(encoded) > self.key_bytes:
            raise UsageValueError(
                f"key {_shortened(key)} takes {len(encoded)} bytes, more than "
                f"Limits.key_bytes={self.key_bytes}"
            )

    def check_count(self, declared: int, where: object) -> None:
        """Check that a component that has declared so many target states may declare another.

        Raises:
            ValueError: it may not.
        """
        most = self.states_per_component
        if most is not None and declared >= most:
            raise UsageValueError(
                f"component {where} declares more than "
                f"Limits.states_per_component={most} target states"
            )


def _shortened(key: StableKey) -> str:
    text = key_text(key)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


DEFAULT_LIMITS: Final = Limits()
