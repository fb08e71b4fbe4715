"""``@coco.fn``: decorated functions, what identifies them, batches and runners."""
