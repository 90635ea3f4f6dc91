"""Features of any model of `sentence-transformers`, from texts or key frames. The only module that imports it."""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Interval

from nmcl.extractors.frame_network import FrameNetwork, chosen_device
from nmcl.extractors.keyframes import CODE_VERSION as KEYFRAMES_VERSION
from nmcl.extractors.network import Run, in_batches, require_device
from nmcl.extractors.preprocess import Preprocess
from nmcl.extractors.weights import sha256_of
from nmcl.pipeline.addressing import Reference, Unhashed, hashed
from nmcl.pipeline.errors import SettingsError, WeightsError
from nmcl.pipeline.needs import DESCRIPTION, Text, TextSource
from nmcl.pipeline.optional import require
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, Modality, State
from nmcl.pipeline.storage.artifacts import digest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CODE_VERSION = 1
"""Version of the code, part of the address; raise it when the same settings give different vectors."""
SUFFIXES = (".json", ".txt", ".model", ".jinja", ".safetensors", ".bin")
"""Files of a model that can decide its vectors."""
OTHER_FORMATS = ("onnx", "openvino")
"""Folders of a model with the same weights for other libraries."""
IMAGES_AT_A_TIME = 16


@dataclass(frozen=True)
class SentenceSettings:
    """Frozen settings of a sentence-transformers model."""

    model: Annotated[str, Unhashed()] = "sentence-transformers/all-MiniLM-L6-v2"
    """Folder of a model, or its name on the Hugging Face hub: then it is read from the cache of this machine, and
    nothing is downloaded. The address holds the digest of its files."""
    modality: Annotated[Literal["textual", "visual"], Reference("textual")] = "textual"
    """What is encoded: `textual`, the text of a video; `visual`, its key frames, by a model of texts and images."""
    text: Annotated[TextSource, Unhashed()] = DESCRIPTION
    """Source of the texts, without effect on frames. The address of features has the recipe of texts from other
    sources."""
    prompt: Annotated[str, Reference("")] = ""
    """Words before each text, as the model was trained (`passage: `). Empty: the model's own default."""
    normalize: Annotated[bool, Reference(False)] = False
    """Whether the vector of each text or frame is scaled to length 1."""
    key_frames: Annotated[int, Interval(ge=1, le=64), Reference(8)] = 8
    """Maximum number of key frames per video. Without effect on texts."""
    sequence: Annotated[bool, Unhashed()] = False
    """Whether the vector of each key frame is stored too, besides their mean. Without effect on texts."""
    device: Annotated[str, Unhashed()] = "auto"
    """Device of the model. `auto`: a GPU if there is one; else a torch device name, such as `cpu` or `cuda:1`."""


def sentence_extractor(settings: SentenceSettings) -> "SentenceExtractor | SentenceFrames":
    """Return the extractor of the settings' modality."""
    return SentenceExtractor(settings) if settings.modality == "textual" else SentenceFrames(settings)


class _Model:
    """The model that settings name. Its files are found at once and loaded on first use."""

    def __init__(self, settings: SentenceSettings) -> None:
        self.settings = settings

    @property
    def device(self) -> str:
        return chosen_device(self.settings.device)

    @cached_property
    def folder(self) -> Path:
        """Folder of the model.

        Raises:
            UserError: If sentence-transformers is not installed.
            WeightsError: If the model is not on this machine.
        """
        require("sentence_transformers", "st", "The extractor st")
        name = self.settings.model
        if Path(name).is_dir():
            return Path(name)
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            repo = name if "/" in name else f"sentence-transformers/{name}"
            cache = os.environ.get("SENTENCE_TRANSFORMERS_HOME")
            return Path(snapshot_download(repo, cache_dir=cache, local_files_only=True))
        except (HFValidationError, LocalEntryNotFoundError) as error:
            raise WeightsError(
                f"The sentence-transformers model {name!r} is neither a folder nor in the Hugging Face cache of this "
                'machine. Download it once:\n    python -c "from sentence_transformers import SentenceTransformer; '
                f"SentenceTransformer('{name}')\"\nor give a folder: --set features.NAME.model=/path/to/model"
            ) from error

    def address(self) -> dict[str, object]:
        return {
            "name": "st",
            "settings": hashed(self.settings),
            "files": digest({str(file.relative_to(self.folder)): sha256_of(file) for file in self._files()}, 64),
            "code_version": CODE_VERSION,
        }

    def _files(self) -> list[Path]:
        found = [path for path in sorted(self.folder.rglob("*")) if path.suffix in SUFFIXES and path.is_file()]
        found = [path for path in found if path.relative_to(self.folder).parts[0] not in OTHER_FORMATS]
        folders = {path.parent for path in found if path.suffix == ".safetensors"}
        return [path for path in found if path.suffix != ".bin" or path.parent not in folders]

    def check(self) -> None:
        require_device(self.device)
        if not (self.folder / "modules.json").is_file():
            raise WeightsError(
                f"{self.folder} has no modules.json. Expected a model as sentence-transformers saves it."
            )

    @cached_property
    def loaded(self) -> "SentenceTransformer":
        """The model in float32.

        Raises:
            WeightsError: If its files cannot be used.
            SettingsError: If it does not encode the settings' modality.
        """
        self.check()
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        quiet: Any = logging
        quiet.disable_progress_bar()
        try:
            model = SentenceTransformer(
                str(self.folder), device=self.device, local_files_only=True, model_kwargs={"dtype": torch.float32}
            )
        except Exception as error:  # damaged files make the library raise errors of many types
            said = " ".join(str(error).split())[:300]
            raise WeightsError(f"{self.folder} cannot be loaded by sentence-transformers ({said}).") from error
        wanted: Any = {"textual": "text", "visual": "image"}[self.settings.modality]
        if not model.supports(wanted):
            raise SettingsError(
                f"The model {self.settings.model} encodes {', '.join(map(str, model.modalities))}, and not {wanted}. "
                "Choose another model, or another modality: --set features.NAME.modality=..."
            )
        return model.eval()

    @property
    def dim(self) -> int:
        found: int | None = self.loaded.get_embedding_dimension()
        if found is None:
            raise WeightsError(f"{self.folder} does not say the length of its vectors. Choose another model.")
        return found

    def encode(self, inputs: Sequence[Any]) -> np.ndarray:
        """Return the vectors of a batch of texts or images, shape (len(inputs), dim), float32."""
        with torch.inference_mode():
            found: np.ndarray = self.loaded.encode(
                inputs,
                prompt=self.settings.prompt or None,
                batch_size=len(inputs),
                show_progress_bar=False,
                normalize_embeddings=self.settings.normalize,
            )
        return np.asarray(found, dtype=np.float32)


class SentenceExtractor:
    """Extractor of the vector of a text."""

    modality: Modality = "textual"
    fit_videos = 0

    def __init__(self, settings: SentenceSettings) -> None:
        self.settings = settings
        self.need = Text(settings.text)
        self._model = _Model(settings)

    @cached_property
    def dim(self) -> int:
        return self._model.dim

    def address(self) -> dict[str, object]:
        """See `Extractor.address`; reads the model's bytes once to know their digest."""
        return self._model.address()

    def check(self) -> None:
        """Raise UserError if the package, the device or the model is not here."""
        self._model.check()

    def fetch(self) -> None:
        """Load the model. Raises WeightsError if its files cannot be used, SettingsError if it encodes no texts."""
        _ = self._model.loaded

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """Return an empty state: the model is pretrained."""
        return State()

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray:
        """Return vectors (len(clips), dim), float32; NaN if the text is absent or blank.

        Texts are encoded one at a time: in a batch they are padded to the longest, which changes their last bits.
        """
        vectors = np.full((len(clips), self.dim), np.nan, dtype=np.float32)
        for vector, clip in zip(vectors, clips, strict=True):
            if clip.text and clip.text.strip():
                vector[:] = self._model.encode([clip.text])[0]
        return vectors


class SentenceFrames(FrameNetwork):
    """Extractor of the mean vector of the key frames, by a model of texts and images."""

    def __init__(self, settings: SentenceSettings) -> None:
        self.settings: SentenceSettings = settings
        self._model = _Model(settings)

    @cached_property
    def dim(self) -> int:
        return self._model.dim

    @cached_property
    def preprocess(self) -> Preprocess:
        """Scaling and cropping as in the model's image processor, which then only has to normalise.

        Raises:
            WeightsError: If the processor does something else.
        """
        self._model.check()
        import transformers

        first, *_ = json.loads((self._model.folder / "modules.json").read_text(encoding="utf-8"))
        try:
            kind: Any = transformers.AutoImageProcessor
            found = kind.from_pretrained(self._model.folder / first["path"], local_files_only=True)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The model {self.settings.model} has no image processor, so it encodes no pictures. Choose a model of "
                "texts and images, such as sentence-transformers/clip-ViT-B-32."
            ) from error
        size, crop = dict(found.size or {}), dict(getattr(found, "crop_size", None) or {})
        squash = size.get("height") is not None
        resize = size["height"] if squash else size.get("shortest_edge")
        side = crop["height"] if getattr(found, "do_center_crop", False) else resize
        interpolation = {2: "bilinear", 3: "bicubic"}.get(int(found.resample or 0))
        is_square = (not squash or size["height"] == size["width"]) and crop.get("height") == crop.get("width")
        if not (resize and side and interpolation and is_square and (squash or side == crop.get("height"))):
            raise WeightsError(
                f"The image processor of {self.settings.model} scales to {size} and crops to {crop}. Expected square "
                "pictures. Choose another model."
            )
        return Preprocess(resize, side, interpolation, squash=squash)  # type: ignore[arg-type]

    def address(self) -> dict[str, object]:
        """See `Extractor.address`; reads the model's bytes once to know their digest."""
        return self._model.address() | {
            "preprocess": hashed(self.preprocess),
            "keyframes_version": KEYFRAMES_VERSION,
        }

    def check(self) -> None:
        """Raise UserError if the package, the device or the model is not here, or the model encodes no pictures."""
        _ = self.preprocess

    def fetch(self) -> None:
        """Load the model. Raises WeightsError if its files cannot be used, SettingsError if it encodes no images."""
        _ = self._model.loaded

    def load(self) -> Run:
        from PIL import Image

        return in_batches(
            lambda batch: self._model.encode([Image.fromarray(frame) for frame in batch]), IMAGES_AT_A_TIME
        )
