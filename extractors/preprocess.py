"""Image preprocessing for a pretrained network."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from PIL import Image

from nmcl.pipeline.addressing import Reference

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocess:
    """Scale and crop the centre; later subtract the mean and divide by the deviation."""

    resize: Annotated[int, Reference(256)] = 256
    """Shorter side after scaling, in pixels; with `squash` both sides."""
    crop: Annotated[int, Reference(224)] = 224
    """Side of the square crop, in pixels."""
    interpolation: Annotated[Literal["bilinear", "bicubic"], Reference("bilinear")] = "bilinear"
    mean: Annotated[tuple[float, float, float], Reference((0.485, 0.456, 0.406))] = (0.485, 0.456, 0.406)
    """Red, green and blue on the scale 0..1."""
    std: Annotated[tuple[float, float, float], Reference((0.229, 0.224, 0.225))] = (0.229, 0.224, 0.225)
    squash: Annotated[bool, Reference(False)] = False
    """Whether the picture is scaled to a square, whatever its shape."""

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture (height, width, 3), scaled and cropped: (crop, crop, 3), uint8.

        Equal to torchvision's presets.
        """
        image = Image.fromarray(picture)
        width, height = (1, 1) if self.squash else image.size
        shorter = min(width, height)
        size = (int(self.resize * width / shorter), int(self.resize * height / shorter))
        left, top = (round((side - self.crop) / 2) for side in size)
        scaled = image.resize(size, _FILTERS[self.interpolation])
        return np.asarray(scaled.crop((left, top, left + self.crop, top + self.crop)))
