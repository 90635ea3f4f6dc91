"""How a picture becomes what a network was trained on."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocess:
    """Scale the shorter side, crop the middle; later subtract the mean and divide by the deviation."""

    resize: int = 256
    """Shorter side after scaling, in pixels."""
    crop: int = 224
    """Side of the square that is kept, in pixels."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Red, green, blue, on the scale 0..1."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def picture(self, image: Image.Image) -> np.ndarray:
        """Scaled and cropped: shape (crop, crop, 3), uint8, RGB. The arithmetic of torchvision's own presets."""
        width, height = image.size
        shorter = min(width, height)
        size = (int(self.resize * width / shorter), int(self.resize * height / shorter))
        left, top = (round((side - self.crop) / 2) for side in size)
        scaled = image.resize(size, _FILTERS[self.interpolation])
        return np.asarray(scaled.crop((left, top, left + self.crop, top + self.crop)))
