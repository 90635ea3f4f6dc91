"""Two reference decoders for trusted files: the simplest, and one that does the least work possible."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from nmcl.pipeline.needs import SAMPLE_RATE_HZ, TimedFrame


def every_frame(path: Path) -> Iterator[TimedFrame]:
    """Yield all frames, decoded by OpenCV with its defaults."""
    import cv2

    capture = cv2.VideoCapture(str(path))
    while True:
        ok, pixels = capture.read()
        if not ok:
            break
        time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        yield TimedFrame(time_s, grey, partial(cv2.cvtColor, pixels, cv2.COLOR_BGR2RGB))
    capture.release()


def needed_only(path: Path, times_s: Sequence[float]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the frames at these times, (height, width, 3) uint8 RGB, and the sound, (n_samples,) int16 at 22,050 Hz.

    The file is opened once, on one thread; other frames are decoded only if frames refer to them.
    """
    import av

    frames: list[np.ndarray] = []
    sound: list[np.ndarray] = []
    wanted = sorted(times_s)
    with av.open(str(path), metadata_errors="replace") as container:
        video = container.streams.video[0]
        video.codec_context.thread_count = 1
        streams = [video, *container.streams.audio[:1]]
        resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ)
        begin = (video.start_time or 0) * float(video.time_base or 0)
        half_frame_s = 0.5 / float(video.average_rate or 25)

        def is_wanted(time_s: float | None) -> bool:
            return time_s is not None and any(abs(time_s - begin - t) < half_frame_s for t in wanted)

        for packet in container.demux(streams):
            if packet.stream.type == "audio":
                for heard in packet.decode():
                    sound += [block.to_ndarray()[0] for block in resampler.resample(heard)]  # type: ignore[arg-type]
            elif len(frames) < len(wanted):
                time_s = None if packet.pts is None else float(packet.pts * packet.time_base)
                video.codec_context.skip_frame = "DEFAULT" if is_wanted(time_s) else "NONREF"
                shown = (frame for frame in packet.decode() if isinstance(frame, av.VideoFrame))
                frames += [frame.to_ndarray(format="rgb24") for frame in shown if is_wanted(frame.time)]
    return frames, np.concatenate(sound) if sound else np.zeros(0, np.int16)


def n_needed(path: Path, times_s: Sequence[float]) -> int:
    """Run `needed_only` but drop pictures and sound: for other processes, to time the decoding alone."""
    return len(needed_only(path, times_s)[0])
