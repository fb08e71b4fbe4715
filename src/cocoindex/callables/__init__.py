"""``@coco.fn``: decorated functions, what identifies them, batches and runners."""

from cocoindex.callables.batching import RetryWithSmallerBatch
from cocoindex.callables.decorated import AsyncFunction, SyncFunction
from cocoindex.callables.decorator import fn
from cocoindex.callables.runner import Runner

__all__ = ["AsyncFunction", "RetryWithSmallerBatch", "Runner", "SyncFunction", "fn"]
