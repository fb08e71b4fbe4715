"""What exception handlers are told. Loaded by the first failure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MountKind = Literal["mount", "mount_each", "delete_background", "process_live"]


@dataclass(frozen=True)
class ExceptionContext:
    """What failed, and where.

    Attributes:
        env_name: name of the environment.
        stable_path: path of the component that failed.
        processor_name: its function's name.
        mount_kind: how it was mounted.
        parent_stable_path: path of the component that mounted it.
        is_background: always true: foreground failures raise at the call.
        source: ``"component"``, or ``"handler"`` when an inner handler raised.
        original_exception: the component's failure, set iff ``source == "handler"``.
    """

    env_name: str
    stable_path: str
    processor_name: str | None
    mount_kind: MountKind
    parent_stable_path: str | None
    is_background: bool = True
    source: Literal["component", "handler"] = "component"
    original_exception: BaseException | None = None
