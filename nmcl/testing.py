"""Checks for extractors of other packages, for use in their own tests."""

import json
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nmcl.pipeline.extractor import Extracted, Extractor, vectors_of
from nmcl.pipeline.needs import Frames, Need, Sound, Text, TimedFrame
from nmcl.pipeline.progress import silent
from nmcl.pipeline.records import MODALITIES, Clip, State

N_CLIPS = 9


def check_extractor(extractor: Extractor, clips: Sequence[Clip] | None = None) -> None:
    """Check that an extractor keeps the promises of `nmcl.pipeline.extractor.Extractor`.

    Args:
        extractor: One with settings that make it fit quickly.
        clips: At least four different clips that have what it needs; default: short clips of noise or random words.

    Raises:
        AssertionError: If it breaks a promise; the message names it.
    """
    _check_description(extractor)
    given = list(clips) if clips is not None else example_clips(extractor.need)
    _require(len(given) >= 4, f"give at least 4 clips; found {len(given)}")
    field = _field(extractor.need)
    for clip in given:
        others = [name for name in _FIELDS.values() if name != field and getattr(clip, name) is not None]
        _require(getattr(clip, field) is not None and not others, f"each clip must have {field} and nothing else")
    for check in _CHECKS:
        check(extractor, given)


def example_clips(need: Need) -> list[Clip]:
    """Return short clips of noise or random words as an extractor with this need gets them."""
    return [_example(need, seed) for seed in range(N_CLIPS)]


def _example(need: Need, seed: int) -> Clip:
    rng = np.random.default_rng(seed)
    if isinstance(need, Text):
        return Clip(text=" ".join([*rng.choice(list("abcdefgh"), 2 + seed % 5), *["z"] * seed]))
    if isinstance(need, Sound):
        n_samples = need.rate_hz * (seed % 4 + 1) // 7
        return Clip(waveform=rng.integers(-9000, 9000, n_samples).astype(np.int16))
    selection = need.selector.start()
    for i in range(seed % 3 + 1):
        selection.add(_noise(rng, 0.5 * i))
    chosen = selection.chosen()
    times_s = tuple(frame.time_s for frame in chosen)
    _require(bool(times_s) and list(times_s) == sorted(times_s), "the selector returns frames in order of time")
    return Clip(np.stack([need.picture(frame.picture()) for frame in chosen]), times_s)


def _noise(rng: np.random.Generator, time_s: float) -> TimedFrame:
    picture = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    return TimedFrame(time_s, picture.mean(axis=2).astype(np.uint8), lambda: picture)


_FIELDS: dict[Any, str] = {Frames: "frames", Sound: "waveform", Text: "text"}
"""Field of a clip, by the kind of the need."""


def _field(need: Need) -> str:
    return _FIELDS[type(need)]


def _require(is_kept: bool, promise: str) -> None:
    if not is_kept:
        raise AssertionError(f"Broken promise: {promise}.")


def _same(one: State, other: State) -> bool:
    arrays = [{name: (a.dtype, a.shape, a.tobytes()) for name, a in s.arrays.items()} for s in (one, other)]
    return arrays[0] == arrays[1] and one.info == other.info


def _check_description(extractor: Extractor) -> None:
    _require(extractor.modality in MODALITIES, f"modality is one of {', '.join(MODALITIES)}")
    _require(isinstance(extractor.dim, int) and extractor.dim > 0, "dim is the length of the vectors")
    _require(isinstance(extractor.fit_videos, int) and extractor.fit_videos >= 0, "fit_videos is a number of videos")
    need = extractor.need
    _require(type(need) in _FIELDS, "need is Frames, Sound or Text")
    try:
        again = pickle.loads(pickle.dumps(need))
        is_value = again == need and hash(again) == hash(need)
    except Exception as error:
        raise AssertionError(f"Broken promise: need can be pickled and hashed; {error}.") from error
    _require(is_value, "need equals its copy in another process, so that equal needs are served once")


def _check_address(extractor: Extractor, clips: Sequence[Clip]) -> None:
    address = extractor.address()
    try:
        copy = json.loads(json.dumps(address))
    except TypeError as error:
        raise AssertionError(f"Broken promise: address() returns JSON values; {error}.") from error
    _require(copy == address == extractor.address(), "address() returns the same JSON values each time")
    _require("code_version" in address, "address() has a code_version, to be increased when the vectors change")


def _check_vectors(extractor: Extractor, clips: Sequence[Clip]) -> None:
    vectors = vectors_of(extractor.extract(clips, extractor.fit(clips, silent)))
    _require(vectors.shape == (len(clips), extractor.dim), f"extract returns (N, dim), here {vectors.shape}")
    _require(vectors.dtype == np.float32, f"extract returns float32, here {vectors.dtype}")
    _require(bool(np.isfinite(vectors).all()), "the vector of a clip that has the modality is finite")
    _require(len(np.unique(vectors, axis=0)) > 1, "different clips have different vectors")
    empty = vectors_of(extractor.extract([], extractor.fit(clips, silent)))
    _require(empty.shape == (0, extractor.dim), "extract returns (0, dim) for no clips")


def _check_state(extractor: Extractor, clips: Sequence[Clip]) -> None:
    state = extractor.fit(clips, silent)
    arrays = state.arrays.values()
    _require(all(isinstance(a, np.ndarray) and a.dtype != object for a in arrays), "a state holds arrays of numbers")
    try:
        _require(json.loads(json.dumps(state.info)) == state.info, "the info of a state is made of JSON values")
    except TypeError as error:
        raise AssertionError(f"Broken promise: the info of a state is made of JSON values; {error}.") from error
    _require(extractor.fit_videos > 0 or state == State(), "fit returns an empty state if fit_videos is 0")


def _check_fit(extractor: Extractor, clips: Sequence[Clip]) -> None:
    state = extractor.fit(clips, silent)
    _require(_same(extractor.fit(clips, silent), state), "fit is deterministic")
    _require(_same(extractor.fit(iter(clips), silent), state), "fit reads its clips once, as from a generator")
    reports: list[tuple[int, int]] = []
    mixed = [clip for pair in zip(clips, [Clip()] * len(clips), strict=True) for clip in pair]
    state_of_mixed = extractor.fit(mixed, lambda stage, done, total, note="": reports.append((done, total)))
    _require(_same(state_of_mixed, state), "fit skips clips without the modality")
    _require(all(0 <= done <= total for done, total in reports), "progress counts from 0 to the total")
    for nothing in ([], [Clip()]):
        _require(extractor.fit(nothing, silent) == State(), "fit returns an empty state if no clip has the modality")


def _check_absent(extractor: Extractor, clips: Sequence[Clip]) -> None:
    vectors = vectors_of(extractor.extract([Clip(), clips[0]], extractor.fit(clips, silent)))
    _require(np.isnan(vectors).all(axis=1).tolist() == [True, False], "a clip without the modality is a row of NaN")
    alone = vectors_of(extractor.extract([Clip()], State()))
    _require(bool(np.isnan(alone).all()), "a clip without the modality is a row of NaN, also with an empty state")


def _check_purity(extractor: Extractor, clips: Sequence[Clip]) -> None:
    state = extractor.fit(clips, silent)
    frozen = State({name: array.copy() for name, array in state.arrays.items()}, dict(state.info))
    fields = [getattr(clip, _field(extractor.need)) for clip in clips]
    for array in (*state.arrays.values(), *(field for field in fields if isinstance(field, np.ndarray))):
        array.setflags(write=False)
    try:
        first = vectors_of(extractor.extract(clips, state)).tobytes()
        again = vectors_of(extractor.extract(clips, state)).tobytes()
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise AssertionError("Broken promise: extract changes neither state nor clips.") from error
    _require(_same(state, frozen), "extract changes neither state nor clips")
    _require(again == first, "extract gives the same vectors each time")


def _check_batches(extractor: Extractor, clips: Sequence[Clip]) -> None:
    state = extractor.fit(clips, silent)
    mixed = [*clips[:3], Clip(), *clips[3:]]
    whole = vectors_of(extractor.extract(mixed, state)).tobytes()
    for n in (1, 2, 5):
        batches = [vectors_of(extractor.extract(mixed[i : i + n], state)) for i in range(0, len(mixed), n)]
        _require(np.concatenate(batches).tobytes() == whole, "a vector does not depend on the other clips of its batch")


def _check_sequences(extractor: Extractor, clips: Sequence[Clip]) -> None:
    state = extractor.fit(clips, silent)
    found = extractor.extract([*clips[:4], Clip()], state)
    if not isinstance(found, Extracted) or found.sequences is None:
        return
    _require(found.sequences[4] is None, "a clip without the modality has no sequence")
    for sequence, times_s, vector in list(zip(found.sequences, found.times_s, found.vectors, strict=True))[:4]:
        if sequence is None:
            raise AssertionError("Broken promise: a clip that has the modality has a sequence.")
        _require(sequence.shape == (len(times_s), extractor.dim), "a sequence has the shape (T, dim) and T times")
        mean = sequence.astype(np.float64).mean(axis=0)
        _require(np.allclose(mean, vector, rtol=1e-4, atol=1e-6), "a vector is the mean of its sequence")
        is_increasing = times_s[0] == 0 and bool((np.diff(times_s) > 0).all())
        _require(is_increasing, "the times of a sequence begin at 0 and increase")
    alone = extractor.extract(clips[1:2], state)
    own = alone.sequences if isinstance(alone, Extracted) else None
    is_same = own is not None and _bytes(own[0]) == _bytes(found.sequences[1])
    _require(is_same, "a sequence does not depend on the other clips of its batch")


def _check_terms(extractor: Extractor, clips: Sequence[Clip]) -> None:
    state = extractor.fit(clips, silent)
    found = extractor.extract([*clips[:4], Clip()], state)
    if not isinstance(found, Extracted) or (terms := found.terms) is None:
        return
    _require(terms.shape[0] == 5 and terms.dtype == np.float32, "term weights are float32, with a row for each clip")
    _require(terms.has_canonical_format, "the columns of term weights are sorted in each row, each once")
    _require(bool(np.isfinite(terms.data).all()), "term weights are finite")
    _require(terms[[4]].nnz == 0, "a clip without the modality has no term weights")
    alone = extractor.extract(clips[1:2], state)
    own = alone.terms if isinstance(alone, Extracted) else None
    _require(own is not None and own.shape == (1, terms.shape[1]), "the number of terms is that of the state")
    is_same = own is not None and own.toarray().tobytes() == terms[[1]].toarray().tobytes()
    _require(is_same, "term weights do not depend on the other clips of the batch")


def _bytes(sequence: np.ndarray | None) -> bytes | None:
    return None if sequence is None else sequence.tobytes()


_CHECKS: tuple[Callable[[Extractor, Sequence[Clip]], None], ...] = (
    _check_address,
    _check_vectors,
    _check_state,
    _check_fit,
    _check_absent,
    _check_purity,
    _check_batches,
    _check_sequences,
    _check_terms,
)
