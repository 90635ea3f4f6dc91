"""Thumbnails: small JPEG key frames and a spectrogram of each video, from the same decode as its vectors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import pyarrow as pa

from nmcl.pipeline.needs import Frames, Need, Sound
from nmcl.pipeline.records import Content
from nmcl.pipeline.storage.artifacts import Artifact, write_with_digest
from nmcl.pipeline.storage.catalogue import Catalogue, Part
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import count_values, encode, has_column, read_table

SPECTROGRAM = "spectrogram"
"""Column that parts of earlier versions lack."""
_SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("images", pa.list_(pa.binary())),
        pa.field("times_s", pa.list_(pa.float32())),
        pa.field(SPECTROGRAM, pa.binary()),
    ]
)


class Encoder(Protocol):
    """Protocol of what makes JPEG files of key frames and of sound."""

    frames: Frames
    sound: Sound
    backfill: bool
    """Whether videos are decoded only for their thumbnails."""

    def encoded(self, frames: np.ndarray) -> tuple[list[int], list[bytes]]:
        """Return the positions of the chosen frames, of shape (n, height, width, 3), uint8, and their JPEG files."""

    def spectrogram(self, waveform: np.ndarray) -> bytes:
        """Return the JPEG file of the spectrogram of a sound (n_samples,), int16, at the rate of `sound`."""


@dataclass(frozen=True)
class Images:
    """Thumbnails of one video."""

    files: tuple[bytes, ...] = ()
    """JPEG files, in order of time; none if the picture cannot be decoded."""
    times_s: tuple[float, ...] = ()
    """Time of each in seconds from the beginning of the video."""
    spectrogram: bytes | None = None
    """JPEG file; None if the sound was not decoded."""


@dataclass(frozen=True)
class Thumbnails:
    """What makes thumbnails, and the output artifact."""

    encoder: Encoder
    artifact: Artifact

    def is_to_make(self, store: Store, part: Part, is_decoded: bool, first_time: bool) -> bool:
        """Return whether a part lacks thumbnails and gets them now: if its pictures are decoded anyway, or on demand.

        Args:
            is_decoded: Whether something else needs the pictures of all its videos.
            first_time: Whether its videos were never decoded, whatever thumbnails there are.
        """
        is_wanted = is_decoded or self.encoder.backfill
        return is_wanted and (first_time or not self.has_part(store, part))

    def has_part(self, store: Store, part: Part) -> bool:
        """Return whether a part has thumbnails, made by a version that also keeps spectrograms."""
        name = self.artifact.part(part.key)
        return store.exists(name) and has_column(store, name, SPECTROGRAM)


@dataclass
class PartOfThumbnails:
    """Rows of a part: all new, or as written with what was not decoded then added."""

    encoder: Encoder
    rows: list[Images]
    is_changed: bool = field(default=False)

    def needs(self, with_sound: bool) -> list[Need]:
        """Return what any row lacks.

        Args:
            with_sound: Whether the sound of these videos is decoded for anything else.
        """
        needs: list[Need] = [] if all(row.files for row in self.rows) else [self.encoder.frames]
        if with_sound and not all(row.spectrogram for row in self.rows):
            needs.append(self.encoder.sound)
        return needs

    def filled(self, contents: Iterator[Content], others: Sequence[object]) -> Iterator[Content]:
        """Yield the contents without what is decoded for thumbnails only, and keep the thumbnails.

        Args:
            others: What else the contents are needed for.
        """
        frames, sound = self.encoder.frames, self.encoder.sound
        for i, content in enumerate(contents):
            row = self.rows[i]
            if (found := content.pictures.get(frames)) and not row.files:
                chosen, files = self.encoder.encoded(found.frames)
                row = replace(row, files=tuple(files), times_s=tuple(found.times_s[k] for k in chosen))
            if (waveform := content.sounds.get(sound)) is not None and row.spectrogram is None:
                row = replace(row, spectrogram=self.encoder.spectrogram(waveform))
            self.is_changed |= row is not self.rows[i]
            self.rows[i] = row
            yield replace(
                content,
                pictures={n: p for n, p in content.pictures.items() if n != frames or n in others},
                sounds={n: s for n, s in content.sounds.items() if n != sound or n in others},
            )


def write_thumbnails(
    store: Store, artifact: Artifact, part: Part, video_ids: Sequence[str], rows: list[Images]
) -> None:
    """Write a part of thumbnails."""
    columns = [
        pa.array(video_ids, pa.string()),
        pa.array([list(row.files) or None for row in rows], pa.list_(pa.binary())),
        pa.array([list(row.times_s) or None for row in rows], pa.list_(pa.float32())),
        pa.array([row.spectrogram for row in rows], pa.binary()),
    ]
    artifact.note_recipe(store)
    write_with_digest(store, artifact.part(part.key), encode(pa.table(columns, schema=_SCHEMA)))


def folder_of_thumbnails(store: Store, catalogue: Catalogue, preferred: str | None = None) -> str | None:
    """Return the thumbnails that show most videos of a catalogue; None if none shows any.

    Args:
        preferred: Folder that is chosen before others that show as many.
    """
    shown = {
        f"thumbnails/{name}": _n_shown(store, f"thumbnails/{name}", catalogue) for name in store.list("thumbnails")
    }
    best = max(shown, key=lambda folder: (shown[folder], folder == preferred), default=None)
    return best if best and shown[best] else None


def count_pictured(store: Store, catalogue: Catalogue) -> int:
    """Return the number of videos of a catalogue that pages show with thumbnails."""
    folder = folder_of_thumbnails(store, catalogue)
    return _n_shown(store, folder, catalogue) if folder else 0


def _n_shown(store: Store, folder: str, catalogue: Catalogue) -> int:
    there = set(store.list(folder))
    names = [name for _, part in catalogue.parts() if (name := f"part-{part.key}.parquet") in there]
    return sum(count_values(store, f"{folder}/{name}", "images")[1] for name in names)


def load_thumbnails(store: Store, folder: str, part: Part) -> list[Images]:
    """Return the thumbnails of a part in the order of its videos; empty ones if none were kept.

    Args:
        folder: Folder of the artifact.
    """
    name = f"{folder}/part-{part.key}.parquet"
    if not store.exists(name):
        return [Images()] * part.n_videos
    table = read_table(store, name, part.n_videos)
    columns = [table.column(column).to_pylist() for column in ("images", "times_s")]
    is_early = SPECTROGRAM not in table.column_names
    columns.append([None] * len(table) if is_early else table.column(SPECTROGRAM).to_pylist())
    rows = zip(*columns, strict=True)
    return [Images(tuple(files or ()), tuple(times_s or ()), sound) for files, times_s, sound in rows]
