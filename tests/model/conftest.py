"""A small world with a known answer: each modality holds a different half of what the class is."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from nmcl.model.data import Dataset
from nmcl.model.nmcl.nmcl import NMCLSettings
from nmcl.model.nmcl.stacking import StackedSettings
from nmcl.model.train import TrainSettings

CLASSES = ("beach", "cafe", "gym", "park")


def world(n: int, seed: int, noise: float = 0.6) -> Dataset:
    """N rows of four classes: `sight` parts {0, 1} from {2, 3}, `sound` even from odd, `words` is noise."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 4, n)
    sight = np.stack([label // 2, 1 - label // 2, 0 * label], axis=1) + noise * random.normal(size=(n, 3))
    sound = np.stack([label % 2, 1 - label % 2], axis=1) + noise * random.normal(size=(n, 2))
    words = random.normal(size=(n, 4))
    return Dataset({"sight": 5 + 3 * sight, "sound": sound, "words": words}, {}, label)


def with_terms(rows: Dataset, seed: int) -> Dataset:
    """The rows with sparse terms beside `words`: three of twelve; four tell the class."""
    random = np.random.default_rng(seed)
    known = np.where(random.random(len(rows)) < 0.7, rows.label, random.integers(0, 4, len(rows)))
    columns = np.concatenate([known[:, None], random.integers(4, 12, (len(rows), 2))], axis=1)
    values = np.ones(columns.size, np.float32)
    matrix = csr_array((values, (np.repeat(np.arange(len(rows)), 3), columns.ravel())), shape=(len(rows), 12))
    return replace(rows, terms={"words": matrix})


def quick(**changes: object) -> NMCLSettings:
    """NMCL small enough for a test."""
    settings: dict[str, object] = {"hidden": 16, "train": TrainSettings(max_epochs=8, device="cpu")}
    return NMCLSettings(**{**settings, **changes})  # type: ignore[arg-type]


def stacked(**changes: object) -> StackedSettings:
    """The same, stacked."""
    return StackedSettings(**{**vars(quick()), **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def train() -> Dataset:
    return world(160, seed=1)


@pytest.fixture(scope="session")
def validation() -> Dataset:
    return world(80, seed=2)


@pytest.fixture(scope="session")
def test() -> Dataset:
    return world(400, seed=3)
