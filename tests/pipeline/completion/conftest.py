"""Small worlds whose missing blocks can be predicted from the others."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

Blocks = dict[str, np.ndarray]
World = tuple[Blocks, Blocks]
"""The truth, and the same with blocks missing."""


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Matrices this small are slower on several threads, above all where cores are shared."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def make_world() -> Callable[..., World]:
    """Low-rank blocks plus noise, of unlike scales; each block is missing from an eighth of the rows."""

    def make(n: int = 160, seed: int = 0, noise: float = 0.3, rank: int = 3) -> World:
        rng = np.random.default_rng(seed)
        factors = rng.standard_normal((n, rank))
        truth: Blocks = {}
        for name, width, scale in (("a", 7, 1.0), ("b", 5, 100.0), ("c", 9, 0.01)):
            signal = factors @ rng.standard_normal((rank, width))
            values = 3.0 + signal + noise * rng.standard_normal((n, width))
            truth[name] = (scale * values).astype(np.float32)
        blocks = {name: block.copy() for name, block in truth.items()}
        order = rng.permutation(n)
        for i, name in enumerate(("a", "b", "c")):
            blocks[name][order[i * (n // 8) : (i + 1) * (n // 8)]] = np.nan
        return truth, blocks

    return make


@pytest.fixture
def digits() -> World:
    """Real views of 800 handwritten digits: 30 % lack Zernike moments, 10 % Fourier coefficients."""
    path = Path(__file__).resolve().parents[4] / "shared" / "features" / "mfeat" / "mfeat.npz"
    if not path.exists():
        pytest.skip("the multiple features data are not beside the repository")
    rng = np.random.default_rng(0)
    with np.load(path) as views:
        rows = rng.permutation(len(views["fou"]))[:800]
        truth = {name: views[name][rows].astype(np.float32) for name in ("fou", "kar", "zer")}
    blocks = {name: block.copy() for name, block in truth.items()}
    order = rng.permutation(800)
    blocks["zer"][order[:240]] = np.nan
    blocks["fou"][order[240:320]] = np.nan
    return truth, blocks
