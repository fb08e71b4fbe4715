"""Histories that once led astray, shrunk, with what was wrong with the engine."""

from __future__ import annotations

import pytest
from histories.exhaustive import Case
from histories.history import History
from histories.shrink import from_text

FOUND = {
    "directories in which nothing stands stayed": "add:11,faulty:59793,remount:0,clean:0",
    "so they did below a component that was deleted": (
        "add:0,add:52128,add:2,add:0,add_table:6,add:5,add:11771,add_call:1,add:9420,add_table:4,"
        "faulty:6196,rekind:3,last:0"
    ),
    "a component was memoized although its listing was incomplete": (
        "add:0,add:1,add:6,withholding:1,clean:0"
    ),
    "a memo covered components that were being deleted": (
        "add_table:1,put:0,rekind:1,faulty:1,faulty:0,faulty:52740"
    ),
    "nobody swept the tombstones of a component that had become a directory": (
        "add:40366,add_table:0,faulty:5,faulty:1,wrap:0,faulty:8920,last:0"
    ),
    "a component that waited for a container ran once more": (
        "add_table:2,add:7,clean:0,remove_table:0,last:0"
    ),
    "so did one below which a nested container went": "add_table:7,add:7,clean:0,inner:2,clean:0",
    "rows stayed whose container's owner was reused": (
        "add:1,add:6,add_table:1,add:0,add:2289,clean:0,move_table:4,withholding:1,clean:0"
    ),
    "a root without children had no name row after a killed drop": (
        "add_call:0,faulty:0,faulty:0,faulty:0,faulty:0,faulty:1,faulty:32579,add:9,faulty:0,"
        "faulty:3"
    ),
    "a component turned directory, whose deletion had failed, lost its existence row": (
        "add:1,add:13337,contest:1,thin:1,put:0,faulty:16131,wrap:0,faulty:5,faulty:39724"
    ),
    "an emptied directory beside a deleted one stayed for one more update": (
        "add:9329,thin:1,add:0,add:35019,restore:0,update/cancel:37,undo:0,guarded/kill:25,last:0"
    ),
    "a cancelled drop left deletions behind": (
        "add_table:1,add:0,add:0,add:5,add:0,update/kill:56,faulty:53910,update/kill:1,faulty:31259"
    ),
    "a drop that was cancelled left a dead component below a directory without a name": (
        "add:49338,add_call:3,add:9,contest:1,update/kill:48,wrap:1,update/kill:47,drop/cancel:21"
    ),
}


@pytest.mark.parametrize("mistake", FOUND)
def test_what_was_found_once_stays_mended(mistake):
    History(thorough=True).run(from_text(FOUND[mistake]))


def test_a_row_that_its_owner_kept_only_for_now_may_go_to_another_component():
    """The owner was taken for one that declares it, too: warned of, and run once more."""
    assert Case("a(b c)", "memoized", ("swap", "move_table")).run()["kills"] > 10
