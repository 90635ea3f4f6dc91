"""Number of processor threads for this process's networks, so that parallel workers do not oversubscribe the cores.

Extracted values do not depend on it (`tests/extractors/test_threads.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def use_threads(n: int) -> None:
    """Set the number of threads per network, for all Python threads of this process."""
    if torch.get_num_threads() != n:
        torch.set_num_threads(n)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Apply `use_threads` within the block."""
    before = torch.get_num_threads()
    use_threads(n)
    try:
        yield
    finally:
        use_threads(before)
