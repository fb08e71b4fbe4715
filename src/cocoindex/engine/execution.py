"""One execution of one component: who it is, and what its body has asked for so far."""

from __future__ import annotations

import asyncio
import threading
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from cocoindex.core.keys import StableKey, path_text
from cocoindex.engine import rows
from cocoindex.engine.declarations import NO_DECLARATIONS, Declarations
from cocoindex.engine.entry import Entry
from cocoindex.engine.exception_handlers import HandlerChain
from cocoindex.engine.frames import Frame, one_blob
from cocoindex.engine.providers import TargetStateProvider
from cocoindex.engine.scope import ComponentContext
from cocoindex.engine.tree import MountTree, Place
from cocoindex.errors import UsageError

if TYPE_CHECKING:
    from contextvars import Context

    from cocoindex.engine.children import ComponentMountHandle
    from cocoindex.engine.component_memo import ComponentMemo
    from cocoindex.engine.exception_context import ExceptionContext, MountKind
    from cocoindex.engine.function import Function
    from cocoindex.engine.function_memos import FunctionMemos
    from cocoindex.engine.run import Run
    from cocoindex.engine.stats import StatsGroup
    from cocoindex.engine.user_state import UserState

Provider = TargetStateProvider[Any, Any, Any]


_creating = threading.Lock()
"""Bodies call from many threads, and each execution has one of these parts only."""


_LATER: Any = None
"""What can be made only once the rest is there."""

UsersCall: TypeAlias = tuple[str, CodeType, int]
"""A call of a mount function as it stands in the user's program: its name, and where it is."""


class Execution(msgspec.Struct, eq=False, weakref=True):
    """State of one execution. Belongs to the environment's loop; user threads only declare."""

    run: Run
    parent: Execution | None
    path: tuple[StableKey, ...]
    place: Place
    function: Function
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    mount_kind: MountKind
    handlers: HandlerChain | None
    stats: StatsGroup
    memo: ComponentMemo | None = None
    """The component memo, if it was probed before the execution started."""
    id: int = 0
    name: str = ""
    handle: ComponentMountHandle | None = None
    """Who waits for it in the background."""
    context: Context | None = None
    """Of the body, if exception handlers may have to run in it later."""
    collects_deps: bool = False
    """Whether anybody will store what this execution depends on."""
    frame: Frame = _LATER
    scope: ComponentContext = _LATER
    declarations: Declarations = _LATER
    memos: FunctionMemos | None = None
    user_state: UserState | None = None
    has_permit: bool = False
    is_sealed: bool = False
    subtree_failed: bool = False
    kept_any: bool = False
    waits: bool = False
    """Whether something of it or below it waits for what becomes of a container."""
    pending_children: int = 0
    mounted_children: int = 0
    unawaited_mounts: dict[object, UsersCall] = {}
    """Names of mount functions that were called, and have not been awaited to the end."""
    _children_idle: asyncio.Future[None] | None = None
    _deps: rows.Dependencies | None = None
    _entry: Entry | None = None
    _entry_takeovers: int = 0
    _tree: MountTree | None = None

    def __post_init__(self) -> None:
        function = self.function
        self.id = self.place.node.id
        self.name = function.name
        collects = function.memo or (self.parent is not None and self.parent.collects_deps)
        self.collects_deps = collects
        logic = one_blob(function.logic() if collects else None)
        self.frame = Frame(None, function.logic_tracking in ("full", "deep"), logic)
        self.declarations = NO_DECLARATIONS
        self.scope = ComponentContext(self, self.frame, (), self.handlers, self.stats)

    def __str__(self) -> str:
        return path_text(self.path)

    def exception_context(self) -> ExceptionContext:
        """What exception handlers are told about this execution."""
        from cocoindex.engine.exception_context import ExceptionContext

        return ExceptionContext(
            env_name=self.run.env_name,
            stable_path=str(self),
            processor_name=self.name,
            mount_kind=self.mount_kind,
            parent_stable_path=None if self.parent is None else str(self.parent),
        )

    @property
    def tree(self) -> MountTree:
        """What this execution mounts. Most mount nothing, and never make it."""
        if self._tree is None:
            self._tree = MountTree(self.run.app, self.place)
        return self._tree

    @property
    def is_leaf(self) -> bool:
        """Whether it has not even tried to mount anything, and nothing was mounted before."""
        return self._tree is None and not self.place.node.has_children

    @property
    def has_below(self) -> bool:
        """Whether anything is mounted below, or was before this execution."""
        mounted = self._tree is not None and self._tree.root is not None
        return mounted or self.place.node.has_children

    @property
    def needs_birth_row(self) -> bool:
        """Whether it is not named yet; one that has mounted something is."""
        return self.place.is_fresh and not self.has_below

    # --- made on first use, from whatever thread -----------------------------------------------

    def own_declarations(self) -> Declarations:
        if self.declarations is NO_DECLARATIONS:
            with _creating:
                if self.declarations is NO_DECLARATIONS:
                    self.declarations = Declarations()
        return self.declarations

    def function_memos(self) -> FunctionMemos:
        if self.memos is None:
            from cocoindex.engine.function_memos import FunctionMemos

            with _creating:
                if self.memos is None:
                    self.memos = FunctionMemos(self)
        return self.memos

    def own_state(self) -> UserState:
        if self.user_state is None:
            from cocoindex.engine.user_state import UserState

            with _creating:
                if self.user_state is None:
                    self.user_state = UserState(self)
        return self.user_state

    # --- tracking entry ------------------------------------------------------------------------

    def peek_entry(self) -> Entry:
        """The tracking entry as it is now, to look at."""
        app = self.run.app
        if self._entry is None or self._entry_takeovers != app.takeovers:
            self._entry = self._read_entry()
            self._entry_takeovers = app.takeovers
        return self._entry

    def _read_entry(self) -> Entry:
        place = self.place
        raw = None
        if not place.is_fresh:
            raw = self.run.app.section.get(rows.tracking_key(self.id), ahead=True)
        return Entry(self.id, raw, place.parent_id, place.key)

    @property
    def was_memoized(self) -> bool:
        """Whether a memo of it may be stored."""
        return not self.place.is_fresh and self.peek_entry().is_memoized

    def take_entry(self) -> Entry:
        """The tracking entry as it is now, to work on."""
        if self._entry is None:
            return self._read_entry()
        entry = self.peek_entry()
        self._entry = None
        return entry

    def dependencies(self) -> rows.Dependencies:
        """What the component depends on, once its body and its children have ended."""
        if self._deps is None:
            self._deps = self.frame.dependencies()
        return self._deps

    def check_mounts_awaited(self) -> None:
        """Raise if the body has called a mount function and not awaited it to the end.

        Raises:
            RuntimeError: less was mounted there than was meant, which would look like deletions.
        """
        for call in self.unawaited_mounts.values():
            function, code, line = call
            raise UsageError(
                f"{self.name} at {self} called {function}(...) without awaiting it to the end, so "
                "not everything was mounted: put 'await' before it "
                f"({code.co_filename}, line {line})"
            )

    def seal(self) -> None:
        """The body has ended: nothing may be declared or mounted any more."""
        self.is_sealed = True
        self.frame.has_ended = True

    # --- children ----------------------------------------------------------------------------

    def child_started(self) -> None:
        self.pending_children += 1

    def child_ended(
        self, child: Execution, deps: rows.Dependencies | None, *, failed: bool
    ) -> None:
        """A mounted child is counted out; its dependencies and troubles count for this one."""
        if deps is not None:
            self.frame.receive_child(deps)
        if failed:
            self.subtree_failed = True
        if child.kept_any:
            self.kept_any = True
        if child.waits:
            self.waits = True
        self.pending_children -= 1
        if self.pending_children == 0 and self._children_idle is not None:
            if not self._children_idle.done():
                self._children_idle.set_result(None)
            self._children_idle = None

    async def children_finished(self) -> None:
        """Wait until every mounted child is ready, however often more are mounted."""
        while self.pending_children:
            if self._children_idle is None:
                self._children_idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._children_idle)

    def dispose(self) -> None:
        """Let go of everything at the end, so that nothing waits for the cycle collector."""
        if self.memo is not None:
            self.release_memo()
        self.args, self.kwargs = (), {}
        self.declarations = NO_DECLARATIONS
        self.memos = self.user_state = None
        self.scope = _LATER

    def release_memo(self) -> None:
        if self.memo is not None:
            self.memo.close()
            self.memo = None

    def release_permit(self) -> None:
        if self.has_permit:
            self.has_permit = False
            self.run.limiter.release()
