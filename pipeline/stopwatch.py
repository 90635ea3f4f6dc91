"""Wall-clock time by name."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Stopwatch:
    """Adds up wall-clock seconds by name."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count the block's time as `what`, also when it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[what] += time.perf_counter() - start  # type: ignore[assignment]

    def each(self, what: str, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, counting the time of waiting for each as `what`."""
        iterator = iter(items)
        while True:
            with self.on(what):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
