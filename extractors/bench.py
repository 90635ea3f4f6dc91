"""Extraction benchmark helpers: a plain reference of each extractor, and the operations any implementation needs."""

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nmcl.extractors.autoencoder import Autoencoder
from nmcl.extractors.preprocess import Preprocess
from nmcl.extractors.spectrogram import HOP, log_spectrogram
from nmcl.extractors.visual import VisualExtractor
from nmcl.pipeline.bench.measure import gemm_flops_per_s
from nmcl.pipeline.records import State

GEMM_SIDE_ON_GPU = 8192
"""Rows and columns of a matrix product that reaches a GPU's peak rate."""


def torch_gemm_flops_per_s(bfloat16: bool = False, device: str = "cpu") -> float:
    """Return `gemm_flops_per_s` of torch, in bfloat16 or float32."""
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    if torch.device(device).type == "cpu":
        return gemm_flops_per_s(torch.mm, lambda a: torch.from_numpy(a).to(dtype))

    def multiply(a: torch.Tensor, b: torch.Tensor) -> None:
        torch.mm(a, b)
        torch.cuda.synchronize(device)

    return gemm_flops_per_s(multiply, lambda a: torch.from_numpy(a).to(device, dtype), GEMM_SIDE_ON_GPU)


@torch.inference_mode()
def plain_visual(network: nn.Module, preprocess: Preprocess, frames: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Return the mean feature of one clip's frames (n, crop, crop, 3) uint8 RGB, shape (dim,).

    Runs eager, in float32, channels first.
    """
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    pixels = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).contiguous().float() / 255
    features: np.ndarray = network((pixels - mean) / std).mean(dim=0).cpu().numpy()
    return features


def plain_acoustic(waveform: np.ndarray, state: State) -> np.ndarray:
    """Return the mean code of one clip's sound, shape (dim,)."""
    mean: np.ndarray = Autoencoder.from_state(state).encode(log_spectrogram(waveform)).mean(axis=0)
    return mean


def n_sound_frames(waveform: np.ndarray) -> int:
    """Return the number of frames in a waveform's spectrogram."""
    return 1 + len(waveform) // HOP


@torch.inference_mode()
def flops_per_frame(extractor: VisualExtractor) -> float:
    """Return the network's operations for one frame."""
    crop = extractor.backbone.preprocess.crop
    with FlopCounterMode(display=False) as counter:
        extractor.plain_network()(torch.zeros(1, 3, crop, crop))
    return float(counter.get_total_flops())


def flops_per_sound_frame(state: State) -> float:
    """Return the autoencoder's operations for one frame of sound; 0 if none was trained."""
    if not state.arrays:
        return 0.0
    return 2.0 * sum(weight.size for weight, _ in Autoencoder.from_state(state).encoder)
