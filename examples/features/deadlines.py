"""Work that must not take for ever."""

from datetime import timedelta

import cocoindex as coco


# --8<-- [start:deadlines]
@coco.fn
async def search(question: str) -> str:
    best = f"a first guess at {question}"
    for _ in range(10_000_000):
        coco.check_cancellation()  # raises when the time is up
    return best


async def app_main() -> None:
    try:
        with coco.timeout(timedelta(milliseconds=50)):
            print(await search("everything"))
    except coco.DeadlineExceededError:
        print("no answer in time")


# --8<-- [end:deadlines]

app = coco.App("Deadlines", app_main)
