"""What a running function depends on and declares (its memo's bookkeeping).

A frame belongs to a component's body or to one memoized call inside it. Fingerprints are
exchanged as *blobs*: sorted, 16 bytes each, joined. A frame collects blobs and looks into them
only at its end, so that thousands of calls with the same dependencies cost a look-up each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import msgspec

from cocoindex.engine.rows import Dependencies, ProviderDep


def split(blob: bytes) -> Iterator[bytes]:
    """The 16-byte fingerprints of a blob."""
    return (blob[i : i + 16] for i in range(0, len(blob), 16))


Blobs = dict[bytes, None]
"""A set of blobs: unlike a ``set``, a dict of bytes is nothing for the garbage collector."""


def merge(blobs: Blobs) -> bytes:
    """One blob of all fingerprints in ``blobs``."""
    return _merge(frozenset(blobs)) if len(blobs) > 1 else next(iter(blobs), b"")


@lru_cache(maxsize=1024)
def _merge(blobs: frozenset[bytes]) -> bytes:
    return b"".join(sorted({fingerprint for blob in blobs for fingerprint in split(blob)}))


@lru_cache(maxsize=1024)
def _plain_dependencies(logic: bytes, context: bytes) -> Dependencies:
    """Shared by all that depend on the same."""
    return Dependencies(logic, context)


def one_blob(fingerprint: bytes | None) -> Blobs:
    """The set of a single blob, or of none."""
    return {} if fingerprint is None else {fingerprint: None}


class Frame(msgspec.Struct, eq=False, gc=False):
    """Dependencies and declarations of one running body.

    Attributes:
        keeps_logic: whether logic received from *calls* is kept (``logic_tracking="full"``).
        logic: blobs of the code it depends on; a single fingerprint is a blob, too.
        in_memo_call: inside a memoized function call, where mounting and state are illegal.
        context: blobs of the context values it depends on.
        declared: target paths declared by this body, not by memoized calls it made.
        refs: fingerprints of the memoized calls it made.
    """

    parent: Frame | None
    keeps_logic: bool
    logic: Blobs
    in_memo_call: bool = False
    call_fingerprint: bytes | None = None
    context: Blobs = msgspec.field(default_factory=dict)
    providers: dict[bytes, tuple[int, int]] = msgspec.field(default_factory=dict)
    declared: dict[bytes, None] = msgspec.field(default_factory=dict)
    refs: dict[bytes, None] = msgspec.field(default_factory=dict)
    has_ended: bool = False

    def detached_logic(self, *, keeps_logic: bool, own_logic: bytes | None) -> Frame:
        """A frame for a call that filters logic, but shares everything else with this one."""
        return Frame(
            self,
            keeps_logic,
            one_blob(own_logic),
            self.in_memo_call,
            None,
            self.context,
            self.providers,
            self.declared,
            self.refs,
        )

    def take_context(self) -> bytes:
        """The context values used so far, which don't count from here on."""
        if not self.context:
            return b""
        used, self.context = merge(self.context), {}
        return used

    def dependencies(self) -> Dependencies:
        logic, context = merge(self.logic), merge(self.context)
        if not self.providers:
            return _plain_dependencies(logic, context)
        providers: list[ProviderDep] = [(p, *gen) for p, gen in sorted(self.providers.items())]
        return Dependencies(logic, context, providers)

    def receive_call(self, deps: Dependencies, ref: bytes) -> None:
        """A memoized call made by this body has returned (run or reused)."""
        if self.keeps_logic:
            self.logic[deps.logic] = None
        if deps.context or deps.providers:
            self._receive(deps)
        self.refs[ref] = None

    def receive_child(self, deps: Dependencies) -> None:
        """A component mounted by this body is ready. Its logic always counts."""
        self.logic[deps.logic] = None
        self._receive(deps)

    def _receive(self, deps: Dependencies) -> None:
        if deps.context:
            self.context[deps.context] = None
        for path, *generation in deps.providers:
            self.providers[path] = (generation[0], generation[1])

    def calls_in_progress(self) -> Iterable[bytes]:
        """Fingerprints of the memoized calls this body is inside of, innermost first."""
        frame: Frame | None = self
        while frame is not None:
            if frame.call_fingerprint is not None:
                yield frame.call_fingerprint
            frame = frame.parent
