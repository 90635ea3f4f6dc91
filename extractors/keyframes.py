"""Key frame selection on a stream of frames: bounded memory for clips of any length."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from nmcl.pipeline.needs import TimedFrame

CODE_VERSION = 3
"""Version of the code, part of the visual address; raise it when other frames are chosen."""

RUN_S = 0.2
"""With a variable frame rate, cuts closer together than this belong to one run."""


@dataclass(frozen=True)
class KeyFrames:
    """Select frame 0 and the cuts; remaining slots are filled with frames spread evenly over the clip.

    The method of the paper's group (their published `extract_frame.py`): the L1 distance between the 256-bin histograms
    of consecutive frames; a cut is a frame whose distance to the previous one exceeds mean + 3 standard deviations of
    the clip's distances; the largest are kept; of directly consecutive cuts only the first. The paper says no more than
    "keyframes by OpenCV" (section 4.2.1). Most clips have only one or two cuts; on clips of moving pictures, filling up
    raised the accuracy of a linear classifier from 0.91 to 0.94.

    At a constant frame rate, positions are frame counts; with a variable rate, "evenly" and "directly" refer to time.
    """

    n_frames: int = 8
    """Maximum number of frames returned."""

    def start(self) -> "_KeyFramesOfOne":
        """See `nmcl.pipeline.needs.FrameSelector`."""
        return _KeyFramesOfOne(self.n_frames)


class _KeyFramesOfOne:
    """Key frames of one clip; see `nmcl.pipeline.needs.Selection`."""

    def __init__(self, n_frames: int) -> None:
        self._n_frames = n_frames
        self._cuts = _LargestChanges(n_frames - 1)
        self._by_index, self._by_time = _EveryNth(4 * n_frames), _EverySlot(4 * n_frames)
        self._times_s: list[float] = []
        self._before: np.ndarray | None = None

    def add(self, frame: TimedFrame) -> None:
        index = len(self._times_s)
        histogram = grey_histogram(frame.luma)
        if self._before is not None:
            self._cuts.add(index, float(np.abs(histogram - self._before).sum()), frame)
        self._by_index.add(index, frame)
        self._by_time.add(index, frame)
        self._times_s.append(frame.time_s)
        self._before = histogram

    def chosen(self) -> list[TimedFrame]:
        places: Sequence[float]
        if _is_steady(self._times_s):
            places, run, kept = range(len(self._times_s)), 1.5, self._by_index.kept
        else:
            places, run, kept = (
                self._times_s,
                min(RUN_S, 1.5 * float(np.median(np.diff(self._times_s)))),
                self._by_time.kept,
            )
        return _filled_up(self._cuts.chosen(places, run), kept, places, self._n_frames)


@dataclass(frozen=True)
class EvenFrames:
    """Select frames spread evenly over the time of the clip, frame 0 among them."""

    n_frames: int = 8
    """Maximum number of frames returned."""

    def start(self) -> "_EvenFramesOfOne":
        """See `nmcl.pipeline.needs.FrameSelector`."""
        return _EvenFramesOfOne(self.n_frames)


class _EvenFramesOfOne:
    """Even frames of one clip; see `nmcl.pipeline.needs.Selection`."""

    def __init__(self, n_frames: int) -> None:
        self._n_frames = n_frames
        self._slots = _EverySlot(8 * n_frames)
        self._n_seen = 0

    def add(self, frame: TimedFrame) -> None:
        self._slots.add(self._n_seen, frame)
        self._n_seen += 1

    def chosen(self) -> list[TimedFrame]:
        frames = [frame for _, frame in self._slots.kept]
        times_s = [frame.time_s for frame in frames]
        even = np.linspace(times_s[0], times_s[-1], self._n_frames)
        nearest = np.rint(np.interp(even, times_s, range(len(frames)))).astype(int)
        return [frames[i] for i in np.unique(nearest)]


def grey_histogram(luma: np.ndarray) -> np.ndarray:
    """Return the counts of the 256 brightness levels of (height, width) uint8; shape (256,), float32."""
    return cv2.calcHist([luma], [0], None, [256], [0, 256]).reshape(-1)


def _is_steady(times_s: Sequence[float]) -> bool:
    """Return whether the frame rate is constant: no gap differs from the mean by half of it."""
    gaps = np.diff(times_s)
    return not len(gaps) or bool(np.abs(gaps - gaps.mean()).max() < gaps.mean() / 2)


class _LargestChanges:
    """Keeps the `n` frames that differ most from the previous one, and all distances."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._distances: list[float] = []
        self._heap: list[tuple[float, int, TimedFrame]] = []

    def add(self, index: int, distance: float, frame: TimedFrame) -> None:
        self._distances.append(distance)
        # Ties go to the earlier frame; indices differ, so frames are never compared.
        item = (distance, -index, frame)
        if len(self._heap) < self._n:
            heapq.heappush(self._heap, item)
        elif self._heap and item[:2] > self._heap[0][:2]:
            heapq.heapreplace(self._heap, item)

    def chosen(self, places: Sequence[float], run: float) -> dict[int, TimedFrame]:
        """Return frames beyond mean + 3 standard deviations by index, the first of each run.

        Args:
            places: Position of each frame in its clip, as index or time.
            run: Cuts at most this far apart belong to one run.
        """
        if not self._distances:
            return {}
        threshold = np.mean(self._distances) + 3 * np.std(self._distances)
        cuts = {-index: frame for distance, index, frame in self._heap if distance > threshold}
        order = sorted(cuts)
        return {
            index: cuts[index]
            for before, index in zip([None, *order], order, strict=False)
            if before is None or places[index] - places[before] > run
        }


class _EveryNth:
    """Keeps every 2^k-th frame, at most `room` of them."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._step = 1
        self.kept: list[tuple[int, TimedFrame]] = []

    def add(self, index: int, frame: TimedFrame) -> None:
        if index % self._step:
            return
        self.kept.append((index, frame))
        if len(self.kept) > self._room:
            self.kept = self.kept[::2]
            self._step *= 2


class _EverySlot:
    """Keeps the first frame of each time slot, at most `room` of them."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._slot_s = 0.0
        self.kept: list[tuple[int, TimedFrame]] = []

    def add(self, index: int, frame: TimedFrame) -> None:
        if self._is_new(frame):
            self.kept.append((index, frame))
        if len(self.kept) > self._room:
            self._slot_s = max(2 * self._slot_s, 2 * frame.time_s / self._room)
            before, self.kept = self.kept, []
            for item in before:
                if self._is_new(item[1]):
                    self.kept.append(item)

    def _is_new(self, frame: TimedFrame) -> bool:
        if not self.kept or not self._slot_s:
            return True
        return frame.time_s // self._slot_s > self.kept[-1][1].time_s // self._slot_s


def _filled_up(
    cuts: dict[int, TimedFrame], kept: Sequence[tuple[int, TimedFrame]], places: Sequence[float], n: int
) -> list[TimedFrame]:
    """Return frame 0, the cuts, and frames near n even positions, those farthest from the chosen ones first.

    Returns at most n frames, in order of time.
    """
    even = np.linspace(0, places[-1] - places[0], min(n, len(kept))) + places[0]
    nearest = np.rint(np.interp(even, [places[index] for index, _ in kept], range(len(kept)))).astype(int)
    spare = dict(kept[i] for i in nearest)
    chosen = {0: kept[0][1], **cuts}
    while len(chosen) < n and (left := spare.keys() - chosen.keys()):
        farthest = max(sorted(left), key=lambda i: min(abs(places[i] - places[j]) for j in chosen))
        chosen[farthest] = spare[farthest]
    return [chosen[i] for i in sorted(chosen)]
