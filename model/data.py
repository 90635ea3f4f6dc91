"""Data sets of named modalities with labels, and the standardiser fitted on training rows.

Notation used throughout `model`: N rows (videos), M modalities, D_m features of modality m, K classes, H hidden units.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.features import FeatureRows, mean_and_deviation


@dataclass(frozen=True)
class Dataset(FeatureRows):
    """Labelled rows with finite values: absent modalities have been completed. Modalities are in sorted order."""

    label: np.ndarray
    """Class indices, shape (N,), int64, 0..K-1."""
    is_predicted: np.ndarray | None = field(default=None, kw_only=True)
    """Rows whose label is the prediction of a model, shape (N,), bool; None if there is none."""

    def __post_init__(self) -> None:
        modalities, observed = checked(self.modalities, self.observed)
        label, n_rows = np.asarray(self.label), len(next(iter(modalities.values())))
        if label.shape != (n_rows,) or not np.issubdtype(label.dtype, np.integer):
            raise ModelError(
                f"found labels of shape {label.shape} and type {label.dtype}, "
                f"expected {n_rows} integers; give one class index per row"
            )
        object.__setattr__(self, "modalities", modalities)
        object.__setattr__(self, "observed", observed)
        if any(matrix.shape[0] != n_rows for matrix in self.terms.values()):
            raise ModelError(f"term weights have other numbers of rows than {n_rows}; give one row per video")
        object.__setattr__(self, "label", label.astype(np.int64))

    def side_by_side(self) -> np.ndarray:
        """Return the concatenated modalities, shape (N, sum of D_m), float32."""
        return np.concatenate(list(self.modalities.values()), axis=1)

    def only(self, names: Iterable[str]) -> "Dataset":
        """Return the same rows with some of the modalities."""
        kept = set(names)
        unknown = sorted(kept - self.modalities.keys())
        if unknown:
            raise ModelError(f"no modality is called {unknown}; there are {list(self.modalities)}")
        return replace(
            self,
            modalities={name: array for name, array in self.modalities.items() if name in kept},
            observed={name: mask for name, mask in self.observed.items() if name in kept},
            terms={name: matrix for name, matrix in self.terms.items() if name in kept},
        )

    def take(self, rows: np.ndarray) -> "Dataset":
        """Return a copy of some rows, given as indices or a mask of shape (N,)."""
        chosen = super().take(rows)
        is_predicted = None if self.is_predicted is None else self.is_predicted[rows]
        return Dataset(
            chosen.modalities, chosen.observed, self.label[rows], terms=chosen.terms, is_predicted=is_predicted
        )


def joined(first: Dataset, second: Dataset) -> Dataset:
    """Return the rows of both data sets, in order. They have the same modalities and terms."""
    from scipy.sparse import vstack

    is_predicted = [np.zeros(len(d), bool) if d.is_predicted is None else d.is_predicted for d in (first, second)]
    return Dataset(
        {name: np.concatenate([array, second.modalities[name]]) for name, array in first.modalities.items()},
        {name: np.concatenate([mask, second.observed[name]]) for name, mask in first.observed.items()},
        np.concatenate([first.label, second.label]),
        terms={name: vstack([terms, second.terms[name]], format="csr") for name, terms in first.terms.items()},
        is_predicted=np.concatenate(is_predicted),
    )


def checked(
    modalities: Mapping[str, np.ndarray], observed: Mapping[str, np.ndarray] | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return modalities as float32 and masks as bool, both sorted; a missing mask means that all rows are observed.

    Raises:
        ModelError: there is no modality, a shape does not fit the others, or a value is not finite.
    """
    if not modalities:
        raise ModelError("found no modality, expected at least one named array of shape (N, D)")
    masks = {} if observed is None else observed
    if not masks.keys() <= modalities.keys():
        raise ModelError(f"masks of unknown modalities {sorted(masks.keys() - modalities.keys())}")
    arrays: dict[str, np.ndarray] = {}
    full: dict[str, np.ndarray] = {}
    for name in sorted(modalities):
        with np.errstate(over="ignore"):  # float32 overflow becomes infinite and is rejected below
            array = np.asarray(modalities[name], dtype=np.float32)
        if array.ndim != 2 or array.shape[1] == 0:
            raise ModelError(f"modality {name!r} has shape {array.shape}, expected (N, D) with D >= 1")
        if not np.isfinite(array).all():
            raise ModelError(f"modality {name!r} has values that are not finite; complete missing modalities first")
        mask = np.asarray(masks.get(name, np.ones(len(array), bool)))
        if mask.shape != (len(array),) or mask.dtype != bool:
            raise ModelError(f"mask of {name!r} is {mask.dtype} {mask.shape}, expected bool ({len(array)},)")
        arrays[name], full[name] = array, mask
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise ModelError(f"modalities have different numbers of rows: {counts}; give one row per video in each")
    return arrays, full


@dataclass(frozen=True)
class Standardizer:
    """Scales each feature to mean 0 and variance 1 over the training rows."""

    mean: dict[str, np.ndarray]
    """Mean by modality, shape (D_m,), float32, in the features' own units."""
    scale: dict[str, np.ndarray]
    """Standard deviation by modality, shape (D_m,), float32, > 0; 1 where the feature is constant."""

    @staticmethod
    def fit(train: FeatureRows) -> "Standardizer":
        """Fit to the rows in which a modality was observed, or to all rows if it never was.

        Completed vectors are close to the mean and would make the scale too small.
        """
        mean, scale = {}, {}
        for name, array in train.modalities.items():
            mask = train.observed[name]
            centre, spread = mean_and_deviation(array[mask] if mask.any() else array)
            mean[name] = centre.astype(np.float32)
            scale[name] = np.where(spread > 0, spread, 1.0).astype(np.float32)
        return Standardizer(mean, scale)

    def apply(self, modalities: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return standardised copies, shape (N, D_m), float32.

        Raises:
            ModelError: the modalities or dimensions differ from those it was fitted on.
        """
        expected = {name: len(mean) for name, mean in self.mean.items()}
        found = {name: modalities[name].shape[1] for name in sorted(modalities)}
        if found != expected:
            raise ModelError(f"found modalities {found}, expected {expected}; extract with the model's own settings")
        return {name: (modalities[name] - self.mean[name]) / self.scale[name] for name in expected}

    def standardized(self, rows: Dataset) -> Dataset:
        """Return the same rows, standardised."""
        return replace(rows, modalities=self.apply(rows.modalities))
