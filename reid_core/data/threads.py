"""One function for every image of a long list, in threads."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_BLOCK = 256  # items under way at a time: of a million, the pool would queue a gigabyte of them at once


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], num_threads: int = 1) -> Iterator[Result]:
    """`function(item)` of every item, in order, by `num_threads` threads (at least one); few are held at a time."""
    with ThreadPoolExecutor(max(num_threads, 1)) as threads:
        for start in range(0, len(items), _BLOCK):
            yield from threads.map(function, items[start : start + _BLOCK])
