"""Text on screen, read by RapidOCR. The only module that imports it.

The package `rapidocr` (Apache-2.0, the models too) contains PP-OCRv6, which reads Latin and Chinese script among
others. Its models run on OpenVINO, with the threads of this process's networks. Nothing is downloaded.
"""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import cv2
import numpy as np
import torch
from annotated_types import Interval

from nmcl.extractors.keyframes import CODE_VERSION as KEYFRAMES_CODE_VERSION
from nmcl.extractors.keyframes import KeyFrames
from nmcl.pipeline.addressing import Reference, hashed
from nmcl.pipeline.errors import WeightsError
from nmcl.pipeline.needs import Frames
from nmcl.pipeline.optional import require
from nmcl.pipeline.records import Clip, FoundText, Line

CODE_VERSION = 1
"""Version of the code, part of the address of texts; raise it when the same frames give other texts."""
FILES = {
    "Det": ("PP-OCRv6_det_small.onnx", "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f"),
    "Cls": ("ch_ppocr_mobile_v2.0_cls_mobile.onnx", "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"),
    "Rec": ("PP-OCRv6_rec_small.onnx", "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884"),
}
"""Model files of the package with their SHA-256: finding lines, turning upside-down ones, and reading them."""
NARROWEST = 4
"""Pictures are read as if no side were shorter than a quarter of `side`: RapidOCR enlarges the shorter side, and would
need gigabytes for a picture one pixel high."""


@dataclass(frozen=True)
class OcrSettings:
    """Frozen settings of reading text on screen."""

    key_frames: Annotated[int, Interval(ge=1, le=64), Reference(4)] = 4
    """Maximum number of frames that are read per video; each takes about a second of one core."""
    side: Annotated[int, Interval(ge=320, le=2560), Reference(1280)] = 1280
    """Longer side of a frame in pixels, to which larger ones are scaled down."""
    min_confidence: Annotated[float, Interval(ge=0, le=1), Reference(0.5)] = 0.5
    """Lines that the model is less sure of are left out."""


@dataclass(frozen=True)
class Canvas:
    """Scale a picture down to fit a black square, and place it in the upper left corner. Nothing is cropped."""

    side: int
    """Side of the square in pixels."""

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture (side, side, 3), uint8, for a picture (height, width, 3) of any size."""
        height, width = picture.shape[:2]
        if (scale := self.side / max(height, width)) < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        canvas = np.zeros((self.side, self.side, 3), np.uint8)
        canvas[: picture.shape[0], : picture.shape[1]] = picture
        return canvas


class OcrReader:
    """Reader of the text on screen; see `nmcl.pipeline.extractor.TextReader`."""

    def __init__(self, settings: OcrSettings) -> None:
        self.settings = settings
        self.need = Frames(KeyFrames(settings.key_frames), Canvas(settings.side))
        self._lock = Lock()

    def address(self) -> dict[str, object]:
        return {
            "name": "rapidocr",
            "settings": hashed(self.settings),
            "files": [sha256 for _, sha256 in FILES.values()],
            "code_version": CODE_VERSION,
            "keyframes_version": KEYFRAMES_CODE_VERSION,
        }

    def check(self) -> None:
        """Raise UserError if the package is not installed."""
        require("rapidocr", "ocr", 'The text source "ocr"')

    def read(self, clip: Clip) -> FoundText:
        """Return the text of a clip: each line once, at its first time; lines that differ in signs or case are equal.

        Raises:
            WeightsError: If the models are not those of the expected version of the package.
        """
        found: dict[str, Line] = {}
        for frame, time_s in zip(() if clip.frames is None else clip.frames, clip.frame_times_s, strict=True):
            for text in self._lines(frame):
                if letters := "".join(filter(str.isalnum, text)).casefold():
                    found.setdefault(letters, Line(time_s, text))
        lines = tuple(found.values())
        return FoundText(" ".join(line.text for line in lines) or None, lines)

    def _lines(self, frame: np.ndarray) -> Iterator[str]:
        """Yield the lines of one picture, from top to bottom."""
        with self._lock:  # the engine's requests are not for several threads
            result = self._engine(np.ascontiguousarray(_without_margin(frame)[:, :, ::-1]))
        for text, confidence in zip(result.txts or (), result.scores or (), strict=True):
            if confidence >= self.settings.min_confidence and (line := " ".join(text.split())):
                yield line

    @cached_property
    def _engine(self) -> Any:
        self.check()
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would report each use
        import rapidocr
        from rapidocr import EngineType, RapidOCR

        models = Path(rapidocr.__file__).parent / "models"
        settings: dict[str, Any] = {
            "Global.log_level": "critical",
            "Global.text_score": 0.0,
            "EngineConfig.openvino.inference_num_threads": torch.get_num_threads(),
            "EngineConfig.openvino.enable_cpu_pinning": False,  # would pin several workers to the same core
        }
        for step, (name, sha256) in FILES.items():
            settings[f"{step}.engine_type"] = EngineType.OPENVINO
            settings[f"{step}.model_path"] = str(_checked(models / name, sha256))
        return RapidOCR(params=settings)


def _without_margin(frame: np.ndarray) -> np.ndarray:
    """Return a picture of `Canvas` without its black margin, but not narrower than its part `NARROWEST`."""
    least = len(frame) // NARROWEST
    ends = []
    for axis in (1, 0):
        bright = np.flatnonzero(frame.any(axis=(axis, 2)))
        ends.append(max(least, int(bright[-1]) + 1 if len(bright) else 0))
    return frame[: ends[0], : ends[1]]


def _checked(path: Path, sha256: str) -> Path:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error}). Reinstall the package rapidocr.") from error
    if found != sha256:
        raise WeightsError(f"{path} is not the file of rapidocr 3.10.0. Install that version of the package.")
    return path
