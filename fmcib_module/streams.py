"""Iterators between threads."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T], depth: int) -> Iterator[tuple[T, bool]]:
    """Run an iterator in a thread of its own, at most `depth` items ahead of its consumer.

    Errors of the iterator are raised where its item was due. When the consumer stops early, the iterator is closed.

    Returns:
        Each item, and whether the next one is there already, so that a consumer can do something else than wait.
    """
    iterator = iter(items)
    end = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as thread:
        ahead = deque(thread.submit(next, iterator, end) for _ in range(depth))
        try:
            while (item := ahead.popleft().result()) is not end:
                ahead.append(thread.submit(next, iterator, end))
                yield item, ahead[0].done()  # type: ignore[misc]  # only `end` is no T
        finally:
            for future in ahead:
                future.cancel()
            if isinstance(iterator, Generator):
                thread.submit(iterator.close).result()
