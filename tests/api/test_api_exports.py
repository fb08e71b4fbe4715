"""The public names, listed one by one."""

from __future__ import annotations

import re

import pytest

import cocoindex as coco

EXPORTED = """
    App AppConfig UpdateHandle DropHandle show_progress
    ComponentStats StatsGroupHandle UpdateSnapshot UpdateStats UpdateStatus stats_group
    TargetStats report_target_stats
    fn LogicTracking RetryWithSmallerBatch memo_fingerprint register_memo_key_function
    register_not_memo_keyable NotMemoKeyable MemoStateOutcome logic_propagated_to_callers
    logic_tracked
    timeout check_cancellation DeadlineExceededError
    ContextKey ContextProvider use_context
    ChildTargetDef ChildSlot TargetState TargetStateProvider TargetStatesProvider
    TargetReconcileOutput TargetHandler TargetActionSink PendingTargetStateProvider
    declare_target_state declare_target_state_with_child register_root_target_states_provider
    NON_EXISTENCE NonExistenceType is_non_existence
    Environment EnvironmentBuilder LifespanFn lifespan Settings LmdbSettings
    start stop start_blocking stop_blocking default_env runtime
    Runner
    unpickle_safe serialize_by_pickle
    MaybePendingS PendingS ResolvedS ResolvesTo
    ComponentContext ComponentSubpath component_subpath ComponentMountHandle
    mount use_mount mount_each mount_target map get_component_context use_state StateHandle
    exception_handler ExceptionContext ExceptionHandler
    ROOT_PATH StablePath StableKey Symbol
    DatabaseConnectionSpec CocoIndexError TransientError DeletionGuard Limits DeletionsWithheldError
""".split()

# Exported once they work; an export that does nothing would be worse than none.
NOT_YET = """
    GPU GPUPool GPURunner configure_gpu_pool current_gpu current_gpus current_gpu_fraction
    LiveComponent LiveComponentOperator LiveMapFeed LiveMapView LiveMapSubscriber auto_refresh
    Secret Plan Budget report_usage Ray Processes
""".split()


def test_all_lists_exactly_the_names_that_work() -> None:
    assert sorted(coco.__all__) == sorted(EXPORTED)


def test_no_name_is_listed_twice() -> None:
    assert len(coco.__all__) == len(set(coco.__all__))


@pytest.mark.parametrize("name", EXPORTED)
def test_every_name_is_reachable_as_attribute_and_by_dir(name: str) -> None:
    assert hasattr(coco, name)
    assert name in dir(coco)


@pytest.mark.parametrize("name", NOT_YET)
def test_names_that_do_not_work_yet_are_absent(name: str) -> None:
    assert not hasattr(coco, name)


def test_star_import_gives_every_name() -> None:
    namespace: dict[str, object] = {}
    exec("from cocoindex import *", namespace)
    assert {name: namespace[name] for name in EXPORTED} == {
        name: getattr(coco, name) for name in EXPORTED
    }


def test_map_does_not_replace_the_builtin_of_the_package() -> None:
    import builtins

    assert builtins.map is not coco.map


def test_an_unknown_name_is_an_attribute_error_naming_it() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = coco.no_such_name


def test_version_is_a_string_of_numbers() -> None:
    assert re.match(r"\d+\.\d+", coco.__version__)


def test_connectorkits_are_reachable_as_attribute_with_the_fingerprints() -> None:
    assert len(coco.connectorkits.fingerprint_bytes(b"x")) == 16
    assert len(coco.connectorkits.fingerprint_str("x")) == 16
    assert len(coco.connectorkits.fingerprint_object({"x": 1})) == 16


@pytest.mark.parametrize("name", [n for n in EXPORTED if n not in {"map", "stop", "start"}])
def test_public_classes_and_functions_explain_themselves(name: str) -> None:
    thing = getattr(coco, name)
    if isinstance(thing, type) or getattr(thing, "__module__", "").startswith("cocoindex"):
        assert callable(thing) is False or thing.__doc__, f"{name} has no docstring"
