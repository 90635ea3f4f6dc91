"""Batches of a data set as tensors on a device."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nmcl.model.base import TERMS, Features, Mask
from nmcl.model.data import Dataset
from nmcl.pipeline.features import FeatureRows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

KEPT_SHARE = 0.5
"""Largest share of a GPU's free memory that resident training rows may take."""


def tensors(
    rows: FeatureRows, index: np.ndarray | slice, device: torch.device, with_terms: bool = False
) -> tuple[Features, Mask]:
    """Return features and masks of some rows as tensors on a device, with the sparse terms if wanted."""
    features = {name: torch.from_numpy(array[index]).to(device) for name, array in rows.modalities.items()}
    if with_terms:
        features |= {TERMS.format(name): sparse_tensor(terms[index]).to(device) for name, terms in rows.terms.items()}
    observed = {name: torch.from_numpy(mask[index]).to(device) for name, mask in rows.observed.items()}
    return features, observed


def sparse_tensor(terms: "csr_array") -> Tensor:
    """Return term weights with sorted columns as a sparse tensor, shape (N, T), float32."""
    row = np.repeat(np.arange(terms.shape[0]), np.diff(terms.indptr))
    index, value = np.stack([row, terms.indices.astype(np.int64)]), torch.from_numpy(terms.data.astype(np.float32))
    return torch.sparse_coo_tensor(
        torch.from_numpy(index), value, terms.shape, is_coalesced=True, check_invariants=True
    )


class Batches:
    """Labelled rows on a device, indexed by row numbers.

    On a GPU all rows stay resident if they fit: gathering them there takes a fraction of the time of gathering them on
    the CPU and copying them.
    """

    def __init__(self, rows: Dataset, device: torch.device) -> None:
        self.rows = rows
        self.device = device
        self._kept = self._load(slice(None)) if _fits(rows, device) else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: np.ndarray) -> tuple[Features, Mask, Tensor]:
        """Return features, masks and labels of some rows; labels have shape (len(index),), int64."""
        if self._kept is None:
            return self._load(index)
        features, observed, label = self._kept
        on_device = torch.from_numpy(index).to(self.device)
        return _taken(features, on_device), _taken(observed, on_device), label[on_device]

    def _load(self, index: np.ndarray | slice) -> tuple[Features, Mask, Tensor]:
        features, observed = tensors(self.rows, index, self.device)
        return features, observed, torch.from_numpy(self.rows.label[index]).to(self.device)


def _fits(rows: Dataset, device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(array.nbytes for array in rows.modalities.values()) <= KEPT_SHARE * free


def _taken(by_name: dict[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    return {name: tensor[index] for name, tensor in by_name.items()}
