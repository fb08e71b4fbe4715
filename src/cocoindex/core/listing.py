"""What a source may put into a listing besides its items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec


class Unlisted(msgspec.Struct, frozen=True):
    """A part of a listing that could not be read.

    A source that was told to skip errors yields it from ``items()`` in place of a pair.
    ``mount_each`` then keeps every child it knows whose key matches and that was not listed.

    Attributes:
        match: whether a key lies in the part that could not be read.
    """

    match: Callable[[Any], bool]
