"""Counters of a part of the work."""

import cocoindex as coco


@coco.fn(memo=True)
async def convert(name: str) -> None:
    print("converting", name)


# --8<-- [start:stats]
async def app_main() -> None:
    with coco.stats_group("Images") as images:
        handle = await coco.mount_each(convert, [(name, name) for name in ("a.png", "b.png")])
    await handle.ready()  # all of them are done
    stats = images.stats()
    assert stats is not None
    print(stats.by_component["convert"].num_processed, "of", stats.total.num_execution_starts)


# --8<-- [end:stats]

app = coco.App("Stats", app_main)
