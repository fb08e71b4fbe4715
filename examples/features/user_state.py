"""What a component remembers for itself."""

import cocoindex as coco


# --8<-- [start:state]
@coco.fn
async def read_feed(messages: list[str]) -> None:
    seen = coco.use_state("seen", 0)
    print("new:", messages[seen.value :])
    seen.value = len(messages)  # kept if this component ends well


# --8<-- [end:state]


async def app_main() -> None:
    await coco.mount(read_feed, ["one", "two", "three"])


app = coco.App("UserState", app_main)
