"""One call of a model for many items."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import cocoindex as coco


# --8<-- [start:batching]
@coco.fn.as_async(memo=True, batching=True, max_batch_size=3)
def embed(texts: list[str]) -> list[list[float]]:
    print("embedding", texts)
    return [[float(len(text))] for text in texts]


async def app_main() -> None:
    words = ["the", "quick", "brown", "fox", "jumps"]
    print(await coco.map(embed, words))  # callers give and get one item each
    print(await run_elsewhere(2))


# --8<-- [end:batching]


# --8<-- [start:runner]
class ThreadRunner(coco.Runner):
    """Runs bodies on threads, as many at a time as it was told."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._free = asyncio.Semaphore(limit)

    async def run(self, fn: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        async with self._free:
            return await fn(*args, **kwargs)

    async def run_sync_fn(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        async with self._free:
            return await asyncio.to_thread(fn, *args, **kwargs)


@coco.fn.as_async(runner=ThreadRunner(2))
def run_elsewhere(number: int) -> int:
    return number * number


# --8<-- [end:runner]

app = coco.App("Batching", app_main)
