"""Renderer of a small sample crawl for users without videos of their own.

The videos are drawn and synthesised. They show that everything works; they are no evidence of accuracy.
"""

import csv
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from nmcl.pipeline.crawl.sample_scenes import FRAME_RATE, SAMPLE_RATE_HZ, VENUES, caption, picture, sound
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.scratch import scratch

SAMPLE_NOTE = "A rendered sample, not filmed: it shows that the pipeline works and is no evidence of accuracy."
N_PER_VENUE = 60
N_WITHOUT_VENUE = 12
N_SIDECARS = 6
MARK = "sample.json"
VERSION = 1  # raise it when the same seed renders other bytes

STRAY_SHARE = 0.18
"""Share of pictures, of sounds and of captions taken from another venue, so that no modality suffices alone."""
SILENT_SHARE = 0.05
UNDESCRIBED_SHARE = 0.1

_README = """{note}

{n_videos} files of about two seconds, drawn and synthesised by `nmcl` with seed {seed}:

- {n_labelled} videos of the venues {venues}, {n_per_venue} of each;
- {n_unlabelled} videos without a venue, to be predicted;
- {broken}: not a video, although its name says so;
- {reupload}: the same bytes as {original}.

About {stray:.0%} of the pictures, of the sounds and of the captions are of another venue than the video.
About {silent:.0%} have no soundtrack and about {undescribed:.0%} no description.
Scores reached here say nothing about videos that people filmed.
"""


@dataclass(frozen=True)
class _Plan:
    """Plan of one video of the sample."""

    video_id: str
    venue: str | None
    """Venue written to the manifest."""
    shows: str
    sounds_like: str | None
    """None: the file has no soundtrack."""
    description: str | None

    @property
    def path(self) -> str:
        return f"videos/{self.video_id}.mp4"


def is_sample(folder: Path) -> bool:
    """Return whether `make_sample` wrote this folder; if so, every page about it must show `SAMPLE_NOTE`."""
    return (folder / MARK).is_file()


def make_sample(folder: Path, seed: int = 0, progress: Progress = silent) -> None:
    """Render the sample crawl into `folder`: videos, `manifest.csv`, a few `.info.json` and a `README.txt`.

    The same seed gives the same bytes. The folder appears whole or not at all; a sample already written with this seed
    is left as it is.

    Raises:
        CrawlError: If `folder` holds something else or a sample of another seed, or cannot be written.
    """
    if _is_done(folder, seed):
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with scratch("sample", folder.parent) as temporary:
            fresh = temporary / "sample"
            _write(fresh, seed, progress)
            if not _is_done(folder, seed):
                fresh.rename(folder)
    except OSError as e:
        raise CrawlError(f"Cannot write the sample to {folder}: {e}. Choose another folder.") from e


def _is_done(folder: Path, seed: int) -> bool:
    """Return True if there is nothing to do, False if the folder is free."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not is_sample(folder):
        raise CrawlError(f"{folder} exists and is not a sample crawl. Choose a folder that does not exist yet.")
    found = json.loads((folder / MARK).read_text(encoding="utf-8"))
    if found != _mark(seed):
        raise CrawlError(
            f"{folder} is a sample made with {found}; expected {_mark(seed)}. Remove the folder or choose another one."
        )
    return True


def _mark(seed: int) -> dict[str, int]:
    return {"seed": seed, "version": VERSION}


def _write(folder: Path, seed: int, progress: Progress) -> None:
    videos = folder / "videos"
    videos.mkdir(parents=True)
    plans = _plan(seed)
    for done, plan in enumerate(plans):
        progress("render sample", done, len(plans), "rendered, not filmed")
        rng = np.random.default_rng([seed, 1, done])
        samples = None if plan.sounds_like is None else sound(plan.sounds_like, rng)
        _encode(folder / plan.path, picture(plan.shows, rng), samples)
    progress("render sample", len(plans), len(plans), "rendered, not filmed")

    original = next(plan for plan in plans if plan.venue is not None and plan.sounds_like is not None)
    reupload = _Plan("reupload", original.venue, original.shows, original.sounds_like, original.description)
    shutil.copyfile(folder / original.path, folder / reupload.path)
    broken = _Plan("broken", VENUES[0], VENUES[0], None, "does not play for me either 😅")
    head = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41"  # then random bytes, like a failed download
    (folder / broken.path).write_bytes(head + np.random.default_rng([seed, 2]).bytes(3000))

    _write_manifest(folder / "manifest.csv", [*plans, reupload, broken])
    for plan in plans[:N_SIDECARS]:
        _write_sidecar(folder / f"videos/{plan.video_id}.info.json", plan)
    readme = _README.format(
        note=SAMPLE_NOTE,
        seed=seed,
        n_videos=len(plans) + 2,
        venues=", ".join(VENUES),
        n_per_venue=N_PER_VENUE,
        n_labelled=N_PER_VENUE * len(VENUES),
        n_unlabelled=N_WITHOUT_VENUE,
        broken=broken.path,
        reupload=reupload.path,
        original=original.path,
        stray=STRAY_SHARE,
        silent=SILENT_SHARE,
        undescribed=UNDESCRIBED_SHARE,
    )
    (folder / "README.txt").write_text(readme, encoding="utf-8")
    (folder / MARK).write_text(json.dumps(_mark(seed)) + "\n", encoding="utf-8")


def _plan(seed: int) -> list[_Plan]:
    """Return the readable videos in the order of their file names, which do not reveal the venue."""
    rng = np.random.default_rng([seed, 0])
    labelled = [(venue, True) for venue in VENUES for _ in range(N_PER_VENUE)]
    unlabelled = [(VENUES[i % len(VENUES)], False) for i in range(N_WITHOUT_VENUE)]
    wanted = [*labelled, *unlabelled]
    order = rng.permutation(len(wanted))
    return [_plan_one(f"v{i:04d}", wanted[place], rng) for i, place in enumerate(order)]


def _plan_one(video_id: str, wanted: tuple[str, bool], rng: np.random.Generator) -> _Plan:
    venue, is_labelled = wanted
    shows, sounds, reads = (_stray(venue, rng) for _ in range(3))
    words = caption(reads, rng)
    is_silent, is_undescribed = rng.random() < SILENT_SHARE, rng.random() < UNDESCRIBED_SHARE
    return _Plan(
        video_id=video_id,
        venue=venue if is_labelled else None,
        shows=shows,
        sounds_like=None if is_silent else sounds,
        description=None if is_undescribed else words,
    )


def _stray(venue: str, rng: np.random.Generator) -> str:
    others = [other for other in VENUES if other != venue]
    other = others[int(rng.integers(len(others)))]
    return other if rng.random() < STRAY_SHARE else venue


def _encode(path: Path, frames: Iterable[np.ndarray], samples: np.ndarray | None) -> None:
    """Write H.264 and AAC such that the same input gives the same bytes.

    Args:
        frames: Each (height, width, 3), uint8, RGB.
        samples: (n_samples,), int16, mono at `SAMPLE_RATE_HZ`; None: no soundtrack.
    """
    import av

    exact = {"flags": "+bitexact"}
    # Macroblock trees differ from run to run on processors with AVX-512, slices with the number of threads.
    h264 = exact | {"preset": "veryfast", "crf": "30", "x264-params": "mbtree=0"}
    aac = exact | {"aac_coder": "fast"}
    container = {"fflags": "+bitexact", "movflags": "+faststart"}
    with av.open(str(path), "w", format="mp4", options=container) as out:
        video = out.add_stream("libx264", rate=FRAME_RATE, options=h264)
        video.pix_fmt = "yuv420p"
        video.gop_size = FRAME_RATE
        video.thread_count = 1
        audio = None
        if samples is not None:
            audio = out.add_stream("aac", rate=SAMPLE_RATE_HZ, options=aac, layout="mono")
            audio.bit_rate = 32_000
        for i, pixels in enumerate(frames):
            if i == 0:
                video.height, video.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FRAME_RATE)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None and samples is not None:
            block = av.AudioFrame.from_ndarray(samples[None, :], format="s16", layout="mono")
            block.sample_rate, block.pts = SAMPLE_RATE_HZ, 0
            out.mux(audio.encode(block))
            out.mux(audio.encode(None))


def _write_manifest(path: Path, plans: list[_Plan]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["video_id", "video_path", "description", "venue"])
        rows.writerows([p.video_id, p.path, p.description or "", p.venue or ""] for p in plans)


def _write_sidecar(path: Path, plan: _Plan) -> None:
    """Write the relevant part of the sidecar that yt-dlp writes next to a download."""
    words = plan.description or ""
    info = {
        "id": plan.video_id,
        "title": words[:40],
        "description": plan.description,
        "ext": "mp4",
        "duration": 2.0,
        "fps": FRAME_RATE,
        "tags": [word[1:] for word in words.split() if word.startswith("#")],
        "extractor": "nmcl:sample",
    }
    path.write_text(json.dumps(info, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
