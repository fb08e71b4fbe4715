"""Parameters, kinds and defaults of the public callables."""

from __future__ import annotations

import dataclasses
import enum
import inspect
from collections.abc import Callable
from typing import Any

import pytest

import cocoindex as coco

EMPTY = inspect.Parameter.empty
KEYWORD = inspect.Parameter.KEYWORD_ONLY


class _Any:
    """A default that is the implementation's business."""


ANY = _Any()

SIGNATURES: dict[str, Callable[..., Any]] = {
    "AppConfig": lambda name, environment=ANY, max_inflight_components=None: 0,
    "App": lambda name_or_config, main_fn, /, *args, **kwargs: 0,
    "App.update": (
        lambda self, *, full_reprocess=False, live=False, preview=False,
        report_to_stdout=False, allow_deletes=False: 0
    ),
    "App.update_blocking": (
        lambda self, *, report_to_stdout=False, full_reprocess=False, live=False,
        preview=False, allow_deletes=False: 0
    ),
    "App.drop": lambda self: 0,
    "App.drop_blocking": lambda self, *, report_to_stdout=False: 0,
    "App.start_drop": lambda self: 0,
    "UpdateHandle.result": lambda self: 0,
    "UpdateHandle.stats": lambda self: 0,
    "UpdateHandle.watch": lambda self: 0,
    "DropHandle.result": lambda self: 0,
    "DropHandle.stats": lambda self: 0,
    "DropHandle.watch": lambda self: 0,
    "show_progress": lambda handle, *, refresh_interval=None: 0,
    "Environment": (
        lambda settings, *, name=None, context_provider=None, event_loop=None,
        exception_handler=None, info=None: 0
    ),
    "Environment.get_context": lambda self, key: 0,
    "Environment.close": lambda self: 0,
    "EnvironmentBuilder": lambda settings=None: 0,
    "EnvironmentBuilder.provide": lambda self, key, value: 0,
    "EnvironmentBuilder.provide_with": lambda self, key, cm: 0,
    "EnvironmentBuilder.provide_async_with": lambda self, key, acm: 0,
    "EnvironmentBuilder.set_exception_handler": lambda self, handler: 0,
    "start": lambda: 0,
    "stop": lambda: 0,
    "start_blocking": lambda: 0,
    "stop_blocking": lambda: 0,
    "default_env": lambda: 0,
    "runtime": lambda: 0,
    "Settings": (
        lambda db_path=None, db_settings=None, *, lmdb_max_dbs=None, lmdb_map_size=None,
        global_execution_options=None: 0
    ),
    "Settings.from_env": lambda db_path=None: 0,
    "LmdbSettings": lambda max_dbs=1024, map_size=4294967296: 0,
    "memo_fingerprint": lambda obj: 0,
    "register_memo_key_function": lambda typ, key_fn, *, state_fn=None: 0,
    "register_not_memo_keyable": lambda typ: 0,
    "logic_propagated_to_callers": lambda fn: 0,
    "is_non_existence": lambda x: 0,
    "TargetReconcileOutput": lambda action, sink, tracking_record, child_invalidation=None: 0,
    "ChildTargetDef": lambda handler: 0,
    "TargetStateProvider.attachment": lambda self, att_type: 0,
    "TargetActionSink.from_fn": lambda fn, *, child_handler=None, last=False: 0,
    "TargetActionSink.from_async_fn": lambda fn, *, child_handler=None, last=False: 0,
    "TargetActionSink.from_fn_with_children": lambda fn: 0,
    "TargetActionSink.from_async_fn_with_children": lambda fn: 0,
    "declare_target_state": lambda ts: 0,
    "declare_target_state_with_child": lambda ts: 0,
    "register_root_target_states_provider": lambda name, handler: 0,
    "mount_target": lambda target_state: 0,
    "map": lambda fn, items, *args, **kwargs: 0,
    "ComponentMountHandle.ready": lambda self: 0,
    "component_subpath": lambda *keys: 0,
    "ComponentSubpath": lambda *keys: 0,
    "get_component_context": lambda: 0,
    "use_context": lambda key: 0,
    "use_state": lambda key, initial_value=None, *, type_hint=None: 0,
    "exception_handler": lambda handler: 0,
    "ContextKey": lambda key, *, detect_change=False: 0,
    "ContextProvider": lambda: 0,
    "ContextProvider.provide": lambda self, key, value: 0,
    "ContextProvider.provide_with": lambda self, key, cm: 0,
    "ContextProvider.provide_async_with": lambda self, key, acm: 0,
    "ContextProvider.get_fingerprint": lambda self, key: 0,
    "ContextProvider.aclose": lambda self: 0,
    "stats_group": lambda title, *, report_to_stdout=False: 0,
    "timeout": lambda duration: 0,
    "check_cancellation": lambda: 0,
    "serialize_by_pickle": lambda cls: 0,
    "unpickle_safe": lambda cls: 0,
    "Symbol": lambda name: 0,
    "StablePath": lambda core_path=None: 0,
    "Runner.run": lambda self, fn, *args, **kwargs: 0,
    "Runner.run_sync_fn": lambda self, fn, *args, **kwargs: 0,
    "Runner.get_queue": lambda self: 0,
}  # fmt: skip

# Called by position only in every document; the name of the parameter is free.
POSITIONAL_NAMES_FREE = {
    "is_non_existence", "declare_target_state", "declare_target_state_with_child", "map",
    "mount_target", "component_subpath", "ComponentSubpath", "memo_fingerprint",
    "exception_handler", "logic_propagated_to_callers", "serialize_by_pickle", "unpickle_safe",
    "EnvironmentBuilder.set_exception_handler", "show_progress", "App", "Runner.run",
    "Runner.run_sync_fn", "use_context", "Environment.get_context",
}  # fmt: skip


def find(path: str) -> Any:
    thing: Any = coco
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


def same_default(actual: Any, expected: Any) -> bool:
    if expected is ANY:
        return actual is not EMPTY
    return actual is expected or bool(actual == expected)


def parameters(thing: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(thing).parameters.values())


@pytest.mark.parametrize("path", SIGNATURES)
def test_the_signature_is_the_documented_one(path: str) -> None:
    expected = parameters(SIGNATURES[path])
    actual = parameters(find(path))
    wanted_keywords = {p.name: p for p in expected if p.kind is KEYWORD}
    keywords = {p.name: p for p in actual if p.kind is KEYWORD}

    assert wanted_keywords.keys() <= keywords.keys()
    for name, parameter in wanted_keywords.items():
        assert same_default(keywords[name].default, parameter.default), name
    # More keywords are extensions, if nobody has to pass them.
    assert all(p.default is not EMPTY for p in keywords.values())

    places = [p for p in actual if p.kind is not KEYWORD]
    wanted = [p for p in expected if p.kind is not KEYWORD]
    if path in POSITIONAL_NAMES_FREE:
        assert len(places) == len(wanted)
    else:
        assert [p.name for p in places] == [p.name for p in wanted]
    for parameter, like in zip(places, wanted, strict=True):
        assert same_default(parameter.default, like.default), parameter.name


def test_the_decorator_takes_the_documented_options() -> None:
    defaults = {
        "memo": False, "memo_key": None, "version": None, "logic_tracking": "full",
        "deps": None, "batching": False, "max_batch_size": None, "runner": None,
    }  # fmt: skip
    for decorator in (coco.fn, coco.fn.as_async):
        found = {p.name: p.default for p in parameters(decorator) if p.default is not EMPTY}
        assert {name: found[name] for name in defaults} == defaults


def test_extensions_of_the_app_config_are_keyword_only_with_defaults() -> None:
    keywords = {p.name for p in parameters(coco.AppConfig) if p.kind is KEYWORD}
    assert {"deletion_guard", "limits", "budget", "executor", "lease_wait"} >= keywords
    assert {"deletion_guard", "lease_wait"} <= keywords
    assert all(p.default is not EMPTY for p in parameters(coco.AppConfig) if p.kind is KEYWORD)


def test_the_app_config_is_a_frozen_dataclass() -> None:
    config = coco.AppConfig("name")
    assert dataclasses.is_dataclass(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.name = "other"  # type: ignore[misc]


def test_leading_parameters_of_an_app_leave_every_keyword_to_the_main_function(
    host: Any,
) -> None:
    def main(**kwargs: int) -> dict[str, int]:
        return kwargs

    environment = coco.Environment(coco.Settings(db_path=host.db_path))
    try:
        config = coco.AppConfig("kw", environment)
        app = coco.App(config, main, name_or_config=1, main_fn=2, self=3)
        assert app.update_blocking() == {"name_or_config": 1, "main_fn": 2, "self": 3}
    finally:
        environment.close()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("TargetReconcileOutput", "action sink tracking_record child_invalidation"),
        ("ChildTargetDef", "handler"),
        (
            "ComponentStats",
            "num_execution_starts num_unchanged num_adds num_deletes num_reprocesses num_errors",
        ),
        ("UpdateStats", "by_component by_target"),
        ("UpdateSnapshot", "stats status result"),
        ("MemoStateOutcome", "state memo_valid recollect_after_run"),
    ],
)
def test_named_tuples_have_the_documented_fields(name: str, fields: str) -> None:
    cls = getattr(coco, name)
    assert issubclass(cls, tuple)
    assert cls._fields == tuple(fields.split())


def test_memo_state_outcome_defaults_to_invalid() -> None:
    assert coco.MemoStateOutcome("state") == ("state", False, False)


def test_update_status_is_a_string_enum() -> None:
    assert issubclass(coco.UpdateStatus, enum.StrEnum)
    assert [(s.name, s.value) for s in coco.UpdateStatus] == [
        ("RUNNING", "running"),
        ("READY", "ready"),
    ]


def test_component_stats_derive_processed_finished_and_in_progress() -> None:
    stats = coco.ComponentStats(10, 1, 2, 3, 1, 2)
    assert (stats.num_processed, stats.num_finished, stats.num_in_progress) == (7, 9, 1)
    assert stats.num_errored == stats.num_errors == 2
    assert stats._replace(num_execution_starts=0).num_in_progress == 0


def test_update_stats_add_up_to_a_total() -> None:
    one = coco.ComponentStats(1, 0, 1, 0, 0, 0)
    two = coco.ComponentStats(2, 1, 0, 0, 0, 1)
    assert coco.UpdateStats({"a": one, "b": two}).total == coco.ComponentStats(3, 1, 1, 0, 0, 1)


def test_exception_context_is_a_frozen_dataclass_with_the_documented_fields() -> None:
    fields = [field.name for field in dataclasses.fields(coco.ExceptionContext)]
    assert sorted(fields) == sorted([
        "env_name", "stable_path", "processor_name", "mount_kind", "parent_stable_path",
        "is_background", "source", "original_exception",
    ])  # fmt: skip
    assert coco.ExceptionContext.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_lmdb_settings_default_to_documented_sizes() -> None:
    assert dataclasses.is_dataclass(coco.LmdbSettings)
    settings = coco.LmdbSettings()
    assert (settings.max_dbs, settings.map_size) == (1024, 4 * 1024**3)


def test_component_of_ids_take_their_dependency_by_position_or_keyword() -> None:
    from cocoindex.resources import id as ids

    shapes = {
        ids.generate_id: [("dep", None)],
        ids.generate_uuid: [("dep", None)],
        ids.IdGenerator: [("deps", None)],
        ids.UuidGenerator: [("deps", None)],
        ids.IdGenerator.next_id: [("self", EMPTY), ("dep", None)],
        ids.UuidGenerator.next_uuid: [("self", EMPTY), ("dep", None)],
    }
    for thing, expected in shapes.items():
        places = [p for p in parameters(thing) if p.kind is not KEYWORD]
        assert [(p.name, p.default) for p in places] == expected
        assert {p.kind for p in places} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def test_the_id_generators_are_not_memo_keyable() -> None:
    from cocoindex.resources.id import IdGenerator, UuidGenerator

    for generator in (IdGenerator(), UuidGenerator("x")):
        with pytest.raises(TypeError, match="cannot be used as a memoization key"):
            coco.memo_fingerprint([generator])
