"""Every error the product raises itself.

One small tree: each class is a :class:`CocoIndexError` *and* the builtin a caller would
naturally catch, so ``except ValueError`` and ``except CocoIndexError`` both work.
Exceptions raised by user code cross the engine unchanged and are never wrapped.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AlreadyRunningError",
    "CocoIndexError",
    "DeadlineExceededError",
    "DeletionsWithheldError",
    "DeserializationError",
    "DuplicateError",
    "InternalError",
    "InvalidKeyError",
    "MissingKeyError",
    "SerializationError",
    "SourceError",
    "StoreError",
    "StoreFormatError",
    "StoreFullError",
    "TargetConnectionError",
    "TargetError",
    "TransientError",
    "UsageError",
    "UsageTypeError",
    "UsageValueError",
]


class CocoIndexError(Exception):
    """Base class of every error raised by CocoIndex itself."""


class UsageError(CocoIndexError, RuntimeError):
    """An API was used at the wrong place or time."""


class UsageValueError(CocoIndexError, ValueError):
    """A value passed to an API is not acceptable."""


class UsageTypeError(CocoIndexError, TypeError):
    """An object passed to an API has the wrong type."""


class DuplicateError(UsageValueError):
    """A target state was declared, or a component path mounted, twice by one component."""


class InvalidKeyError(UsageValueError, OverflowError):
    """A stable key is of a supported type but outside the supported range."""


class MissingKeyError(CocoIndexError, KeyError):
    """Something looked up by name does not exist."""

    # KeyError shows the repr of its argument; people want the sentence.
    __str__ = Exception.__str__


class DeadlineExceededError(CocoIndexError, TimeoutError):
    """The deadline of the current scope has passed."""

    def __init__(self, message: str = "deadline exceeded") -> None:
        super().__init__(message)


class SerializationError(CocoIndexError, NotImplementedError, TypeError):
    """A value can't be written to the state store."""


class DeserializationError(CocoIndexError, ValueError):
    """A stored payload can't be read as the type the program asks for."""


class TransientError(CocoIndexError):
    """An external system failed in a way that a retry may cure; the cause is chained.

    Attributes:
        orig: the driver's own error, where it is not chained because it may quote data.
    """

    orig: BaseException | None = None


class TargetError(CocoIndexError, RuntimeError):
    """A target system refused what it was asked to do, or is not in the state it should be.

    Attributes:
        orig: the driver's own error, if there is one. It is not chained, because such errors
            may quote data; this error's text never does.
    """

    def __init__(self, message: str, orig: BaseException | None = None) -> None:
        super().__init__(message)
        self.orig = orig


class TargetConnectionError(TargetError, ConnectionError):
    """A database can't be reached, for a reason that does not pass: a wrong password, say."""


class SourceError(CocoIndexError, RuntimeError):
    """A system that is read refused what it was asked.

    Attributes:
        orig: the driver's own error. It is not chained, as in :class:`TargetError`.
    """

    def __init__(self, message: str, orig: BaseException | None = None) -> None:
        super().__init__(message)
        self.orig = orig


class StoreError(CocoIndexError, RuntimeError):
    """The state store can't be opened, read or written."""


class StoreFormatError(StoreError, ValueError):
    """The state store was written by an incompatible release, or is damaged."""


class StoreFullError(StoreError, OSError):
    """The disk that holds the state store is full."""


class AlreadyRunningError(UsageError):
    """Another process is updating the same app."""


class InternalError(CocoIndexError, RuntimeError):
    """An invariant of the engine is broken: a bug in CocoIndex or a damaged store."""


class DeletionsWithheldError(CocoIndexError, RuntimeError):
    """The deletion guard withheld removals; everything else of the run was committed.

    Attributes:
        withheld: one ``(path, removed, had)`` per guarded call: the path below which children
            disappeared, how many, and how many there were before.
        result: what the main function returned.
    """

    def __init__(self, withheld: list[tuple[str, int, int]], result: Any = None) -> None:
        lines = ", ".join(
            f"{removed} of {had} children below {path}" for path, removed, had in withheld
        )
        super().__init__(
            f"deletion guard: withheld the removal of {lines}. If this is intended, run again "
            "with allow_deletes=True (--allow-deletes)."
        )
        self.withheld = withheld
        self.result = result

    def __reduce__(self) -> tuple[type, tuple[list[tuple[str, int, int]], Any]]:
        return type(self), (self.withheld, self.result)
