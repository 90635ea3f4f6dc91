"""The training loop shared by all models trained by gradient descent."""

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from nmcl.model.base import Classifier, Epoch, Features, Mask, Output, Scores
from nmcl.model.batches import Batches, tensors
from nmcl.model.data import Dataset
from nmcl.model.evaluate import f1
from nmcl.model.step import RecordedStep, Step
from nmcl.pipeline.addressing import Reference, Unhashed
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.progress import Progress

MatmulPrecision = Literal["highest", "high", "medium"]

DECIDE_ROWS = 1024
"""Rows per batch in inference."""
DIAGNOSED_ROWS = 4096
"""Number of validation rows, the first ones, used for a model's diagnostics."""


@dataclass(frozen=True)
class TrainSettings:
    """Frozen training settings. Xavier initialisation and Adam are the paper's; fields document our own choices."""

    learning_rate: Annotated[float, Gt(0), Le(1), Reference(2e-3)] = 2e-3
    """Initial learning rate of AdamW."""
    batch_size: Annotated[int, Ge(1), Reference(256)] = 256
    """Batch size."""
    min_steps: Annotated[int, Ge(1), Reference(4)] = 4
    """Number of batches per epoch on small data sets: batches are smaller, or an epoch would be one step."""
    even_batches: Annotated[bool, Reference(False)] = True
    """Whether these batches are of equal size. `false` rounds their size down, as earlier versions did: a rest of a few
    videos is a step with noisy batch moments, and cost 0.8 points of macro-F1 on 235 handwritten digits."""
    weight_decay: Annotated[float, Ge(0), Reference(5.0)] = 5.0
    """Weight decay, decoupled from the gradient (AdamW), on weight matrices only."""
    gradient_clip: Annotated[float, Gt(0), Reference(5.0)] = 5.0
    """Largest norm of the gradient of one step."""
    max_epochs: Annotated[int, Ge(1), Reference(60)] = 60
    """Maximum number of epochs."""
    patience: Annotated[int, Ge(1), Reference(20)] = 20
    """Epochs without a better validation macro-F1 before training stops."""
    window: Annotated[int, Ge(1), Reference(5)] = 5
    """Number of epochs whose mean validation macro-F1 scores an epoch: a single epoch on few rows is mostly noise."""
    schedule: Annotated[Literal["constant", "cosine"], Reference("cosine")] = "cosine"
    """`cosine` decays from the learning rate to zero over `max_epochs`; `constant` keeps it."""
    device: Annotated[Literal["auto", "cpu", "cuda"], Unhashed()] = "auto"
    """`auto` (CUDA if available), `cpu` or `cuda`."""
    matmul: Annotated[MatmulPrecision, Reference("highest")] = "highest"
    """Precision of matrix products in training, in torch's terms: `high` multiplies in TF32 and `medium` in bfloat16,
    each where the hardware supports it (on a GPU, in the products of the full memory); sums, weights and predictions
    stay float32. `medium` makes a step with the full memory at least 40 % shorter."""


class Network(Classifier):
    """Base class of models trained by `train_network`; subclasses provide `forward`, `loss` and `training_settings`."""

    training_settings: TrainSettings
    best_epoch: int = 0
    """Number of the epoch whose weights `fit` kept."""
    starts_warm: bool = False
    """Whether the initial weights are those of a trained model."""
    recordable: ClassVar[bool] = False
    """Whether a step runs the same operations for any batch, all on the device; see `RecordedStep`."""

    @abstractmethod
    def loss(self, features: Features, observed: Mask, label: Tensor) -> Tensor:
        """Return the mean loss of a batch in training mode, a scalar; `label` has shape (N,), int64."""

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        return train_network(self, self.training_settings, train, validation, progress)


def pick_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device of a setting.

    Raises:
        ModelError: CUDA was requested and is not available.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError("no CUDA device was found; set device to 'auto' or 'cpu'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def multiplying(precision: MatmulPrecision) -> Iterator[None]:
    """Set the precision of float32 matrix products within the block; see `torch.set_float32_matmul_precision`."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def train_network(
    network: Network, settings: TrainSettings, train: Dataset, validation: Dataset, progress: Progress
) -> tuple[Epoch, ...]:
    """Train in place and restore the weights of the best epoch, on the CPU.

    The best epoch has the highest mean validation macro-F1 over the last `window` epochs, and among equals the lowest
    validation loss: with few validation rows many epochs tie. The same seed, machine and number of threads give the
    same bytes.

    Raises:
        ModelError: the loss is not finite, or the device is not available.
    """
    device = pick_device(settings.device)
    network.to(device)
    size = _batch_size(settings, len(train))
    step = _step(network, settings, size)
    batches = Batches(train, device)
    history: list[Epoch] = []
    best = _Best(settings.patience, settings.window)
    for number in range(1, settings.max_epochs + 1):
        loss = _train_one(network, settings, step, batches, size, number)
        epoch = _validate(network, validation, number, loss)
        history.append(epoch)
        progress("train", number, settings.max_epochs, f"validation macro-F1 {epoch.validation.macro_f1:.3f}")
        if best.stop_after(epoch, network):
            break
    network.best_epoch = best.number
    network.load_state_dict(best.weights)
    network.cpu().eval()
    return tuple(history)


def train_epochs(network: Network, settings: TrainSettings, rows: Dataset, n_epochs: int, progress: Progress) -> None:
    """Train in place for a number of epochs that is known to be good, without validation rows, on the CPU in the end.

    The learning rate falls as in `train_network`.

    Raises:
        ModelError: the loss is not finite, or the device is not available.
    """
    device = pick_device(settings.device)
    network.to(device)
    size = _batch_size(settings, len(rows))
    step, batches = _step(network, settings, size), Batches(rows, device)
    for number in range(1, n_epochs + 1):
        _train_one(network, settings, step, batches, size, number)
        progress("train", number, n_epochs, "")
    network.cpu().eval()


def _train_one(
    network: Network, settings: TrainSettings, step: Step, batches: Batches, size: int, number: int
) -> float:
    """Train one epoch and return its mean loss."""
    _set_rate(step.optimizer, settings, number)
    network.train()
    with multiplying(settings.matmul):
        loss = _train_epoch(step, batches, size)
    if not math.isfinite(loss):
        raise ModelError(f"the training loss is {loss} in epoch {number}; lower the learning rate")
    return loss


def _batch_size(settings: TrainSettings, n_rows: int) -> int:
    """Return the size of all batches but the last."""
    size = math.ceil(n_rows / settings.min_steps) if settings.even_batches else n_rows // settings.min_steps
    return max(1, min(settings.batch_size, size))


class _Best:
    """The weights of the best epoch so far."""

    def __init__(self, patience: int, window: int) -> None:
        self.patience = patience
        self.window = window
        self.recent: deque[float] = deque(maxlen=window)
        self.score = (-math.inf, -math.inf)
        self.number = 0
        self.weights: dict[str, Tensor] = {}

    def stop_after(self, epoch: Epoch, network: nn.Module) -> bool:
        self.recent.append(epoch.validation.macro_f1)
        # Missing epochs of the first window count as zero, so that one lucky epoch does not win.
        score = (sum(self.recent) / self.window, -epoch.validation_loss)
        if score > self.score:
            self.score, self.number = score, epoch.number
            self.weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        return epoch.number - self.number >= self.patience


def _step(network: Network, settings: TrainSettings, size: int) -> Step:
    """Create a training step for batches of `size` rows."""
    optimizer = _optimizer(network, settings)
    step = Step(network.loss, list(network.parameters()), optimizer, settings.gradient_clip)
    return RecordedStep(step, size) if network.recordable and _device_of(network).type == "cuda" else step


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _optimizer(network: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    matrices = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    device = _device_of(network)
    if device.type == "cpu":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
    # A number would be recorded as a constant; a tensor on the device is read by each replay.
    rate = torch.tensor(settings.learning_rate, device=device)
    return torch.optim.AdamW(groups, lr=rate, fused=True, capturable=True)


def _set_rate(optimizer: torch.optim.Optimizer, settings: TrainSettings, number: int) -> None:
    done = (number - 1) / settings.max_epochs
    share = 0.5 * (1 + math.cos(math.pi * done)) if settings.schedule == "cosine" else 1.0
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(settings.learning_rate * share)
        else:
            group["lr"] = settings.learning_rate * share


def _train_epoch(step: Step, batches: Batches, size: int) -> float:
    """Run one epoch over the training rows in random order and return the mean loss."""
    order = torch.randperm(len(batches)).numpy()
    total = torch.zeros((), device=batches.device)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        total += step(*batches[rows]) * len(rows)
    return float(total) / len(order)


def predict_batches(network: Classifier, rows: FeatureRows, device: torch.device) -> Iterator[Output]:
    """Yield the network's outputs on standardised rows by batch, in evaluation mode and without gradients."""
    network.eval()
    with torch.inference_mode():
        for start in range(0, len(rows), DECIDE_ROWS):
            yield network(*tensors(rows, slice(start, start + DECIDE_ROWS), device, network.reads_terms))


def _validate(network: Classifier, validation: Dataset, number: int, loss: float) -> Epoch:
    device = _device_of(network)
    outputs = list(predict_batches(network, validation, device))
    log_probability = torch.cat([output.log_probability for output in outputs]).cpu()
    label = torch.from_numpy(validation.label)
    nats = -log_probability.gather(1, label[:, None]).mean()
    per_modality = {
        name: _scores(validation.label, torch.cat([output.per_modality[name] for output in outputs]))
        for name in outputs[0].per_modality
    }
    scores = _scores(validation.label, log_probability)
    return Epoch(number, loss, float(nats), scores, per_modality, diagnosed(network, validation, device))


def diagnosed(network: Classifier, rows: FeatureRows, device: torch.device) -> dict[str, Any]:
    """Return the network's diagnostics on the first `DIAGNOSED_ROWS` standardised rows."""
    network.eval()
    with torch.inference_mode():
        return network.diagnose(*tensors(rows, slice(DIAGNOSED_ROWS), device, network.reads_terms))


def _scores(label: np.ndarray, log_probability: Tensor) -> Scores:
    predicted = log_probability.argmax(dim=1).cpu().numpy()
    micro, macro = f1(label, predicted)
    return Scores(micro, macro, float(np.bincount(predicted).max() / len(predicted)))
