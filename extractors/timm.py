"""Visual features of any model of the package `timm`. The only module that imports timm."""

import difflib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from annotated_types import Interval

from nmcl.extractors.frame_network import FrameNetwork
from nmcl.extractors.keyframes import CODE_VERSION as KEYFRAMES_VERSION
from nmcl.extractors.network import Run, load, require_device
from nmcl.extractors.preprocess import Preprocess
from nmcl.extractors.weights import read_weights, sha256_of
from nmcl.pipeline.addressing import Reference, Unhashed, hashed
from nmcl.pipeline.errors import SettingsError, WeightsError
from nmcl.pipeline.optional import require

if TYPE_CHECKING:
    from torch import nn

CODE_VERSION = 1
"""Version of the code, part of the address; raise it when the same settings give different vectors."""
FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weights files on the Hugging Face hub, in timm's order."""


@dataclass(frozen=True)
class TimmSettings:
    """Frozen settings of a timm model and its key frames."""

    model: Annotated[str, Reference("vit_base_patch16_224.augreg_in21k")] = "vit_base_patch16_224.augreg_in21k"
    """Name of the model, as timm.list_pretrained() gives it: the architecture, a dot, the weights."""
    weights: Annotated[str, Unhashed()] = "default"
    """`default`: those of the model's name, from the Hugging Face cache of this machine; nothing is downloaded.
    Otherwise a .pth or .safetensors file for the model, with any classifier or none."""
    key_frames: Annotated[int, Interval(ge=1, le=64), Reference(8)] = 8
    """Maximum number of key frames per video."""
    precision: Annotated[Literal["float32", "bfloat16"], Reference("float32")] = "float32"
    """Precision of the network's arithmetic. bfloat16 is faster on hardware that has instructions for it."""
    sequence: Annotated[bool, Unhashed()] = False
    """Whether the vector of each key frame is stored too, besides their mean."""
    device: Annotated[str, Unhashed()] = "auto"
    """Device of the network. `auto`: a GPU if there is one; else a torch device name, such as `cpu` or `cuda:1`."""


class TimmExtractor(FrameNetwork):
    """Extractor of a timm model's pooled features, the input of its classifier."""

    libraries = ("openvino", "timm", "torch", "torchvision")

    def __init__(self, settings: TimmSettings) -> None:
        self.settings: TimmSettings = settings

    @property
    def dim(self) -> int:
        return int(self._architecture.head_hidden_size)

    @cached_property
    def preprocess(self) -> Preprocess:
        """The model's own preprocessing.

        Raises:
            SettingsError: If it is not a square picture, scaled and cropped at the centre.
        """
        import timm.data

        data: Any = timm.data
        config = data.resolve_model_data_config(self._architecture)
        channels, height, width = config["input_size"]
        how = config["crop_mode"], config["interpolation"]
        if channels != 3 or height != width or how[0] not in ("center", "squash") or how[1] not in _INTERPOLATIONS:
            raise SettingsError(
                f"The timm model {self.settings.model} takes inputs of {channels} x {height} x {width}, {how[1]}, "
                f"{how[0]}. Expected square colour pictures, {' or '.join(_INTERPOLATIONS)}, center or squash. Choose "
                "another model."
            )
        return Preprocess(
            resize=math.floor(height / config["crop_pct"]),
            crop=height,
            interpolation=how[1],
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            squash=how[0] == "squash",
        )

    def address(self) -> dict[str, object]:
        """See `Extractor.address`; reads the weights' bytes once to know their digest."""
        return {
            "name": "timm",
            "settings": hashed(self.settings),
            "preprocess": hashed(self.preprocess),
            "weights": sha256_of(self._file),
            "code_version": CODE_VERSION,
            "keyframes_version": KEYFRAMES_VERSION,
        }

    def check(self) -> None:
        """Check the package, the device, the model and its weights.

        Raises:
            UserError: If timm is not installed.
            SettingsError: If there is no such model or device.
            WeightsError: If the weights are not here or do not fit.
        """
        require_device(self.device)
        _ = self.preprocess
        if self.settings.weights != "default":
            self.plain_network()
        _ = self._file

    def plain_network(self) -> "nn.Module":
        """Return the model with its weights and without its classifier, on the CPU.

        Raises:
            WeightsError: If the weights do not fit the model.
        """
        import timm

        tensors = read_weights(self._file)
        n_classes = _n_classes(tensors, self._published)
        # With the classifier of the file, timm loads strictly: a missing tensor is an error and not a random one.
        own = {"state_dict": tensors, "num_classes": n_classes, "label_offset": 0, "custom_load": False}
        try:
            network: Any = timm.create_model(
                self.settings.model, pretrained=True, num_classes=n_classes, pretrained_cfg_overlay=own
            )
        except Exception as error:  # timm's conversions of weights raise errors of many types
            raise WeightsError(
                f"{self._file} does not fit the timm model {self.settings.model} ({_first_lines(error)}). Give weights "
                "of this model, or set model to theirs."
            ) from error
        network.reset_classifier(0)
        whole: nn.Module = network.eval()
        return whole

    def load(self) -> Run:
        return load(self.plain_network(), self.preprocess, self.device, self.settings.precision == "bfloat16")

    @cached_property
    def _architecture(self) -> Any:
        """The model without weights and without a classifier, on torch's meta device, which takes no memory.

        Raises:
            SettingsError: If timm has no such model.
        """
        require("timm", "timm", "The extractor timm")
        import timm

        try:
            with torch.device("meta"):
                return timm.create_model(self.settings.model, pretrained=False, num_classes=0).eval()
        except (RuntimeError, ValueError) as error:
            close = difflib.get_close_matches(self.settings.model, timm.list_pretrained(), n=3)
            hint = f" Did you mean {' or '.join(close)}?" if close else ""
            raise SettingsError(
                f"model is {self.settings.model!r}, expected a name of timm.list_models(pretrained=True) "
                f"({_first_lines(error)}).{hint}"
            ) from error

    @property
    def _published(self) -> dict[str, Any]:
        """What timm knows of the model's published weights."""
        found: dict[str, Any] = self._architecture.pretrained_cfg
        return found

    @cached_property
    def _file(self) -> Path:
        """The file of the weights.

        Raises:
            WeightsError: If the cache does not have it.
        """
        if self.settings.weights != "default":
            return Path(self.settings.weights)
        from huggingface_hub import try_to_load_from_cache

        repo = self._published["hf_hub_id"]
        for name in FILES if repo else ():
            found = try_to_load_from_cache(repo, name)
            if isinstance(found, str):
                return Path(found)
        raise WeightsError(
            f"The weights of the timm model {self.settings.model} are not in the Hugging Face cache of this machine. "
            f"Download them once:\n    python -c \"import timm; timm.create_model('{self.settings.model}', "
            'pretrained=True)"\nor give a file: --set features.NAME.weights=/path/to/model.safetensors'
        )


_INTERPOLATIONS = ("bilinear", "bicubic")


def _n_classes(tensors: dict[str, torch.Tensor], published: dict[str, Any]) -> int:
    """Return the number of classes of the classifier in a file; 0 if it has none."""
    names = published["classifier"]
    first = names if isinstance(names, str) or names is None else names[0]
    bias = tensors.get(f"{first}.bias", tensors.get(f"{first}.weight"))
    return 0 if bias is None else len(bias)


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
