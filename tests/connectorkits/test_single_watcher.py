from __future__ import annotations

import pytest

from cocoindex.connectorkits.single_watcher import SingleWatcherGuard


def test_a_second_entry_is_refused_and_the_first_goes_on() -> None:
    guard = SingleWatcherGuard("LiveMap")
    with guard:
        for _ in range(2):
            with (
                pytest.raises(RuntimeError) as caught,
                guard,
            ):
                pytest.fail("entered twice")
        assert str(caught.value) == "LiveMap supports a single active watch() at a time."


def test_every_exit_makes_room_again() -> None:
    guard = SingleWatcherGuard("x")
    with guard:
        pass
    with pytest.raises(KeyError), guard:
        raise KeyError
    with guard:
        pass
