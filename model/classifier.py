"""A scikit-learn classifier of several modalities, each of which may be missing in any row."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from nmcl.model.data import Dataset
from nmcl.model.registry import method
from nmcl.model.study.tuning import changed
from nmcl.model.trained import fit
from nmcl.pipeline import completion
from nmcl.pipeline.completion import COMPLETERS, CompletionSettings
from nmcl.pipeline.completion.table import check
from nmcl.pipeline.errors import UserError
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.stages.splits import allot
from nmcl.pipeline.storage.tables import to_vectors

ARRAY = "features"
"""Name of the only modality if the input is one array."""


class NMCLClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Classifier of videos by one or more modalities, with scikit-learn's conventions.

    The input `X` is one of

    * a mapping from names to arrays (N, D_m); a row of NaN where the modality is absent,
    * a pandas data frame or an Arrow table with columns of vectors, such as `store.features().to_pandas()`: each is a
      modality, null where absent, and all other columns are ignored,
    * one array (N, D), or a data frame of numbers: one modality.

    Absent modalities are completed from the others by a completer that is fitted on the training rows. A row without
    any modality is left out of the fit, and gets the class shares of the training rows as its prediction. The same
    seed, machine and number of threads give the same model.

    Args:
        model: Name in the model registry, such as `nmcl_stacked`, `nmcl`, `late_fusion` or `logistic`.
        settings: Settings of the model that differ from its defaults, by dotted name, such as
            `{"hidden": 64, "train.max_epochs": 20}`; see docs/settings.md.
        completion: Name of the completer; `auto` selects the one with the smallest error on hidden training rows.
        validation_fraction: Share of the training rows that choose among epochs, penalties and stacking weights,
            stratified by class. `nmcl_stacked` is then fitted to these rows, too; other models are not.
        random_state: Seed, or a generator that draws one; None: a new seed for each fit.

    Attributes:
        classes_: The K labels, sorted.
        class_prior_: Share of each class of the rows used by `fit`, shape (K,).
        dims_: D_m by name of the modality.
        completer_: State of the completer; `info["method"]` is its name.
        trained_: The model with its standardisation, a `nmcl.model.trained.Trained`.
        n_features_in_: D, only if the input is one array.
    """

    def __init__(
        self,
        model: str = "nmcl_stacked",
        *,
        settings: Mapping[str, Any] | None = None,
        completion: str = "auto",
        validation_fraction: float = 0.3,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.model = model
        self.settings = settings
        self.completion = completion
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: Any, y: Any, validation: Any = None) -> "NMCLClassifier":
        """Fit the completer and the model.

        Args:
            X: N rows, see the class.
            y: Labels, shape (N,).
            validation: Mask of the validation rows, shape (N,), bool; None: drawn, see `validation_fraction`.

        Raises:
            ValueError: If the rows cannot be used, or a parameter has a value that is not allowed.
            ModelError: If there is no such model, or its loss is not finite.
        """
        y = _check_y(y, estimator=self)
        check_classification_targets(y)
        with _value_errors():
            table = check(self._blocks(X, is_fit=True))
        if len(table) != len(y):
            raise ValueError(f"Found {len(table)} rows and {len(y)} labels; give one label per row.")
        settings = self._model_settings()
        completer = self._completion_settings()
        self.classes_, label = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"Found one class, {self.classes_.tolist()}; expected at least two classes to tell apart.")
        seed = _seed(self.random_state)
        held_out = self._validation_rows(label, table.usable, validation, seed)
        train = table.usable & ~held_out
        if len(table.dims) == 1:
            completer = dataclasses.replace(completer, method="mean")  # there is nothing else to complete it from
        self.dims_ = table.dims
        self.class_prior_ = np.bincount(label[table.usable], minlength=len(self.classes_)) / table.usable.sum()
        with threadpool_limits(1):
            self.completer_ = completion.fit(table.take(train).modalities, completer)
        self.trained_ = fit(
            self.model,
            self._dataset(table.take(train), label[train]),
            self._dataset(table.take(held_out), label[held_out]),
            tuple(map(str, self.classes_)),
            settings,
            seed,
        )
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (N, K), float64, in the order of `classes_`.

        Args:
            X: N rows, see the class. A modality that is left out is absent in all rows.

        Raises:
            ValueError: If the modalities or their dimensions are not those of the fit.
        """
        check_is_fitted(self)
        with _value_errors():
            rows = check(self._blocks(X, is_fit=False))
        known = rows.usable
        probability = np.tile(self.class_prior_, (len(rows), 1))
        if known.any():
            found = rows.take(known)
            completed = self._completed(found)
            probability[known] = self.trained_.predict(completed, found.observed).probability
        return np.asarray(probability / probability.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each row, shape (N,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def __getstate__(self) -> Any:
        state = super().__getstate__()
        if "trained_" in state:
            state["trained_"].network.cpu()  # so that it can be loaded where there is no GPU
        return state

    def _blocks(self, X: Any, is_fit: bool) -> dict[str, np.ndarray]:
        """Return the modalities of an input as float32; those of a prediction are all that were fitted."""
        if not (named := _named(X)):
            if not is_fit and ARRAY not in self.dims_:
                raise ValueError(f"Found one array; expected the modalities {', '.join(self.dims_)}, by name.")
            return {
                ARRAY: validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=is_fit, copy=True)
            }
        with np.errstate(over="ignore"):  # float32 overflow becomes infinite and is rejected later
            blocks = {name: _matrix(name, block) for name, block in named.items()}
        if is_fit:
            return blocks
        found = {name: block.shape[1] for name, block in blocks.items()}
        if not found.items() <= self.dims_.items():
            raise ValueError(f"Found the modalities {found}; expected some of {self.dims_}, as in the fit.")
        n_rows = len(next(iter(blocks.values())))
        absent = {name: np.full((n_rows, dim), np.nan, np.float32) for name, dim in self.dims_.items()}
        return absent | blocks

    def _model_settings(self) -> Any:
        defaults = method(self.model).settings
        try:
            wanted = changed(defaults, dict(self.settings or {}))
            return TypeAdapter(type(defaults)).validate_python(dataclasses.asdict(wanted))
        except (TypeError, AttributeError) as error:
            raise ValueError(
                f"settings {dict(self.settings or {})} has a name that {self.model} does not know; its settings are "
                f"{', '.join(field.name for field in dataclasses.fields(defaults))}."
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise ValueError(f"The setting {name} is {first['input']!r}: {first['msg']}.") from error

    def _completion_settings(self) -> CompletionSettings:
        if self.completion not in ("auto", *COMPLETERS):
            raise ValueError(f"completion={self.completion!r}: expected one of auto, {', '.join(COMPLETERS)}.")
        return CompletionSettings(method=self.completion)  # type: ignore[arg-type]  # checked above

    def _validation_rows(self, label: np.ndarray, usable: np.ndarray, given: Any, seed: int) -> np.ndarray:
        """Return the mask of the validation rows, shape (N,), bool, among the usable ones."""
        if given is not None:
            mask = np.asarray(given)
            if mask.shape != label.shape or mask.dtype != bool:
                found = f"a validation mask of shape {mask.shape} and type {mask.dtype}"
                raise ValueError(f"Found {found}; expected {label.shape}, bool.")
            mask = mask & usable
        else:
            mask = self._drawn(label, usable, seed)
        if not mask.any() or not (usable & ~mask).any():
            raise ValueError(
                f"Found {int((usable & ~mask).sum())} rows to train on and {int(mask.sum())} validation rows; expected "
                "some of each. A class with n_samples=1 is only trained on: give more rows per class."
            )
        return mask

    def _drawn(self, label: np.ndarray, usable: np.ndarray, seed: int) -> np.ndarray:
        share = self.validation_fraction
        if not 0 < share < 1:
            raise ValueError(f"validation_fraction={share!r}: expected a number between 0 and 1.")
        counts = np.bincount(label[usable], minlength=len(self.classes_))
        quotas = allot(dict(enumerate(counts.tolist())), {"train": 1 - share, "validation": share})
        random = np.random.default_rng(seed)
        mask = np.zeros(len(label), bool)
        for k, quota in quotas.items():
            if counts[k] > 1:
                mask[random.permutation(np.flatnonzero((label == k) & usable))[: quota["validation"]]] = True
        return mask

    def _completed(self, rows: FeatureRows) -> dict[str, np.ndarray]:
        with threadpool_limits(1):
            return completion.complete(rows.modalities, self.completer_)

    def _dataset(self, rows: FeatureRows, label: np.ndarray) -> Dataset:
        return Dataset(self._completed(rows), rows.observed, label)


def _seed(random_state: Any) -> int:
    is_seed = isinstance(random_state, int | np.integer)
    return int(random_state if is_seed else check_random_state(random_state).randint(2**31 - 1))


@contextmanager
def _value_errors() -> Iterator[None]:
    """Raise ValueError, as scikit-learn does, for rows that cannot be used."""
    try:
        yield
    except UserError as error:
        raise ValueError(str(error)) from error


def _named(X: Any) -> dict[str, Any]:
    """Return the modalities of a mapping, or of a table's columns of vectors; empty for everything else."""
    if isinstance(X, Mapping) and not hasattr(X, "toarray"):  # a sparse array may be a mapping, too
        if not X:
            raise ValueError("Found an empty mapping; expected at least one array (N, D) by its name.")
        return {str(name): block for name, block in X.items()}
    if isinstance(X, pa.Table):
        return {
            field.name: to_vectors(X.column(field.name))
            for field in X.schema
            if pa.types.is_fixed_size_list(field.type) and pa.types.is_floating(field.type.value_type)
        }
    if not hasattr(X, "iloc") or not hasattr(X, "columns"):
        return {}
    columns = {str(name): list(X[name]) for name in X.columns if X[name].dtype == object}
    return {name: _stacked(cells) for name, cells in columns.items() if any(map(_is_vector, cells))}


def _is_vector(cell: Any) -> bool:
    return isinstance(cell, np.ndarray | list | tuple)


def _stacked(cells: list[Any]) -> np.ndarray:
    """Return a column of vectors as shape (N, D), NaN where a cell is none."""
    absent = np.full(len(next(filter(_is_vector, cells))), np.nan, np.float32)
    return np.stack([np.asarray(cell, np.float32) if _is_vector(cell) else absent for cell in cells])


def _matrix(name: str, block: Any) -> np.ndarray:
    found = np.asarray(block)
    if found.ndim != 2 or not (np.issubdtype(found.dtype, np.number) or found.dtype == bool):
        raise ValueError(f"{name!r} has shape {found.shape} and type {found.dtype}; expected numbers of shape (N, D).")
    return found.astype(np.float32)
