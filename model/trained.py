"""Train a model on labelled features, and predict with a trained model."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nmcl.model.base import Classifier, Epoch, Shape
from nmcl.model.data import Dataset, Standardizer, checked
from nmcl.model.nmcl.stacking import StackedSettings
from nmcl.model.registry import method
from nmcl.model.train import Network, diagnosed, pick_device, predict_batches
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.progress import Progress, silent

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_torch_generator_turn = threading.Lock()


@dataclass(frozen=True)
class Prediction:
    """Predicted class probabilities of N rows."""

    probability: np.ndarray
    """Shape (N, K), float32, rows sum to 1."""
    per_modality: dict[str, np.ndarray]
    """Probabilities by modality branch, shape (N, K); empty for a model without branches."""


@dataclass(frozen=True)
class Trained:
    """A trained model with everything that its predictions depend on."""

    name: str
    """Name in the registry."""
    settings: Any
    """Settings, the frozen dataclass of that model."""
    classes: tuple[str, ...]
    """Name of each class, in the order of probability columns."""
    seed: int
    standardizer: Standardizer
    network: Classifier
    history: tuple[Epoch, ...]
    """One entry per epoch; empty for closed-form models."""
    diagnostics: dict[str, Any]
    """Diagnostics of the model on validation rows, JSON values."""
    n_terms: dict[str, int] = field(default_factory=dict)
    """T_m by the name of each feature set with sparse term weights."""
    held_out: np.ndarray | None = None
    """Probabilities of the validation rows by models that were not fitted to them, shape (N, K), float32; None if the
    model itself was not fitted to them."""

    @property
    def dims(self) -> dict[str, int]:
        """The dimension D_m of each modality."""
        return {name: len(mean) for name, mean in self.standardizer.mean.items()}

    def _checked_terms(self, terms: Mapping[str, "csr_array"], n_rows: int) -> Mapping[str, "csr_array"]:
        """Return the terms that the model knows; a feature set that is left out has none in any row."""
        from scipy.sparse import csr_array

        known = {name: terms.get(name, csr_array((n_rows, n), dtype=np.float32)) for name, n in self.n_terms.items()}
        found = {name: matrix.shape[1] for name, matrix in known.items()}
        if found != self.n_terms:
            raise ModelError(f"found terms {found}, expected {self.n_terms}; extract with the model's own settings")
        return known

    def predict(
        self,
        modalities: Mapping[str, np.ndarray],
        observed: Mapping[str, np.ndarray] | None = None,
        terms: Mapping[str, "csr_array"] | None = None,
    ) -> Prediction:
        """Predict N rows.

        Args:
            modalities: the modalities it was trained on, shape (N, D_m), float32, as extracted and completed.
            observed: which rows were extracted, shape (N,), bool; None for all.
            terms: sparse term weights of the feature sets that had any in training, shape (N, T_m); None for none.

        Raises:
            ModelError: the modalities or dimensions differ from training, or values are not finite.
        """
        arrays, masks = checked(modalities, observed)
        rows = FeatureRows(
            self.standardizer.apply(arrays),
            masks,
            terms=self._checked_terms(terms or {}, len(next(iter(arrays.values())))),
        )
        train = getattr(self.settings, "train", None)  # closed forms have none
        device = pick_device("cpu" if train is not None and train.device == "cpu" else "auto")
        outputs = list(predict_batches(self.network.to(device), rows, device))
        names = list(outputs[0].per_modality) if outputs else []
        return Prediction(
            _probability([output.log_probability for output in outputs], len(self.classes)),
            {name: _probability([o.per_modality[name] for o in outputs], len(self.classes)) for name in names},
        )


def fit(
    name: str,
    train: Dataset,
    validation: Dataset,
    classes: tuple[str, ...],
    settings: Any = None,
    seed: int = 0,
    progress: Progress = silent,
    start: "Trained | None" = None,
) -> Trained:
    """Train a model of the registry on training rows; validation rows choose among epochs and penalties.

    A stack with folds is fitted to the validation rows, too, once these choices are made.

    Args:
        name: name in the registry.
        train: training rows.
        validation: validation rows.
        classes: name of each class.
        settings: the model's own settings dataclass; None for its defaults.
        seed: the same seed, machine and number of threads give the same bytes.
        progress: progress callback.
        start: a model on the same features, whose standardisation is used and whose gradient-trained weights are the
            initial ones; None trains from scratch. If its classes differ, weights that depend on the classes are
            initialised again.

    Raises:
        ModelError: the model is unknown, there are no rows, labels are outside the classes, splits have different
            modalities, settings are those of another model, the loss is not finite, or `start` does not fit.
    """
    entry = method(name)
    chosen = entry.settings if settings is None else settings
    if type(chosen) is not type(entry.settings):
        raise ModelError(f"{name} takes {type(entry.settings).__name__}, found {type(chosen).__name__}")
    _check_splits(train, validation, classes)
    if start is not None and (start.name, start.dims) != (name, train.dims):
        raise ModelError(
            f"found {start.name} on {start.dims} to start from, expected {name} on {train.dims}; train from scratch"
        )
    standardizer = start.standardizer if start else Standardizer.fit(train)
    seen, choosing = standardizer.standardized(train), standardizer.standardized(validation)
    with _seeded(seed):
        shape = Shape(train.dims, classes, train.n_terms)
        network = entry.build(shape, chosen)
        if start is not None and isinstance(network, Network):
            _adopt(network, start, shape)
        history = network.fit(seen, choosing, seed, progress)
    network.cpu().eval()
    diagnostics = diagnosed(network, choosing, torch.device("cpu"))
    held_out = None if network.held_out is None else _probability([network.held_out], len(classes))
    return Trained(name, chosen, classes, seed, standardizer, network, history, diagnostics, train.n_terms, held_out)


def fit_alone(
    name: str,
    train: Dataset,
    validation: Dataset,
    classes: tuple[str, ...],
    settings: Any = None,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Trained]:
    """Train the same model on each single modality (the paper's Table 3); return the models by modality.

    A stack is weighted on the validation rows alone: cross-validation would take most of the time of a run.
    """
    if isinstance(settings, StackedSettings):
        settings = replace(settings, folds=0)
    return {
        modality: fit(name, train.only([modality]), validation.only([modality]), classes, settings, seed, progress)
        for modality in (train.terms if method(name).needs_terms else train.modalities)
    }


def can_start_warm(name: str) -> bool:
    """Return whether training can start from the weights of another model of that name; closed forms cannot."""
    entry = method(name)
    with torch.device("meta"):
        return isinstance(entry.build(Shape({"any": 1, "other": 1}, ("a", "b")), entry.settings), Network)


def _adopt(network: Network, start: Trained, shape: Shape) -> None:
    """Load the weights of `start`; if its classes differ, only those whose shape does not depend on the classes.

    Raises:
        ModelError: `start` has other settings.
    """
    trainable = _gradient_state(network)
    weights = {name: value for name, value in start.network.state_dict().items() if name in trainable}
    own = {name: value.shape for name, value in network.state_dict().items()}
    if start.classes != shape.classes:
        with torch.device("meta"):
            wider_shape = Shape(shape.dims, (*shape.classes, ""), shape.n_terms)
            wider = method(start.name).build(wider_shape, start.settings).state_dict()
        weights = {name: value for name, value in weights.items() if name in wider and own[name] == wider[name].shape}
    if any(own[name] != value.shape for name, value in weights.items()):
        raise ModelError(f"the {start.name} to start from has other settings; train from scratch")
    network.load_state_dict(weights, strict=False)
    network.starts_warm = True


def _gradient_state(network: Classifier) -> set[str]:
    """Return the names of parameters and of running statistics in the same modules, but no buffers of closed forms."""
    return {
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        if next(module.parameters(recurse=False), None) is not None
        for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    }


def _check_splits(train: Dataset, validation: Dataset, classes: tuple[str, ...]) -> None:
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise ModelError(f"found {len(classes)} classes, expected at least two with different names")
    if train.dims != validation.dims:
        raise ModelError(f"training rows have modalities {train.dims}, validation rows {validation.dims}")
    for split, rows in (("training", train), ("validation", validation)):
        if len(rows) == 0:
            raise ModelError(f"there are no {split} rows; label more videos or change the split")
        if rows.label.min() < 0 or rows.label.max() >= len(classes):
            found = f"{rows.label.min()} to {rows.label.max()}"
            raise ModelError(f"{split} labels run from {found}, expected 0 to {len(classes) - 1}")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators and restore them afterwards, one fit at a time, as the generators are shared."""
    with _torch_generator_turn, torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _probability(parts: list[torch.Tensor], n_classes: int) -> np.ndarray:
    """Return probabilities, shape (N, K), float32, normalised in float64 so that rows sum to 1 up to rounding."""
    if not parts:
        return np.zeros((0, n_classes), np.float32)
    probability = torch.softmax(torch.cat(parts).cpu().double(), dim=1)
    return np.asarray(probability.float().numpy())
