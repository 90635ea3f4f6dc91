"""Stacked denoising autoencoder that maps the 513 values of a sound frame to 200.

Vincent et al., "Stacked Denoising Autoencoders", JMLR 11 (2010): each layer is trained to reconstruct the clean output
of the layer below from a corrupted one. The layers are then unrolled into one network, encoder and decoder, and
fine-tuned together on the reconstruction of the frame. Codes are sigmoids, weights untied, the corruption Gaussian. The
first layer reconstructs real numbers: linear decoder, squared error. Codes above it are in 0..1: cross-entropy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Interval, MinLen
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear, mse_loss

from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import State
from nmcl.pipeline.storage.state_checks import checking_state, require_array

CODE_VERSION = 1
"""Version of the code, part of the address; raise it when the same settings give different codes."""

CLIP_DEVIATIONS = 4.0
"""Standardised inputs are clipped to this: digital silence in a loud crawl is further out than any training input."""

CHUNK_FRAMES = 128
"""Frames per matrix product in `encode`. The number is fixed, with padding, because other shapes may round differently.
Always on the CPU, where torch gave the same bits with any number of threads (NumPy's BLAS did not)."""

Layers = tuple[tuple[np.ndarray, np.ndarray], ...]
"""Weight, shape (n_out, n_in), and bias, shape (n_out,), of each layer in order of use, float32."""


@dataclass(frozen=True)
class AutoencoderSettings:
    """Frozen settings of the autoencoder's architecture and training."""

    layers: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1), Reference((500, 400, 300, 200))] = (
        500,
        400,
        300,
        200,
    )
    """Widths of the hidden layers, the code last: the paper's, section 4.2.2."""
    corruption: Annotated[float, Interval(ge=0, le=2), Reference(0.3)] = 0.3
    """Standard deviation of the noise, relative to that of its input. 0.1 classified venues equally well, 0.8 ten
    points worse; masking a third of the inputs instead was three points worse."""
    epochs: Annotated[int, Ge(0), Reference(2)] = 2
    """Epochs of pre-training per layer."""
    fine_tune_epochs: Annotated[int, Ge(0), Reference(5)] = 5
    """Epochs of fine-tuning of the unrolled network."""
    min_steps: Annotated[int, Ge(0), Reference(1000)] = 1000
    """Minimum steps of the unrolled network, and a quarter as many for each layer; small training sets are repeated to
    reach it. Codes tuned for 480 steps classified venues 5 points worse than for 1200, and 2400 were no better."""
    batch_size: Annotated[int, Ge(1), Reference(256)] = 256
    """Batch size."""
    learning_rate: Annotated[float, Gt(0), Reference(2e-3)] = 2e-3
    """Adam's learning rate at the peak of a one-cycle schedule."""
    seed: Annotated[int, Ge(0), Reference(0)] = 0
    """Seed of initialisation and noise."""


@dataclass(frozen=True)
class Autoencoder:
    """Trained autoencoder with n_bins inputs and n_code outputs."""

    mean: np.ndarray
    """Mean of each input over the training frames, shape (n_bins,), float32."""
    deviation: np.ndarray
    """Standard deviation of each input over the training frames, shape (n_bins,), float32, positive."""
    encoder: Layers
    """Layers from the input to the code."""
    decoder: Layers
    """Layers from the code back to the input."""

    def scale(self, frames: np.ndarray) -> np.ndarray:
        """Return frames standardised by bin and clipped, the network's input: shape (n_frames, n_bins), float32."""
        scaled: np.ndarray = np.clip((frames - self.mean) / self.deviation, -CLIP_DEVIATIONS, CLIP_DEVIATIONS)
        return scaled

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """Return the codes of frames, shape (n_frames, n_code), float32, 0..1; each depends on its own row alone.

        Args:
            frames: Unscaled frames, shape (n_frames, n_bins), float32.
        """
        layers = _tensors(self.encoder)
        codes = np.empty((len(frames), len(self.encoder[-1][1])), dtype=np.float32)
        chunk = np.zeros((CHUNK_FRAMES, len(self.mean)), dtype=np.float32)
        for start in range(0, len(frames), CHUNK_FRAMES):
            part = self.scale(frames[start : start + CHUNK_FRAMES])
            chunk[: len(part)] = part
            codes[start : start + len(part)] = _forward(torch.from_numpy(chunk), layers).numpy()[: len(part)]
        return codes

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Reconstruct scaled frames, shape (n_frames, n_bins), float32, from codes (n_frames, n_code)."""
        *hidden, (weight, bias) = _tensors(self.decoder)
        restored: np.ndarray = linear(_forward(torch.tensor(codes), hidden), weight, bias).numpy()
        return restored

    def relative_error(self, frames: np.ndarray) -> float | None:
        """Return the squared reconstruction error over that of the training mean: 0 is perfect, 1 no better.

        None where undefined: no frames, or frames that equal the mean.
        """
        target = self.scale(frames)
        unexplained = float(np.square(target, dtype=np.float64).sum())  # the training mean is 0 after scaling
        if not unexplained:
            return None
        return float(np.square(self.decode(self.encode(frames)) - target, dtype=np.float64).sum()) / unexplained

    def to_state(self, info: dict[str, Any]) -> State:
        """Return the autoencoder as a state of named arrays, with `info` about the training."""
        arrays = {"mean": self.mean, "deviation": self.deviation}
        for name, layers in (("encoder", self.encoder), ("decoder", self.decoder)):
            for i, (weight, bias) in enumerate(layers):
                arrays |= {f"{name}.{i}.weight": weight, f"{name}.{i}.bias": bias}
        return State(arrays=arrays, info=info)

    @classmethod
    def from_state(cls, state: State) -> "Autoencoder":
        """Restore an autoencoder from `to_state`; raise StoreError if the state is not one of an autoencoder."""

        def layers(name: str, n_in: int) -> Layers:
            found = []
            for i in range(sum(key.startswith(f"{name}.") for key in state.arrays) // 2):
                weight = require_array(state, f"{name}.{i}.weight", (None, n_in))
                n_in = len(weight)
                found.append((weight, require_array(state, f"{name}.{i}.bias", (n_in,))))
            if not found:
                raise ValueError(f"{name}.0.weight is missing")
            return tuple(found)

        with checking_state("acoustic"):
            mean = require_array(state, "mean", (None,))
            deviation = require_array(state, "deviation", (len(mean),))
            if not (deviation > 0).all():
                raise ValueError("deviation has values that are not above 0")
            encoder = layers("encoder", len(mean))
            return cls(mean, deviation, encoder, layers("decoder", len(encoder[-1][1])))


def _forward(x: torch.Tensor, layers: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    for weight, bias in layers:
        x = torch.sigmoid(linear(x, weight, bias))
    return x


def _tensors(layers: Layers) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.tensor(weight), torch.tensor(bias)) for weight, bias in layers]


def train_autoencoder(
    frames: np.ndarray, settings: AutoencoderSettings, progress: Progress = silent
) -> tuple[Autoencoder, dict[str, Any]]:
    """Pre-train layer by layer, then fine-tune the unrolled network, on a GPU if there is one.

    Deterministic for the same settings, machine and number of threads.

    Args:
        frames: Training frames, shape (n_frames, n_bins), float32; n_frames >= 1.

    Returns:
        The autoencoder and its training curve as JSON values: `layers`, the mean loss of each epoch for each layer, and
        `fine_tune`, the mean loss of each epoch.
    """
    mean = frames.mean(axis=0, dtype=np.float64).astype(np.float32)
    # A thousandth of the unit (here dB) avoids division by zero in bins that never change.
    deviation = (frames.std(axis=0, dtype=np.float64) + 1e-3).astype(np.float32)
    untrained = Autoencoder(mean, deviation, (), ())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = _Trainer(settings, device, len(frames), progress)
    encoder, decoder, curves = trainer.run(torch.from_numpy(untrained.scale(frames)).to(device))
    return Autoencoder(mean, deviation, _to_numpy(encoder), _to_numpy(decoder)), curves


def _to_numpy(layers: list[nn.Linear]) -> Layers:
    return tuple((x.weight.detach().cpu().numpy().copy(), x.bias.detach().cpu().numpy().copy()) for x in layers)


class _Trainer:
    """State of one training run: its generators, schedule and progress."""

    def __init__(self, settings: AutoencoderSettings, device: torch.device, n_frames: int, progress: Progress) -> None:
        self.settings = settings
        self.device = device
        self.progress = progress
        self.order = torch.Generator().manual_seed(settings.seed)
        self.noise = torch.Generator(device).manual_seed(settings.seed)
        self.steps_per_epoch = -(-n_frames // settings.batch_size)
        self.pre_epochs = self._n_epochs(settings.epochs, settings.min_steps // 4)
        self.tune_epochs = self._n_epochs(settings.fine_tune_epochs, settings.min_steps)
        self.done = 0
        self.total = self.pre_epochs * len(settings.layers) + self.tune_epochs

    def _n_epochs(self, asked: int, min_steps: int) -> int:
        return max(asked, -(-min_steps // self.steps_per_epoch)) if asked else 0

    def run(self, x: torch.Tensor) -> tuple[list[nn.Linear], list[nn.Linear], dict[str, Any]]:
        """Train on scaled frames (n_frames, n_bins) and return encoder and decoder layers, both in order of use."""
        encoder: list[nn.Linear] = []
        decoder: list[nn.Linear] = []
        curves: list[list[float]] = []
        below = x
        for i, (n_in, n_out) in enumerate(pairwise((x.shape[1], *self.settings.layers))):
            down, up = self._linear(n_in, n_out), self._linear(n_out, n_in)
            curves.append(self._pre_train(below, down, up, is_first=i == 0))
            with torch.no_grad():
                below = torch.sigmoid(down(below))
            encoder.append(down)
            decoder.insert(0, up)

        def loss(rows: torch.Tensor) -> torch.Tensor:
            clean = x[rows]
            y = self._corrupt(clean)
            for layer in [*encoder, *decoder[:-1]]:
                y = torch.sigmoid(layer(y))
            return mse_loss(decoder[-1](y), clean, reduction="sum") / len(rows)

        tuned = self._minimise(loss, [*encoder, *decoder], len(x), self.tune_epochs, "tuning all layers")
        return encoder, decoder, {"layers": curves, "fine_tune": tuned}

    def _pre_train(self, x: torch.Tensor, down: nn.Linear, up: nn.Linear, is_first: bool) -> list[float]:
        restore = mse_loss if is_first else binary_cross_entropy_with_logits
        spread = 1.0 if is_first else float(x.std(dim=0, correction=0).mean())

        def loss(rows: torch.Tensor) -> torch.Tensor:
            clean = x[rows]
            restored = up(torch.sigmoid(down(self._corrupt(clean, spread))))
            return restore(restored, clean, reduction="sum") / len(rows)

        note = f"layer of {down.out_features}"
        return self._minimise(loss, [down, up], len(x), self.pre_epochs, note)

    def _corrupt(self, x: torch.Tensor, spread: float = 1.0) -> torch.Tensor:
        noise = torch.randn(x.shape, generator=self.noise, device=self.device)
        return x + (self.settings.corruption * spread) * noise

    def _linear(self, n_in: int, n_out: int) -> nn.Linear:
        # Skips nn.Linear's own initialisation, which would draw from the global generator.
        layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)  # type: ignore[no-untyped-call]
        # Four times Glorot's range, for sigmoids: Glorot and Bengio, AISTATS 2010.
        limit = 4.0 * (6.0 / (n_in + n_out)) ** 0.5
        nn.init.uniform_(layer.weight, -limit, limit, generator=self.order)
        nn.init.zeros_(layer.bias)
        return layer.to(self.device)

    def _minimise(
        self,
        loss: Callable[[torch.Tensor], torch.Tensor],
        layers: list[nn.Linear],
        n_frames: int,
        n_epochs: int,
        note: str,
    ) -> list[float]:
        """Minimise the loss with Adam on a one-cycle schedule; return the mean loss of each epoch."""
        if not n_epochs:
            return []
        parameters = [parameter for layer in layers for parameter in layer.parameters()]
        optimiser = torch.optim.Adam(parameters, lr=self.settings.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, self.settings.learning_rate, total_steps=n_epochs * self.steps_per_epoch + 1
        )
        curve = []
        for _ in range(n_epochs):
            total = 0.0
            order = torch.randperm(n_frames, generator=self.order).to(self.device)
            for rows in torch.split(order, self.settings.batch_size):
                optimiser.zero_grad()
                value = loss(rows)
                value.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
                total += value.item() * len(rows)
            curve.append(total / n_frames)
            self.done += 1
            self.progress("fit acoustic", self.done, self.total, note)
        return curve
