"""What extractors need of a video: frames, sound or text. Needs are values: equal needs are served once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

SAMPLE_RATE_HZ = 22_050
"""Sample rate of the paper's sound (section 4.2.2)."""

TextSource = Literal["description", "title", "tags", "subtitles", "ocr"]
"""Where a text about a video comes from; `ocr` is text on screen."""
DESCRIPTION: TextSource = "description"
"""Source of text that every catalogue has."""
OCR: TextSource = "ocr"

Stream = Literal["frames", "waveform"]
"""What a file is decoded to. Either may be absent or fail on its own."""


@dataclass(frozen=True)
class TimedFrame:
    """One decoded picture."""

    time_s: float
    """Display time in seconds from the beginning of the clip."""
    luma: np.ndarray
    """Brightness as stored by the codec: shape (height, width), uint8. Read-only."""
    picture: Callable[[], np.ndarray]
    """Return the picture: shape (height, width, 3), uint8, RGB, upright. Slower than decoding: call for few frames
    only."""


class Selection(Protocol):
    """Protocol of a selection of frames in progress. Frames are kept by reference; keep few."""

    def add(self, frame: TimedFrame) -> None:
        """Take the next frame of the clip, in order of time."""

    def chosen(self) -> Sequence[TimedFrame]:
        """Return the selected frames in order of time, at least one. Called once, after at least one frame."""


class FrameSelector(Protocol):
    """Protocol of frame selectors, which run in the decoding process. Must be hashable and picklable by value."""

    def start(self) -> Selection:
        """Return a new selection for one clip."""


class Picture(Protocol):
    """Protocol of picture preprocessing, which runs in the decoding process. Must be hashable and picklable."""

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture (height, width, 3), uint8, RGB as the network takes it, of one shape for all pictures."""


@dataclass(frozen=True)
class Frames:
    """Need of some frames of the picture."""

    selector: FrameSelector
    """Which frames."""
    picture: Picture
    """Their preprocessing, usually scaling and cropping."""
    stream: ClassVar[Stream] = "frames"


@dataclass(frozen=True)
class Sound:
    """Need of the soundtrack, mono, 16 bits."""

    rate_hz: int = SAMPLE_RATE_HZ
    """Sample rate."""
    stream: ClassVar[Stream] = "waveform"


@dataclass(frozen=True)
class Text:
    """Need of a text about the video. Nothing is decoded for it."""

    source: TextSource = DESCRIPTION
    stream: ClassVar[None] = None


Need = Frames | Sound | Text
