"""What a running function depends on and declares (its memo's bookkeeping).

A frame belongs to a component's body or to one memoized call inside it. Sets of fingerprints
are exchanged as *blobs*: sorted, 16 bytes each, joined. Equal blobs are merged only once,
so that thousands of children with the same dependencies cost one set operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from cocoindex.engine.rows import Dependencies, ProviderDep


def split(blob: bytes) -> Iterator[bytes]:
    """The 16-byte fingerprints of a blob."""
    return (blob[i : i + 16] for i in range(0, len(blob), 16))


class FingerprintSet(msgspec.Struct, eq=False, gc=False):
    """A set of 16-byte fingerprints that absorbs blobs cheaply."""

    # Most frames never need them: made on first use.
    _members: set[bytes] | None = None
    _blobs: set[bytes] | None = None

    def add(self, fingerprint: bytes) -> None:
        if self._members is None:
            self._members = set()
        self._members.add(fingerprint)

    def absorb(self, blob: bytes) -> None:
        if not blob:
            return
        if self._blobs is None:
            self._blobs = set()
        if blob not in self._blobs:
            self._blobs.add(blob)
            if self._members is None:
                self._members = set()
            self._members.update(split(blob))

    def blob(self) -> bytes:
        return b"".join(sorted(self._members)) if self._members else b""


class Frame:
    """Dependencies and declarations of one running body.

    Attributes:
        keeps_logic: whether logic received from *calls* is kept (``logic_tracking="full"``).
        in_memo_call: inside a memoized function call, where mounting and state are illegal.
        declared: target paths declared by this body, not by memoized calls it made.
        refs: fingerprints of the memoized calls it made.
    """

    __slots__ = (
        "call_fingerprint",
        "context",
        "declared",
        "has_ended",
        "in_memo_call",
        "keeps_logic",
        "logic",
        "parent",
        "providers",
        "refs",
    )

    def __init__(
        self,
        parent: Frame | None,
        *,
        keeps_logic: bool,
        own_logic: bytes | None,
        in_memo_call: bool = False,
        call_fingerprint: bytes | None = None,
    ) -> None:
        self.parent = parent
        self.keeps_logic = keeps_logic
        self.in_memo_call = in_memo_call
        self.call_fingerprint = call_fingerprint
        self.logic = FingerprintSet()
        self.context = FingerprintSet()
        self.providers: dict[bytes, tuple[int, int]] = {}
        self.declared: dict[bytes, None] = {}
        self.refs: dict[bytes, None] = {}
        self.has_ended = False
        if own_logic is not None:
            self.logic.add(own_logic)

    def detached_logic(self, *, keeps_logic: bool, own_logic: bytes | None) -> Frame:
        """A frame for a call that filters logic, but shares everything else with this one."""
        frame = Frame.__new__(Frame)
        frame.parent = self
        frame.keeps_logic = keeps_logic
        frame.in_memo_call = self.in_memo_call
        frame.call_fingerprint = None
        frame.logic = FingerprintSet()
        frame.context = self.context
        frame.providers = self.providers
        frame.declared = self.declared
        frame.refs = self.refs
        frame.has_ended = False
        if own_logic is not None:
            frame.logic.add(own_logic)
        return frame

    def take_context(self) -> bytes:
        """The context values used so far, which don't count from here on."""
        used = self.context.blob()
        if used:
            self.context = FingerprintSet()
        return used

    def dependencies(self) -> Dependencies:
        providers: list[ProviderDep] = [(p, *gen) for p, gen in sorted(self.providers.items())]
        return Dependencies(self.logic.blob(), self.context.blob(), providers)

    def receive_call(self, deps: Dependencies, ref: bytes) -> None:
        """A memoized call made by this body has returned (run or reused)."""
        if self.keeps_logic:
            self.logic.absorb(deps.logic)
        self._receive(deps)
        self.refs[ref] = None

    def receive_child(self, deps: Dependencies) -> None:
        """A component mounted by this body is ready. Its logic always counts."""
        self.logic.absorb(deps.logic)
        self._receive(deps)

    def _receive(self, deps: Dependencies) -> None:
        self.context.absorb(deps.context)
        for path, *generation in deps.providers:
            self.providers[path] = (generation[0], generation[1])

    def calls_in_progress(self) -> Iterable[bytes]:
        """Fingerprints of the memoized calls this body is inside of, innermost first."""
        frame: Frame | None = self
        while frame is not None:
            if frame.call_fingerprint is not None:
                yield frame.call_fingerprint
            frame = frame.parent
