"""`nmcl.testing.check_extractor`: what it accepts, and the promise that it names of each broken extractor."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from nmcl.extractors.keyframes import KeyFrames
from nmcl.extractors.preprocess import Preprocess
from nmcl.pipeline.extractor import Extracted
from nmcl.pipeline.needs import Frames, Sound, Text
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.records import Clip, State
from nmcl.testing import check_extractor, example_clips
from tests.readme import example_extractor


class Levels:
    """A sound one: the mean level in four parts of a clip, less the mean of the fitted ones."""

    modality: Any = "acoustic"
    need: Any = Sound(4000)
    dim: Any = 4
    fit_videos: Any = 10

    def address(self) -> Any:
        return {"code_version": 1}

    def fit(self, clips: Iterable[Clip], progress: Progress) -> Any:
        levels = [self.levels(clip.waveform) for clip in clips if clip.waveform is not None]
        return State({"mean": np.mean(levels, axis=0)}) if levels else State()

    def extract(self, clips: Sequence[Clip], state: State) -> Any:
        mean = state.arrays.get("mean", np.zeros(4))
        rows = [np.full(4, np.nan) if c.waveform is None else self.levels(c.waveform) - mean for c in clips]
        return np.array(rows, np.float32).reshape(-1, 4)

    @staticmethod
    def levels(waveform: np.ndarray) -> np.ndarray:
        return np.array([np.abs(part.astype(float)).mean() for part in np.array_split(waveform, 4)])


class Batched(Levels):
    def extract(self, clips: Sequence[Clip], state: State) -> Any:
        vectors = super().extract(clips, state)
        return vectors - (np.nanmean(vectors) if np.isfinite(vectors).any() else 0)


class Random(Levels):
    rng = np.random.default_rng(0)

    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        state = super().fit(clips, progress)
        return State({name: array + self.rng.normal() for name, array in state.arrays.items()})


class TwiceRead(Levels):
    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        n_clips = len(list(clips))
        state = super().fit(clips, progress)
        return State({**state.arrays, "n": np.array([n_clips])}) if state.arrays else state


class Counting(Levels):
    def fit(self, clips: Iterable[Clip], progress: Progress) -> State:
        clips = list(clips)
        state = super().fit(clips, progress)
        return State({**state.arrays, "n": np.array([len(clips)])}) if state.arrays else state


class Writing(Levels):
    def extract(self, clips: Sequence[Clip], state: State) -> Any:
        for clip in clips:
            if clip.waveform is not None:
                clip.waveform[:] = np.minimum(clip.waveform, 5000)
        return super().extract(clips, state)


class Stateful(Levels):
    n_calls = 0

    def extract(self, clips: Sequence[Clip], state: State) -> Any:
        self.n_calls += 1
        return super().extract(clips, state) + np.float32(self.n_calls)


class ZeroForAbsent(Levels):
    def extract(self, clips: Sequence[Clip], state: State) -> Any:
        return np.nan_to_num(super().extract(clips, state))


class WrongSequence(Levels):
    def extract(self, clips: Sequence[Clip], state: State) -> Any:
        vectors = super().extract(clips, state)
        sequences = [None if np.isnan(v).any() else np.stack([v, v + 1]) for v in vectors]
        return Extracted(vectors, sequences, [[0.0, 1.0]] * len(clips))


class LateSequence(Levels):
    def extract(self, clips: Sequence[Clip], state: State) -> Any:
        vectors = super().extract(clips, state)
        sequences = [None if np.isnan(v).any() else v[None] for v in vectors]
        return Extracted(vectors, sequences, [[0.5]] * len(clips))


def but(**attributes: Any) -> type[Levels]:
    return type("But", (Levels,), attributes)


def giving(change: Callable[[np.ndarray], Any]) -> type[Levels]:
    return but(extract=lambda self, clips, state: change(Levels.extract(self, clips, state)))


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (but(modality="smell"), "modality is one of visual, acoustic, textual"),
        (but(dim=0), "dim is the length"),
        (but(fit_videos=None), "fit_videos is a number"),
        (but(need="sound"), "need is Frames, Sound or Text"),
        (but(need=Frames(KeyFrames(2), lambda picture: picture)), "need can be pickled"),
        (but(address=lambda self: {"code_version": {1}}), r"address\(\) returns JSON values"),
        (but(address=lambda self: {"code_version": (1,)}), "the same JSON values each time"),
        (but(address=lambda self: {"name": "levels"}), "has a code_version"),
        (giving(lambda vectors: vectors[:, :2]), r"extract returns \(N, dim\), here \(9, 2\)"),
        (giving(lambda vectors: vectors.astype(float)), "extract returns float32, here float64"),
        (giving(lambda vectors: vectors * np.float32(np.inf)), "is finite"),
        (giving(lambda vectors: vectors * 0), "different clips have different vectors"),
        (but(fit=lambda self, clips, progress: State({"a": np.array([None])})), "arrays of numbers"),
        (but(fit=lambda self, clips, progress: State(info={"a": {1}})), "the info of a state is made of JSON values"),
        (but(fit_videos=0), "an empty state if fit_videos is 0"),
        (Random, "fit is deterministic"),
        (TwiceRead, "fit reads its clips once"),
        (Counting, "fit skips clips without the modality"),
        (but(fit=lambda self, clips, progress: State(info={"a": 1})), "an empty state if no clip has the modality"),
        (ZeroForAbsent, "a clip without the modality is a row of NaN"),
        (Writing, "changes neither state nor clips"),
        (Stateful, "the same vectors each time"),
        (Batched, "does not depend on the other clips of its batch"),
        (WrongSequence, "a vector is the mean of its sequence"),
        (LateSequence, "the times of a sequence begin at 0"),
    ],
)
def test_a_broken_promise_is_named(kind: type[Levels], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_extractor(kind())


@pytest.mark.parametrize("extractor", [Levels(), example_extractor()])
def test_a_sound_extractor_passes(extractor: Any) -> None:
    check_extractor(extractor)


def test_clips_must_be_of_its_kind() -> None:
    with pytest.raises(AssertionError, match="each clip must have waveform and nothing else"):
        check_extractor(Levels(), [Clip(text="words")] * 4)
    with pytest.raises(AssertionError, match="give at least 4 clips; found 1"):
        check_extractor(Levels(), example_clips(Sound())[:1])


def test_example_clips_are_what_is_needed() -> None:
    for clip in example_clips(Frames(KeyFrames(2), Preprocess(resize=64, crop=48))):
        assert clip.frames is not None
        assert clip.frames.shape == (len(clip.frame_times_s), 48, 48, 3)
        assert 1 <= len(clip.frame_times_s) <= 2
    assert all(clip.waveform is not None and clip.waveform.dtype == np.int16 for clip in example_clips(Sound(16000)))
    texts = [clip.text for clip in example_clips(Text())]
    assert len(set(texts)) == len(texts)
