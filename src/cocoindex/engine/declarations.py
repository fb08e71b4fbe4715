"""What the body of one execution has declared so far, in order."""

from __future__ import annotations

from collections.abc import Iterator
from sys import maxsize
from typing import TYPE_CHECKING, Any, Final

import msgspec

from cocoindex.core.keys import StableKey, key_segment
from cocoindex.engine import rows
from cocoindex.engine.providers import TargetState

if TYPE_CHECKING:
    from cocoindex.engine.limits import Limits
    from cocoindex.engine.providers import TargetStateProvider

    Provider = TargetStateProvider[Any, Any, Any]

Declared = tuple[bytes, StableKey, Any]
"""Encoded key, key and value. A tuple, because the garbage collector lets go of tuples of plain
values, and there is one per target state."""


class Stretch(msgspec.Struct, eq=False, gc=False):
    """Declarations below one provider, one after the other."""

    provider: Provider
    states: list[Declared]
    known: dict[bytes, Declared]
    """What was declared below the provider, here or in other stretches, by encoded key."""
    children: dict[bytes, Provider]
    """Pending child providers of the containers among ``known``."""
    longest_key: int
    """Bytes that an encoded key may have."""
    is_counted: bool
    """Whether there is a limit on how many target states a component declares."""
    _owner_keys: dict[bytes, bytes] | None = None

    def owner_keys(self) -> dict[bytes, bytes]:
        """The keys of the owner rows of all that is ``known``, by encoded key."""
        if self._owner_keys is None:
            prefix = rows.owner_key(self.provider.target_path)
            self._owner_keys = {key: prefix + key_segment(key) for key in self.known}
        return self._owner_keys

    def state(self, declared: Declared) -> TargetState[Any]:
        """One of the declarations, as an object."""
        encoded, key, value = declared
        state: TargetState[Any] = TargetState(self.provider, key, encoded, value)
        state.child = self.children.get(encoded)
        return state


class Declarations(msgspec.Struct, eq=False, gc=False):
    """Filled from any thread of a component; neighbours mostly share their provider."""

    stretches: list[Stretch] = msgspec.field(default_factory=list)
    latest: Stretch | None = None
    has_containers: bool = False
    _by_provider: dict[bytes, Stretch] = msgspec.field(default_factory=dict)

    def begin(self, provider: Provider, limits: Limits) -> Stretch:
        """What comes next is declared below ``provider``."""
        first = self._by_provider.get(provider.target_path)
        known, children = ({}, {}) if first is None else (first.known, first.children)
        longest, is_counted = limits.key_bytes or maxsize, limits.states_per_component is not None
        stretch = Stretch(provider, [], known, children, longest, is_counted)
        if first is None:
            self._by_provider[provider.target_path] = stretch
        self.stretches.append(stretch)
        self.latest = stretch
        return stretch

    def add_child(self, provider: Provider, key: bytes, child: Provider) -> None:
        """One of the declarations below ``provider`` is a container."""
        self._by_provider[provider.target_path].children[key] = child
        self.has_containers = True

    def __len__(self) -> int:
        return sum(len(stretch.known) for stretch in [*self._by_provider.values()])

    def paths(self) -> Iterator[bytes]:
        """The target paths of all declarations."""
        for stretch in self.stretches:
            for encoded, _, _ in stretch.states:
                yield stretch.provider.path_of(encoded)

    def first_like(self, stretch: Stretch) -> Stretch:
        """The first stretch below the same provider."""
        return self._by_provider[stretch.provider.target_path]

    def owner_keys(self) -> list[bytes]:
        """The keys of the owner rows of all declarations."""
        keys: list[bytes] = []
        for first in self._by_provider.values():
            keys += first.owner_keys().values()
        return keys

    def below(self, provider_path: bytes) -> Stretch | None:
        """The first stretch below the provider at a target path. Its ``known`` and ``children``
        are those of all of them.
        """
        return self._by_provider.get(provider_path)


NO_DECLARATIONS: Final = Declarations()
"""Of executions that have declared nothing, or are past it. Never added to."""
