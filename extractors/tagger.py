"""Acoustic features whose dimensions are sound classes: the AudioSet tagger Cnn14_16k of PANNs.

Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", IEEE/ACM TASLP 2020:
a VGG-like network on 64 mel bands. Its published weights, `Cnn14_16k_mAP=0.438.pth`, fit, and so does any file of the
same layout with other widths or other classes. A clip is tagged in steps of 0.96 s.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from nmcl.extractors.frame_network import chosen_device
from nmcl.extractors.network import Run, in_batches, require_device
from nmcl.extractors.weights import read_weights, sha256_of
from nmcl.pipeline.addressing import Unhashed
from nmcl.pipeline.errors import SettingsError, WeightsError
from nmcl.pipeline.extractor import Extracted
from nmcl.pipeline.needs import Sound
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, Modality, State

CODE_VERSION = 1
"""Version of the code, part of the address; raise it when the same sound gives a different vector."""
RATE_HZ = 16_000
STEP = 15_360
"""Samples of one step, 0.96 s."""
N_FFT, HOP = 512, 160  # 32 ms, 10 ms
N_MELS = 64  # from 50 to 8000 Hz; the weights file holds the bands
POWER_FLOOR = 1e-10
N_BLOCKS = 6
STEPS_AT_A_TIME = 16
COMPUTED = "spectrogram_extractor."
"""Prefix of tensors in the published file that are a Fourier transform, which we compute otherwise."""


@dataclass(frozen=True)
class TaggerSettings:
    """Frozen settings of the sound tagger."""

    weights: Annotated[str, Unhashed()] = ""
    """A .pth or .safetensors file of the network, such as the published `Cnn14_16k_mAP=0.438.pth`."""
    classes: Annotated[str, Unhashed()] = ""
    """Names of its classes: AudioSet's `class_labels_indices.csv`, with a column `display_name`, or one name a line."""
    sequence: Annotated[bool, Unhashed()] = False
    """Whether the probabilities of each 0.96 s are stored too, besides their mean."""
    device: Annotated[str, Unhashed()] = "auto"
    """Device of the network. `auto`: a GPU if there is one; else a torch device name, such as `cpu` or `cuda:1`."""


class TaggerExtractor:
    """Extractor of the mean probability of each sound class."""

    modality: Modality = "acoustic"
    need = Sound(RATE_HZ)
    fit_videos = 0
    libraries = ("torch",)

    def __init__(self, settings: TaggerSettings) -> None:
        self.settings = settings

    @property
    def dim(self) -> int:
        return len(self.dimensions)

    @cached_property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the network's outputs.

        Raises:
            SettingsError: If their file cannot be used.
        """
        path = self.settings.classes
        try:
            lines = Path(path or "/").read_text(encoding="utf-8-sig").splitlines()
            rows = list(csv.DictReader(lines)) if lines and "display_name" in lines[0] else []
            names = [row["display_name"] for row in rows] or [line.strip() for line in lines if line.strip()]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise SettingsError(
                f"classes is {path!r}, which cannot be read ({error}). Expected the names of the tagger's classes: "
                "AudioSet's class_labels_indices.csv, or a text file with one name a line."
            ) from error
        if not names or not all(names) or len(set(names)) < len(names):
            raise SettingsError(f"{path} has {len(names)} class names, some empty or equal. Expected different names.")
        return tuple(names)

    def address(self) -> dict[str, object]:
        """See `Extractor.address`; reads the weights' bytes once to know their digest."""
        return {
            "name": "tagger",
            "weights": sha256_of(self._file),
            "dimensions": list(self.dimensions),
            "code_version": CODE_VERSION,
        }

    def check(self) -> None:
        """Raise UserError if the device, the weights or the names of the classes cannot be used."""
        require_device(self.device)
        self.network()

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """Return an empty state: the network is pretrained."""
        return State()

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray | Extracted:
        """See `Extractor.extract`; shape (len(clips), n_classes), float32, 0..1.

        The remainder after the last whole step is left out; a clip shorter than one step is padded with silence.
        """
        vectors = np.full((len(clips), self.dim), np.nan, dtype=np.float32)
        sequences: list[np.ndarray | None] = [None] * len(clips)
        sounds = {i: steps_of(clip.waveform) for i, clip in enumerate(clips) if clip.waveform is not None}
        if sounds:
            found = self._run(np.concatenate([*sounds.values()]))
            ends = np.cumsum([len(steps) for steps in sounds.values()])
            for i, rows in zip(sounds, np.split(found, ends[:-1]), strict=True):
                vectors[i], sequences[i] = rows.mean(axis=0), rows
        if not self.settings.sequence:
            return vectors
        times_s = [tuple(t * STEP / RATE_HZ for t in range(0 if s is None else len(s))) for s in sequences]
        return Extracted(vectors, sequences, times_s)

    def network(self) -> "Tagger":
        """Return the network with its weights, on the CPU.

        Raises:
            WeightsError: If the file is not one of this network, or has other classes.
        """
        tensors = {k: t for k, t in read_weights(self._file).items() if not k.startswith(COMPUTED)}
        try:
            network = Tagger.of(tensors)
            network.load_state_dict(tensors)
        except (KeyError, ValueError, RuntimeError) as error:
            raise WeightsError(
                f"{self._file} does not fit the tagger ({' '.join(str(error).split())[:300]}). Expected the tensors of "
                "the network Cnn14_16k of PANNs."
            ) from error
        n_classes = network.fc_audioset.out_features
        if n_classes != self.dim:
            raise WeightsError(f"{self._file} has {n_classes} classes, but {self.settings.classes} {self.dim} names.")
        return network.eval()

    @property
    def device(self) -> str:
        return chosen_device(self.settings.device)

    @property
    def _file(self) -> Path:
        if not self.settings.weights:
            raise WeightsError(
                "The extractor tagger needs a weights file, such as the published Cnn14_16k_mAP=0.438.pth of PANNs: "
                "--set features.NAME.weights=/path/to/file.pth"
            )
        return Path(self.settings.weights)

    @cached_property
    def _run(self) -> Run:
        network, device = self.network().to(self.device), self.device

        @torch.inference_mode()
        def run(steps: np.ndarray) -> np.ndarray:
            found: np.ndarray = network(torch.from_numpy(steps).to(device)).float().cpu().numpy()
            return found

        return in_batches(run, STEPS_AT_A_TIME)


def steps_of(waveform: np.ndarray) -> np.ndarray:
    """Return the whole steps of a sound, at least one: shape (n_steps, STEP), int16."""
    n_steps = max(1, len(waveform) // STEP)
    whole = waveform[: n_steps * STEP]
    return np.pad(whole, (0, n_steps * STEP - len(whole))).reshape(n_steps, STEP)


class Tagger(nn.Module):
    """Cnn14_16k: blocks of two convolutions, then the mean over bands, and mean plus maximum over time.

    Args:
        widths: Channels of each block; the published network has 64, 128, 256, 512, 1024 and 2048.
        hidden: Units of the layer before the classifier.
        n_classes: Number of classes.
    """

    def __init__(self, widths: Sequence[int], hidden: int, n_classes: int) -> None:
        super().__init__()
        self.logmel_extractor = _LogMel()
        self.bn0 = nn.BatchNorm2d(N_MELS)
        for i, (before, width) in enumerate(zip((1, *widths), widths, strict=False), start=1):
            self.add_module(f"conv_block{i}", _Block(before, width))
        self.fc1 = nn.Linear(widths[-1], hidden)
        self.fc_audioset = nn.Linear(hidden, n_classes)

    @classmethod
    def of(cls, tensors: dict[str, torch.Tensor]) -> "Tagger":
        """Return a network of the widths that the tensors of a file have. Raises KeyError if one is missing."""
        widths = [len(tensors[f"conv_block{i}.conv1.weight"]) for i in range(1, N_BLOCKS + 1)]
        n_classes, hidden = tensors["fc_audioset.weight"].shape
        return cls(widths, hidden, n_classes)

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Return the probability of each class, shape (n, n_classes).

        Args:
            steps: Sound, shape (n, n_samples), int16, at 16 kHz.
        """
        x = self.logmel_extractor(steps.float() / 32768)
        x = self.bn0(x[:, :, None])[:, :, 0].transpose(1, 2)[:, None]  # (n, 1, time, bands)
        for i in range(1, N_BLOCKS + 1):
            x = self.get_submodule(f"conv_block{i}")(x)
            x = functional.avg_pool2d(x, 2) if i < N_BLOCKS else x
        x = x.mean(dim=3)
        x = functional.relu(self.fc1(x.amax(dim=2) + x.mean(dim=2)))
        return torch.sigmoid(self.fc_audioset(x))


class _LogMel(nn.Module):
    """Log-mel spectrogram in dB: Hann window of 32 ms every 10 ms, mirrored at the ends, bands of the weights file."""

    def __init__(self) -> None:
        super().__init__()
        self.melW: torch.Tensor
        self.window: torch.Tensor
        self.register_buffer("melW", torch.zeros(N_FFT // 2 + 1, N_MELS))
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        """Return levels of shape (n, N_MELS, 1 + n_samples // HOP), from sound of shape (n, n_samples), -1..1."""
        stft = torch.stft(sound, N_FFT, HOP, window=self.window, pad_mode="reflect", return_complex=True)
        power = (stft.real**2 + stft.imag**2).transpose(1, 2) @ self.melW
        return 10 * power.clamp(min=POWER_FLOOR).log10().transpose(1, 2)


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(n_out), nn.BatchNorm2d(n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)))
