"""What lies beside a video: yt-dlp's `<name>.info.json` and `<name>.description`.

A crawl that was interrupted leaves broken sidecars behind. They are noted: the video is still there.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.crawl_files import CrawlFiles, examples
from pipeline.manifest_files import composed
from pipeline.words import counted

N_BYTES_MAX = 32 * 2**20  # lists of formats and comments make a sidecar long, but not this long


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar says of its video; None where it says nothing."""

    video_id: str | None = None
    description: str | None = None
    venue: str | None = None


class SidecarReader:
    """Reads the sidecars of one crawl, and remembers which could not be read."""

    def __init__(self, files: CrawlFiles) -> None:
        self._files = files
        self._broken: list[str] = []
        self.n_read = 0

    def beside(self, video: str) -> Sidecar:
        """What lies beside a video; an empty Sidecar if nothing does."""
        info = self._info(video)
        description = _description(info) or self._description_file(video)
        venue = _text(info.get("venue")) or _text(info.get("location"))
        return Sidecar(_text(info.get("id")), description, venue)

    def notes(self) -> tuple[str, ...]:
        """What the user should know of the sidecars read so far."""
        if not self._broken:
            return ()
        return (
            f"{counted(len(self._broken), 'sidecar is', 'sidecars are')} not valid JSON and left out: "
            f"{examples(self._broken)}. Download them again to use them.",
        )

    def _info(self, video: str) -> dict[str, object]:
        path = self._files.sidecar(video, ".info.json")
        if path is None:
            return {}
        try:
            info = json.loads(_bytes(self._files.root / path))
        except (OSError, ValueError, RecursionError):  # nested too deeply
            info = None
        if not isinstance(info, dict):
            self._broken.append(path)
            return {}
        self.n_read += 1
        return info

    def _description_file(self, video: str) -> str | None:
        path = self._files.sidecar(video, ".description")
        if path is None:
            return None
        try:
            return _text(_bytes(self._files.root / path).decode("utf-8-sig", "replace"))
        except OSError:
            self._broken.append(path)
            return None


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(N_BYTES_MAX)  # a longer one is cut, and so no valid JSON


def _description(info: dict[str, object]) -> str | None:
    text = _text(info.get("description")) or _text(info.get("title"))
    tags = info.get("tags")
    if not isinstance(tags, list):
        return text
    used = {word.rstrip(".,;:!?").casefold() for word in re.findall(r"#[^\s#]+", text or "")}
    for tag in tags:
        word = "#" + re.sub(r"\s", "", _text(tag) or "").lstrip("#")
        if word != "#" and word.casefold() not in used:
            used.add(word.casefold())
            text = f"{text} {word}" if text else word
    return text


def _text(value: object) -> str | None:
    """A JSON value as text; a place may be an object with a name."""
    if isinstance(value, dict):
        value = value.get("name")
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).replace("\0", " ").encode("utf-8", "replace").decode()
    return composed(text).strip() or None
