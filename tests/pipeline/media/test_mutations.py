"""Damaged files of every container at hand: each a clip or a typed failure, the same one each time.

`NMCL_MUTANTS` sets how many are tried.
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from nmcl.extractors.keyframes import KeyFrames
from nmcl.extractors.preprocess import Preprocess
from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.media import Decoder, MediaSettings, Request
from nmcl.pipeline.needs import Frames, Sound
from nmcl.pipeline.records import Content
from tests.forms import in_both_forms
from tests.media import run_ffmpeg, view

pytestmark = in_both_forms

N_MUTANTS = int(os.environ.get("NMCL_MUTANTS", "200"))
KINDS = {"unreadable", "no_picture", "no_sound", "too_large", "timeout", "crashed"}

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=1.5")
SOUND = ("-f", "lavfi", "-i", "sine=440:duration=1.5")
CONTAINERS: dict[str, tuple[object, ...]] = {
    "mp4": (*PICTURE, *SOUND, "-c:v", "libx264", "-c:a", "aac"),
    "hevc.mp4": (*PICTURE, *SOUND, "-c:v", "libx265", "-x265-params", "log-level=none", "-c:a", "ac3"),
    "fragmented.mp4": (*PICTURE, *SOUND, "-movflags", "frag_keyframe+empty_moov", "-g", 5),
    "mov": (*PICTURE, *SOUND, "-c:v", "mjpeg", "-c:a", "pcm_s16be"),
    "raw.mov": (*PICTURE, *SOUND, "-c:v", "rawvideo", "-pix_fmt", "yuv420p", "-c:a", "alac"),
    "mkv": (*PICTURE, *SOUND, "-c:v", "libx264", "-c:a", "flac"),
    "ffv1.mkv": (*PICTURE, *SOUND, "-c:v", "ffv1", "-c:a", "libvorbis"),
    "webm": (*PICTURE, *SOUND, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus"),
    "av1.webm": (*PICTURE, *SOUND, "-c:v", "libsvtav1", "-preset", 12, "-c:a", "libopus"),
    "avi": (*PICTURE, *SOUND, "-c:v", "mpeg4", "-c:a", "mp2"),
    "raw.avi": (*PICTURE, *SOUND, "-c:v", "rawvideo", "-pix_fmt", "bgr24", "-c:a", "pcm_u8"),
    "ts": (*PICTURE, *SOUND, "-c:v", "libx264", "-c:a", "aac"),
    "mpg": (*PICTURE, *SOUND, "-c:v", "mpeg2video", "-r", 25, "-c:a", "mp2"),
    "flv": (*PICTURE, *SOUND, "-c:v", "flv", "-ar", 44_100, "-c:a", "libmp3lame"),
    "3gp": (*PICTURE, *SOUND, "-c:v", "h263", "-s", "128x96", "-c:a", "aac"),
    "ogv": (*PICTURE, *SOUND, "-c:v", "libtheora", "-c:a", "libvorbis"),
    "wmv": (*PICTURE, *SOUND, "-c:v", "wmv2", "-c:a", "wmav2"),
    "nut": (*PICTURE, *SOUND, "-c:v", "ffvhuff", "-c:a", "pcm_f32le"),
    "mxf": (*PICTURE, *SOUND, "-c:v", "mpeg2video", "-r", 25, "-ar", 48_000, "-c:a", "pcm_s16le"),
    "gif": PICTURE,
    "apng": PICTURE,
    "webp": (*PICTURE, "-c:v", "libwebp_anim"),
    "wav": SOUND,
    "flac": SOUND,
    "mp3": SOUND,
    "ogg": (*SOUND, "-c:a", "libvorbis"),
    "opus": SOUND,
    "m4a": SOUND,
    "aiff": SOUND,
    "au": SOUND,
    "caf": SOUND,
    "amr": (*SOUND, "-ar", 8000, "-c:a", "libopencore_amrnb"),
    "ac3": SOUND,
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One small file of each container."""
    folder = tmp_path_factory.mktemp("originals")
    for name, arguments in CONTAINERS.items():
        run_ffmpeg(*arguments, folder / f"file.{name}")
    return {name: (folder / f"file.{name}").read_bytes() for name in CONTAINERS}


def flip(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """A few bits, in the header or anywhere."""
    changed = np.frombuffer(content, np.uint8).copy()
    reach = len(changed) if rng.random() < 0.5 else min(len(changed), 2000)
    for _ in range(rng.integers(1, 30)):
        changed[rng.integers(reach)] ^= 1 << rng.integers(8)
    return changed.tobytes()


def cut(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """The end is missing, or a piece of the middle."""
    begin, end = sorted(rng.integers(0, len(content), 2))
    return content[:begin] if rng.random() < 0.4 else content[:begin] + content[end:]


def splice(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """A piece of another file, over its own bytes or between them."""
    other = others[rng.integers(len(others))]
    begin, end = sorted(rng.integers(0, len(other), 2))
    piece = other[begin : min(end, begin + 4000)]
    at = int(rng.integers(len(content)))
    return content[:at] + piece + content[at + (len(piece) if rng.random() < 0.5 else 0) :]


def lie(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """Numbers beside the names of boxes and chunks: sizes, counts, dimensions."""
    names = [match.start() for match in re.finditer(rb"[A-Za-z]{4}", content[:20_000])] or [0]
    changed = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at = max(0, names[rng.integers(len(names))] + int(rng.choice([-4, 4, 8, 12, 16, 24])))
        number = int(rng.choice([0, 1, 7, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1]))
        changed[at : at + 4] = number.to_bytes(4, "big" if rng.random() < 0.5 else "little")
    return bytes(changed)


def repeat(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """A piece comes several times."""
    begin, end = sorted(rng.integers(0, len(content), 2))
    return content[:end] + content[begin:end] * int(rng.integers(1, 4)) + content[end:]


MUTATORS: list[Callable[[bytes, list[bytes], np.random.Generator], bytes]] = [flip, cut, splice, lie, repeat]


def test_damaged_files_are_clips_or_typed_failures(tmp_path: Path, originals: dict[str, bytes]) -> None:
    rng = np.random.default_rng(21)
    names, contents = list(originals), list(originals.values())
    requests = []
    for i in range(N_MUTANTS):
        name = names[i % len(names)]
        content = originals[name]
        for _ in range(rng.integers(1, 3)):
            content = MUTATORS[rng.integers(len(MUTATORS))](content, contents, rng) or b"\0"
        path = tmp_path / f"{i}.{name}"
        path.write_bytes(content)
        requests.append(Request(path, (Frames(KeyFrames(4), Preprocess(resize=32, crop=32)), Sound())))
    again = requests[:: max(1, N_MUTANTS // 100)]
    outcomes, peak = [], 0
    with Decoder(MediaSettings(timeout_s=120, workers=2, memory_mb=1024)) as decoder:
        for outcome in decoder.contents([*requests, *again]):
            outcomes.append(outcome)
            if len(outcomes) % 20 == 0:
                peak = max([peak, *map(_peak_bytes, psutil.Process().children())])
    counts = Counter(_summary(outcome) for outcome in outcomes[:N_MUTANTS])
    for summary, count in counts.most_common():
        print(f"{count:6} {summary}")
    print(f"peak memory of a decoding process: {peak / 2**20:.0f} MiB")
    for request, outcome in zip(requests, outcomes, strict=False):
        assert _kinds(outcome) <= KINDS, (request.path.name, outcome)
    first = dict(zip((request.path for request in requests), outcomes, strict=False))
    for request, outcome in zip(again, outcomes[N_MUTANTS:], strict=True):
        assert _content(outcome) == _content(first[request.path]), request.path.name


def _kinds(outcome: Content | ClipError) -> set[str]:
    failures = [outcome] if isinstance(outcome, ClipError) else outcome.problems.values()
    return {failure.kind for failure in failures}


def _summary(outcome: Content | ClipError) -> str:
    if isinstance(outcome, ClipError):
        return outcome.kind
    of = {need: problem.kind for need, problem in outcome.problems.items()}
    return f"picture {of.get('frames', 'ok')}, sound {of.get('waveform', 'ok')}"


def _content(outcome: Content | ClipError) -> object:
    if isinstance(outcome, ClipError):
        return str(outcome)
    found = view(outcome)
    arrays = [None if array is None else array.tobytes() for array in (found.frames, found.waveform)]
    return arrays, found.frame_times_s, {stream: str(problem) for stream, problem in found.problems.items()}


def _peak_bytes(process: psutil.Process) -> int:
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        return int(found[1]) * 1024 if found else 0
    return 0
