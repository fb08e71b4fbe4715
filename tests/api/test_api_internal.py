"""The private modules that existing programs import."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest

import cocoindex as coco

NAMES = {
    "context_keys": "ContextKey ContextProvider",
    "typing": (
        "StableKey NonExistenceType NON_EXISTENCE is_non_existence MemoStateOutcome "
        "Fingerprintable NOT_SET NotSetType is_not_set"
    ),
    "target_state": (
        "NON_EXISTENCE NonExistenceType is_non_existence TargetHandler TargetReconcileOutput "
        "ChildTargetDef ChildSlot TargetStateProvider TargetStatesProvider "
        "PendingTargetStateProvider TargetActionSink TargetState declare_target_state "
        "declare_target_state_with_child register_root_target_states_provider "
        "TargetActionSinkFn AsyncTargetActionSinkFn"
    ),
    "stable_path": "StablePath StableKey Symbol ROOT_PATH",
    "component_ctx": "next_id ExceptionContext ComponentContext",
    "memo_fingerprint": (
        "memo_fingerprint fingerprint_call register_memo_key_function "
        "unregister_memo_key_function register_not_memo_keyable"
    ),
    "serde": (
        "serialize deserialize make_deserialize_fn get_deserialize_fn DeserializationError "
        "unpickle_safe serialize_by_pickle enable_strict_serialize"
    ),
    "deadline": (
        "remaining_seconds has_deadline without_deadline retry_transient exponential_backoff"
    ),
    "datatype": (
        "analyze_type_info DataTypeInfo AnyType SequenceType MappingType RecordType "
        "RecordFieldInfo UnionType LeafType is_record_type is_namedtuple_type "
        "is_pydantic_model is_numpy_number_type TypeChecker"
    ),
    "rwlock": "RWLock",
    "environment": (
        "Environment LazyEnvironment default_env_lazy get_registered_environment_infos "
        "reset_default_env_for_tests"
    ),
    "setting": "Settings LmdbSettings get_default_db_path",
    "core": (
        "Fingerprint fingerprint_bytes fingerprint_str Symbol StablePath RateLimiter "
        "list_app_names cancel_all reset_global_cancellation testing_reset_deadline_clock "
        "testing_advance_deadline_clock testing_disable_deadline_clock"
    ),
}
CASES = [(module, name) for module, names in NAMES.items() for name in names.split()]


@pytest.mark.parametrize(("module", "name"), CASES)
def test_an_internal_name_is_importable(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(f"cocoindex._internal.{module}"), name)


@pytest.mark.parametrize(("module", "name"), [c for c in CASES if c[1] in coco.__all__])
def test_an_internal_name_is_the_very_public_object(module: str, name: str) -> None:
    # The module is also the name of a function: cocoindex._internal.memo_fingerprint.
    internal = getattr(importlib.import_module(f"cocoindex._internal.{module}"), name)
    assert internal is getattr(coco, name)


@pytest.mark.parametrize("module", NAMES)
def test_a_module_lists_exactly_what_programs_import(module: str) -> None:
    found = importlib.import_module(f"cocoindex._internal.{module}").__all__
    assert sorted(found) == sorted(NAMES[module].split())


def test_the_test_clock_needs_to_be_asked_for(run_python: Callable[..., str]) -> None:
    code = (
        "from cocoindex._internal import core\n"
        "for call in (core.testing_reset_deadline_clock,\n"
        "             lambda: core.testing_advance_deadline_clock(10),\n"
        "             core.testing_disable_deadline_clock):\n"
        "    try: call()\n"
        "    except RuntimeError as error: print('COCOINDEX_TESTING' in str(error))\n"
    )
    assert run_python(code).split() == ["True"] * 3
    assert run_python(code, COCOINDEX_TESTING="1") == ""


def test_the_test_clock_moves_deadlines() -> None:
    from datetime import timedelta

    from cocoindex._internal import core

    core.testing_reset_deadline_clock()
    try:
        with coco.timeout(timedelta(milliseconds=100)):
            core.testing_advance_deadline_clock(100)
            coco.check_cancellation()  # expired means strictly after
            core.testing_advance_deadline_clock(1)
            with pytest.raises(coco.DeadlineExceededError):
                coco.check_cancellation()
    finally:
        core.testing_disable_deadline_clock()


def test_remaining_time_is_known_only_under_a_deadline() -> None:
    from datetime import timedelta

    from cocoindex._internal.deadline import has_deadline, remaining_seconds, without_deadline

    assert (has_deadline(), remaining_seconds()) == (False, None)
    with coco.timeout(timedelta(hours=1)):
        assert has_deadline()
        remaining = remaining_seconds()
        assert remaining is not None
        assert 0 < remaining <= 3600
        with without_deadline():
            assert not has_deadline()
        assert has_deadline()


async def test_ids_count_up_per_key(tmp_path: object) -> None:
    from pathlib import Path

    from cocoindex._internal.component_ctx import next_id

    async def main() -> list[int]:
        return [await next_id(), await next_id(), await next_id("k"), await next_id(key="k")]

    assert isinstance(tmp_path, Path)
    environment = coco.Environment(coco.Settings(db_path=tmp_path / "db"))
    try:
        app = coco.App(coco.AppConfig("ids", environment), main)
        assert await app.update() == [1, 2, 1, 2]
    finally:
        environment.close()


def test_environments_and_apps_are_listed_while_alive(tmp_path: object) -> None:
    from pathlib import Path

    from cocoindex._internal.core import list_app_names
    from cocoindex._internal.environment import get_registered_environment_infos

    assert isinstance(tmp_path, Path)
    environment = coco.Environment(coco.Settings(db_path=tmp_path / "db"), name="listed")
    try:
        app = coco.App(coco.AppConfig("shown", environment), lambda: None)
        [info] = [i for i in get_registered_environment_infos() if i.env is environment]
        assert info.env_name == "listed"
        assert info.get_apps() == [app]
        assert list_app_names(environment) == []
        app.update_blocking()
        assert list_app_names(environment) == ["shown"]
    finally:
        environment.close()


def test_a_lazy_environment_of_ones_own_starts_by_its_lifespan(tmp_path: object) -> None:
    from pathlib import Path
    from typing import Any

    from cocoindex._internal.environment import LazyEnvironment

    assert isinstance(tmp_path, Path)
    path, log = tmp_path / "db", []
    lazy = LazyEnvironment("own")
    assert lazy.name == "own"

    def lifespan(builder: coco.EnvironmentBuilder) -> Any:
        builder.settings.db_path = path
        log.append("up")
        yield
        log.append("down")

    lazy.lifespan(lifespan)
    app = coco.App(coco.AppConfig("a", lazy), lambda: "ran")
    assert app.update_blocking() == "ran"

    import asyncio

    asyncio.run(lazy.stop())
    assert log == ["up", "down"]


def test_values_survive_a_round_trip_to_their_type() -> None:
    from cocoindex._internal.serde import deserialize, make_deserialize_fn, serialize

    assert deserialize(serialize({"a": (1, 2)}), dict[str, tuple[int, int]]) == {"a": (1, 2)}
    assert deserialize(serialize({"a": (1, 2)})) == {"a": [1, 2]}
    with pytest.raises(ValueError, match=r"return type of m\.f\(\)"):
        make_deserialize_fn(int, "return type of m.f()")(serialize("text"))
