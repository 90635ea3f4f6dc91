"""Writes a gallery: a page and a side folder, from which it loads what is on the screen."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmcl.flows.report.gallery_data import Gallery, GalleryVideo
from nmcl.flows.report.numbers import printable, shortened
from nmcl.flows.report.render import render_page
from nmcl.flows.report.run_page import script, video_json
from nmcl.pipeline.errors import UserError
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.storage.files import write_whole

PAGE, SIDE = "index.html", "data"
CHUNK = 250
"""Videos per file of details."""
CAPTION = 80
"""Maximum length of a description in the index, which the search looks through."""


def write_gallery(gallery: Gallery, folder: Path, progress: Progress = silent) -> Path:
    """Write a gallery into a folder, in place of an earlier one. Returns the page.

    Raises:
        UserError: If the folder holds something else.
        StoreError: If a file cannot be written.
    """
    page = folder / PAGE
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file. Name a new folder with --to.")
    if folder.exists() and any(folder.iterdir()) and not (page.exists() and (folder / SIDE / "index.js").exists()):
        raise UserError(f"{folder} holds something else than a gallery. Name a new folder with --to.")
    shutil.rmtree(folder / SIDE, ignore_errors=True)
    videos, total = gallery.videos, len(gallery.videos)
    for start in range(0, total, CHUNK):
        chunk = videos[start : start + CHUNK]
        details = [_details(video, start + i) for i, video in enumerate(chunk)]
        write_whole(folder / SIDE / f"details-{start // CHUNK}.js", _call("nmclDetails", start // CHUNK, details))
        for i, video in enumerate(chunk, start):
            for k, image in enumerate(video.shown.images):
                _write_image(folder / SIDE / _image(i, k), image)
            if video.shown.spectrogram:
                _write_image(folder / SIDE / _image(i, "sound"), video.shown.spectrogram)
        progress("gallery", min(start + CHUNK, total), total)
    write_whole(folder / SIDE / "vega.js", script("vega.js").encode())
    write_whole(folder / SIDE / "index.js", _call("nmclIndex", index(gallery)))
    write_whole(page, _page(gallery).encode())
    return page


def _write_image(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def _page(gallery: Gallery) -> str:
    return render_page(
        "gallery.html",
        styles=("style.css", "run.css", "gallery.css"),
        gallery=gallery,
        has_map=any(video.place for video in gallery.videos),
        script=script("cards.js", "gallery.js"),
    )


def index(gallery: Gallery) -> dict[str, Any]:
    """Return what filters, cards and map need of all videos, as columns."""
    venues = list(dict.fromkeys([*gallery.classes, *(v.shown.venue for v in gallery.videos if v.shown.venue)]))
    number = {name: i for i, name in enumerate(venues)}
    return {
        "chunk": CHUNK,
        "venues": list(map(printable, venues)),
        "id": [printable(video.shown.video_id) for video in gallery.videos],
        "text": [shortened(printable(video.shown.description or ""), CAPTION) for video in gallery.videos],
        "venue": [number.get(video.shown.venue or "", -1) for video in gallery.videos],
        "predicted": [number[video.shown.top[0][0]] if video.shown.top else -1 for video in gallery.videos],
        "confidence": [round(video.shown.confidence, 3) for video in gallery.videos],
        "agreement": [_agreement(video) for video in gallery.videos],
        "split": [video.split for video in gallery.videos],
        "images": [len(video.shown.images) for video in gallery.videos],
        "place": [video.place and [round(at, 4) for at in video.place] for video in gallery.videos],
    }


def _agreement(video: GalleryVideo) -> float | None:
    """Return the share of feature sets that predict the same venue as all of them together."""
    votes = [vote.venue for vote in video.shown.votes.values() if vote.venue is not None]
    if not votes or not video.shown.top:
        return None
    return round(votes.count(video.shown.top[0][0]) / len(votes), 3)


def _details(video: GalleryVideo, i: int) -> dict[str, Any]:
    images = [f"{SIDE}/{_image(i, k)}" for k in range(len(video.shown.images))]
    spectrogram = f"{SIDE}/{_image(i, 'sound')}" if video.shown.spectrogram else None
    own = {"images": images, "spectrogram": spectrogram, "split": video.split, "address": video.address}
    return {**video_json(video.shown), **own}


def _image(i: int, which: int | str) -> str:
    """Return the file of a video's key frame, or of its `sound`."""
    return f"images/{i // CHUNK}/{i}-{which}.jpg"


def _call(function: str, *values: object) -> bytes:
    """Return a script that hands JSON to a function of the page: a page on a disk may load scripts, but no data."""
    texts: Sequence[str] = [json.dumps(value, allow_nan=False, separators=(",", ":")) for value in values]
    return f"{function}({','.join(texts)});\n".encode()
