"""Header of one media file: its duration, size and codecs, and which limits cut it. Read in a process of its own."""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.media import work
from nmcl.pipeline.media.failures import clip_error
from nmcl.pipeline.media.files import container_of, opened
from nmcl.pipeline.media.limits import MediaSettings
from nmcl.pipeline.media.streams import is_decodable, main_picture, main_sound
from nmcl.pipeline.processes import die_with_parent

TIMEOUT_S = 30.0
MEMORY_MB = 2048


@dataclass(frozen=True)
class Header:
    """What the header of a file says; None where it says nothing."""

    container: str
    duration_s: float | None
    width: int | None
    height: int | None
    frame_rate: float | None
    picture_codec: str | None
    sound_codec: str | None
    limits: tuple[str, ...]
    """Sentences about the limits that cut what was decoded; empty if everything was."""


def probe(path: Path, settings: MediaSettings) -> Header | ClipError:
    """Return the header of a file of this machine, or why it cannot be read."""
    command = [sys.executable, "-m", "nmcl.pipeline.media.probe"]
    job = json.dumps({"path": str(path), "settings": asdict(settings)})
    try:
        done = subprocess.run(command, input=job.encode(), capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return ClipError("timeout", f"its header was not read within {TIMEOUT_S:g} s")
    if done.returncode:
        return ClipError("crashed", f"the process that read its header ended with status {done.returncode}")
    found = json.loads(done.stdout)
    if "kind" in found:
        return ClipError(**found)
    return Header(**{**found, "limits": tuple(found["limits"])})


def _header(path: Path, settings: MediaSettings) -> Header:
    with opened(path) as file, container_of(file, path, settings.max_pixels) as container:
        picture, sound = main_picture(container.streams.video), main_sound(container.streams.audio)
        duration_s = container.duration / 10**6 if container.duration else None
        rate = float(picture.average_rate or picture.guessed_rate or 0) if picture else 0.0
        limits = []
        if duration_s and duration_s > settings.max_seconds:
            limits.append(
                f"Only the first {settings.max_seconds:g} s of {duration_s:.1f} s are used: media.max_seconds."
            )
        if picture is not None:
            context = picture.codec_context
            n_frames = work.estimated_frames(container, picture, settings)
            cost = work.cost(context.name, context.width * context.height)
            if n_frames and n_frames * cost > work.budget(settings):
                limits.append(
                    f"Only parts of the picture are decoded: {n_frames * cost / 10**6:,.0f} megapixels of work, more "
                    f"than media.budget_megapixels = {settings.budget_megapixels:,}."
                )
        return Header(
            container=container.format.name,
            duration_s=duration_s,
            width=picture.codec_context.width if picture else None,
            height=picture.codec_context.height if picture else None,
            frame_rate=rate or None,
            picture_codec=picture.codec_context.name if picture else None,
            sound_codec=sound.codec_context.name if sound and is_decodable(sound) else None,
            limits=tuple(limits),
        )


def _answer() -> dict[str, object]:
    """Return the header that the standard input asks for, or the failure."""
    job = json.load(sys.stdin)
    settings = MediaSettings(**job["settings"])
    try:
        return asdict(_header(Path(job["path"]), settings))
    except Exception as error:  # noqa: BLE001 (any error is an outcome of this file alone)
        failure = clip_error(error, MEMORY_MB)
        return {"kind": failure.kind, "detail": failure.detail}


if __name__ == "__main__":
    die_with_parent(signal.SIGKILL)
    import av

    av.logging.set_level(av.logging.PANIC)
    _limit = MEMORY_MB * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (_limit, _limit))
    sys.stdout.write(json.dumps(_answer()))
    sys.stdout.flush()
    os._exit(0)
