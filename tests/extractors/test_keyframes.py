"""Key frames against a slow version that holds the whole clip in memory."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmcl.extractors.keyframes import EvenFrames, KeyFrames, grey_histogram
from nmcl.extractors.preprocess import Preprocess
from nmcl.pipeline.media.frames import selected
from nmcl.pipeline.needs import Frames, FrameSelector, TimedFrame
from nmcl.pipeline.records import Pictures
from tests.media import AsDecoded


def timed(time_s: float, pixels: np.ndarray) -> TimedFrame:
    return TimedFrame(time_s, pixels[:, :, 0], lambda: pixels)


def chosen(selector: FrameSelector, frames: Iterable[TimedFrame]) -> Pictures:
    need = Frames(selector, AsDecoded())
    return selected([need], frames)[need]


def clip(levels: list[int]) -> list[TimedFrame]:
    """One 16 x 16 frame a level; a pixel in the corner carries the frame's number."""
    frames = []
    for i, level in enumerate(levels):
        pixels = np.full((16, 16, 3), level, np.uint8)
        pixels[0, 0] = i % 256
        frames.append(timed(i / 10, pixels))
    return frames


def slow_choice(frames: list[TimedFrame], n: int) -> list[int]:
    """Indices, by the published method word for word."""
    histograms = [np.bincount(f.luma.ravel(), minlength=256).astype(float) for f in frames]
    change = {i: np.abs(histograms[i] - histograms[i - 1]).sum() for i in range(1, len(frames))}
    values = np.array(list(change.values()))
    cuts = [i for i in change if change[i] > values.mean() + 3 * values.std()]
    cuts = sorted(sorted(cuts, key=lambda i: (-change[i], i))[: n - 1])
    return [i for i in cuts if i - 1 not in cuts]


@given(levels=st.lists(st.integers(0, 255), min_size=2, max_size=120), hold=st.integers(1, 6), n=st.integers(2, 8))
@settings(max_examples=60, deadline=None)
def test_cuts_equal_the_slow_version(levels: list[int], hold: int, n: int) -> None:
    frames = clip([level for level in levels for _ in range(hold)])
    cuts = slow_choice(frames, n)
    times_s = chosen(KeyFrames(n), iter(frames)).times_s
    assert {frames[i].time_s for i in [0, *cuts]} <= set(times_s)
    assert list(times_s) == sorted(set(times_s))
    assert len(times_s) <= n
    assert len(times_s) >= min(n, len(frames)) - len(cuts)


@given(n_frames=st.integers(1, 700), n=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_without_cuts_frames_spread_over_the_clip(n_frames: int, n: int) -> None:
    frames = [timed(float(i), np.full((16, 16, 3), 77, np.uint8)) for i in range(n_frames)]
    times_s = chosen(KeyFrames(n), iter(frames)).times_s
    assert len(times_s) == min(n, n_frames)
    assert list(times_s) == sorted(set(times_s))
    even = np.linspace(0, n_frames - 1, len(times_s))
    assert np.abs(even - np.array(times_s)).max() <= max(1.0, n_frames / (2 * n))


def slides_then_motion() -> list[TimedFrame]:
    """Five stills of 3 s, then 3 s at 60 frames a second."""
    times_s = [0.0, 3.0, 6.0, 9.0, *(12 + np.arange(180) / 60)]
    levels = [10, 90, 170, 250, *(40 + np.arange(180) // 20)]
    return [timed(float(t), np.full((16, 16, 3), level, np.uint8)) for t, level in zip(times_s, levels, strict=True)]


def test_where_the_rate_varies_every_scene_is_looked_at() -> None:
    times_s = chosen(KeyFrames(8), slides_then_motion()).times_s
    assert {0.0, 3.0, 6.0, 9.0, 12.0} <= set(times_s)


@given(gaps_ms=st.lists(st.sampled_from([8, 16, 33, 200, 1000, 3000]), min_size=2, max_size=400), n=st.integers(2, 12))
@settings(max_examples=60, deadline=None)
def test_where_the_rate_varies_frames_spread_in_time(gaps_ms: list[int], n: int) -> None:
    clock_s = np.cumsum([0, *gaps_ms]) / 1000
    times_s = chosen(KeyFrames(n), (timed(float(t), np.full((16, 16, 3), 77, np.uint8)) for t in clock_s)).times_s
    assert list(times_s) == sorted(set(times_s))
    assert len(times_s) <= n
    # No moment of the clip is farther from a chosen frame than the longest stretch without any frame and one share.
    farthest = max(min(abs(t - c) for c in times_s) for t in clock_s)
    assert farthest <= max(np.diff(clock_s)) + 2 * clock_s[-1] / (n - 1)


@given(jitter_ms=st.lists(st.integers(-1, 1), min_size=2, max_size=300), n=st.integers(2, 12), cut=st.integers(1, 299))
@settings(max_examples=60, deadline=None)
def test_rounded_time_stamps_of_a_constant_rate_change_nothing(jitter_ms: list[int], n: int, cut: int) -> None:
    """Containers that count milliseconds: the same frames are chosen as with exact times."""
    levels = [200 if i >= cut else 60 for i in range(len(jitter_ms))]
    exact = [timed(i * 0.04, np.full((16, 16, 3), level, np.uint8)) for i, level in enumerate(levels)]
    moved = [
        TimedFrame(f.time_s + (m / 1000 if i else 0), f.luma, f.picture)
        for i, (f, m) in enumerate(zip(exact, jitter_ms, strict=True))
    ]
    of_exact, of_moved = (chosen(KeyFrames(n), frames).times_s for frames in (exact, moved))
    assert [round(t / 0.04) for t in of_exact] == [round(t / 0.04) for t in of_moved]


def test_memory_does_not_grow_with_the_clip() -> None:
    alive, most = 0, 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            if self.base is None:
                alive -= 1

    def frames() -> object:
        nonlocal alive, most
        for i in range(2000):
            pixels = np.ndarray.__new__(Counted, (16, 16, 3), np.uint8)
            pixels[...] = i * 7 % 256
            alive += 1
            most = max(most, alive)
            yield timed(float(i), pixels)

    chosen(KeyFrames(8), frames())  # type: ignore[arg-type]
    assert most < 90


def test_histogram_counts_grey_levels() -> None:
    luma = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    np.testing.assert_array_equal(grey_histogram(luma), np.bincount(luma.ravel(), minlength=256))


def test_a_single_frame_is_a_key_frame() -> None:
    one = chosen(KeyFrames(8), clip([5]))
    assert one.frames.shape == (1, 16, 16, 3)
    assert one.times_s == (0.0,)


@pytest.mark.parametrize("n", [1, 2])
def test_never_more_than_asked_for(n: int) -> None:
    assert len(chosen(KeyFrames(n), clip([0] * 30 + [255] * 30 + [0] * 30)).frames) <= n


@given(n_frames=st.integers(1, 700), n=st.integers(1, 12), gap_s=st.sampled_from([0.04, 0.5]))
@settings(max_examples=60, deadline=None)
def test_even_frames_are_the_nearest_to_even_times(n_frames: int, n: int, gap_s: float) -> None:
    frames = [timed(i * gap_s, np.full((16, 16, 3), 77, np.uint8)) for i in range(n_frames)]
    times_s = chosen(EvenFrames(n), frames).times_s
    assert times_s[0] == 0
    assert list(times_s) == sorted(set(times_s))
    assert len(times_s) <= min(n, n_frames)
    length_s = (n_frames - 1) * gap_s
    for even_s in np.linspace(0, length_s, n)[: None if n > 1 else 1]:
        assert min(abs(even_s - t) for t in times_s) <= gap_s / 2 + length_s / (3 * n)


def test_selectors_share_one_pass() -> None:
    """Each need gets what it gets alone; frames are read once."""
    frames = clip([0] * 30 + [255] * 30 + [90] * 30)
    halved, whole = Preprocess(resize=8, crop=8), AsDecoded()
    needs = [Frames(s, p) for s in (KeyFrames(4), EvenFrames(5)) for p in (halved, whole)]
    n_read = 0

    def once() -> Iterable[TimedFrame]:
        nonlocal n_read
        for frame in frames:
            n_read += 1
            yield frame

    together = selected(needs, once())
    assert n_read == len(frames)
    for need in needs:
        alone = selected([need], frames)[need]
        assert alone.times_s == together[need].times_s
        np.testing.assert_array_equal(alone.frames, together[need].frames)
    assert len({together[need].times_s for need in needs}) == 2
    assert together[needs[0]].frames.shape[1:] == (8, 8, 3)
