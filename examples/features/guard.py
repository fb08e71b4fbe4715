"""Mass deletions wait for approval. `EMPTY=1` makes the source lose its items."""

import os

import cocoindex as coco


@coco.fn
async def publish(name: str) -> None:
    print("publishing", name)


# --8<-- [start:guard]
async def app_main() -> None:
    names = [] if os.environ.get("EMPTY") else ["a", "b", "c"]
    await coco.mount_each(publish, [(name, name) for name in names])


guard = coco.DeletionGuard(max_fraction=0.5, min_items=2)
app = coco.App(coco.AppConfig("Guard", deletion_guard=guard), app_main)
# --8<-- [end:guard]
