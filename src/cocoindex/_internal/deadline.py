"""Alias for programs that import from here: deadlines and retries within them."""

from cocoindex.core.deadline import has_deadline, remaining_seconds, without_deadline
from cocoindex.core.retry import exponential_backoff, retry_transient

__all__ = [
    "exponential_backoff",
    "has_deadline",
    "remaining_seconds",
    "retry_transient",
    "without_deadline",
]
