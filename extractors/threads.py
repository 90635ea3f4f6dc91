"""How many processor threads this process gives to its networks, so that workers side by side do not crowd the cores.

What is extracted does not depend on it (`tests/extractors/test_threads.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def use_threads(n: int) -> None:
    """From now on, n threads for one network; those of other Python threads too."""
    if torch.get_num_threads() != n:
        torch.set_num_threads(n)


@contextmanager
def threads(n: int) -> Iterator[None]:
    """`use_threads` while the block runs."""
    before = torch.get_num_threads()
    use_threads(n)
    try:
        yield
    finally:
        use_threads(before)
