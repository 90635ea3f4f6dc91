"""Extraction of some files of this machine, without a store of the user's own."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nmcl.extractors.plugins import NONE, installed
from nmcl.extractors.registry import EXTRACTORS
from nmcl.flows.feature_settings import DEFAULTS
from nmcl.flows.run.extractors import Extractors
from nmcl.flows.run.parts import ExtractPart, loaded_here, work_items
from nmcl.flows.settings import from_tree
from nmcl.flows.settings_tree import Tree
from nmcl.flows.stored_settings import checked
from nmcl.pipeline.errors import CrawlError, SettingsError
from nmcl.pipeline.export.rows import to_pandas
from nmcl.pipeline.needs import DESCRIPTION, OCR, Text
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Steps, Video
from nmcl.pipeline.scratch import scratch
from nmcl.pipeline.stages.vectors import load_sequences, load_vectors
from nmcl.pipeline.storage.catalogue import Catalogue, Crawl, make_part
from nmcl.pipeline.storage.failures import Failure, load_failures
from nmcl.pipeline.storage.store import Store, is_url
from nmcl.pipeline.storage.tables import from_vectors
from nmcl.pipeline.text import hint

_UNREAD = "0" * 64
"""Hash of a file that cannot be read: the decoder then says why."""


@dataclass(frozen=True)
class Extraction:
    """Vectors of N files."""

    ids: list[str]
    """Paths as they were given."""
    features: dict[str, np.ndarray]
    """Vectors by feature set, shape (N, D), float32; NaN rows where the modality is absent or failed."""
    problems: dict[str, tuple[Failure, ...]]
    """Failures by path, each with its kind and detail. A video without sound is no failure."""
    sequences: dict[str, list[Steps | None]]
    """What the vectors of N files were pooled from, by feature set that keeps it; None where absent."""

    def to_arrow(self) -> pa.Table:
        """Return one row per file: `video_id`, and a column of vectors per feature set, null where absent."""
        vectors = {name: from_vectors(array) for name, array in self.features.items()}
        return pa.table({"video_id": pa.array(self.ids, pa.string()), **vectors})

    def to_pandas(self) -> Any:
        """Return `to_arrow` as a pandas data frame; a vector is a NumPy array.

        Raises:
            UserError: If pandas is not installed.
        """
        return to_pandas(self.to_arrow())


def extract(
    paths: str | Path | Sequence[str | Path],
    features: Sequence[str] | Mapping[str, Mapping[str, Any]],
    descriptions: Sequence[str | None] | None = None,
    progress: Progress = silent,
) -> Extraction:
    """Extract feature vectors of some video files of this machine, without a store.

    Files are decoded in processes of their own. One that cannot be decoded gets NaN and a problem.

    Args:
        paths: Video files.
        features: Names of extractors, as `nmcl features` lists them; or, to change their settings, feature sets by
            name, such as `{"frames": {"extractor": "resnet50", "key_frames": 4}}`.
        descriptions: Texts of the files, in the same order, for textual extractors.
        progress: Progress callback.

    Raises:
        SettingsError: If there is no such extractor or setting, an extractor must be fitted on a crawl first, or one of
            texts has no descriptions.
        CrawlError: If a path is a folder, a URL or given twice, or the descriptions are not as many.
        WeightsError: If the weights of a network cannot be had.
    """
    extractors = Extractors(checked(from_tree(_tree(features))))
    _require_no_crawl(extractors)
    if descriptions is None:
        _require_no_description(extractors)
    extractors.fetch()
    paths = [paths] if isinstance(paths, str | Path) else paths
    with listed_in_store(paths, descriptions) as (store, catalogue), loaded_here():
        artifacts = {name: extractors.features(name, None) for name in extractors.all}
        failures = extractors.failures()
        work = ExtractPart(store, extractors, {}, artifacts, failures)
        for item in work_items(catalogue):
            work(item, progress)
        parts = [part for _, part in catalogue.parts()]
        return Extraction(
            ids=[str(path) for path in paths],
            features={
                name: np.concatenate([load_vectors(store, artifact, part) for part in parts])
                for name, artifact in artifacts.items()
            },
            problems={path: found for part in parts for path, found in load_failures(store, failures, part).items()},
            sequences={
                name: steps
                for name, artifact in artifacts.items()
                if any(steps := [s for part in parts for s in load_sequences(store, artifact, part)])
            },
        )


@contextmanager
def listed_in_store(
    paths: Sequence[str | Path], descriptions: Sequence[str | None] | None
) -> Iterator[tuple[Store, Catalogue]]:
    """Provide a temporary store whose catalogue lists some files of this machine; their paths are the ids.

    Raises:
        CrawlError: If there is no path, one is a folder, a URL or given twice, or the descriptions are not as many.
    """
    texts = [None] * len(paths) if descriptions is None else list(descriptions)
    if not paths:
        raise CrawlError("Found no path; give at least one video file.")
    if len(texts) != len(paths):
        raise CrawlError(f"Found {len(texts)} descriptions for {len(paths)} files; give one for each, or None.")
    if twice := [path for path, n in Counter(map(str, paths)).items() if n > 1]:
        raise CrawlError(f"{twice[0]} is given twice; give each file once.")
    for path in map(str, paths):
        if is_url(path) or os.path.isdir(path):
            what = "URL" if is_url(path) else "folder"
            raise CrawlError(
                f"{path} is a {what}; expected video files of this machine. A whole folder or URL goes into a store: "
                f"`nmcl extract {path} --out OUT`."
            )
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    videos = [_video(str(path), folder, text) for path, text in zip(paths, texts, strict=True)]
    with scratch("files") as temporary:
        store = Store.create(temporary / "store")
        yield store, Catalogue((Crawl("files", folder, (make_part(store, videos),), ()),))


def _video(path: str, folder: str, description: str | None) -> Video:
    n_bytes, sha256 = 0, _UNREAD
    if os.path.isfile(path):  # opening a pipe would wait
        with suppress(OSError), open(path, "rb") as file:
            n_bytes, sha256 = os.path.getsize(path), hashlib.file_digest(file, "sha256").hexdigest()
    relative = os.path.relpath(os.path.abspath(path), folder)
    return Video(path, "files", relative, sha256, n_bytes, description, None, None, None)


def _tree(features: Sequence[str] | Mapping[str, Mapping[str, Any]]) -> Tree:
    """Return settings with these feature sets alone."""
    if isinstance(features, str):
        raise SettingsError(f"features is {features!r}; expected a list, such as [{features!r}].")
    if isinstance(features, Mapping):
        sets = {name: dict(values) for name, values in features.items()}
    else:
        known = [*EXTRACTORS, *installed()]
        for name in features:
            if name not in known:
                raise SettingsError(
                    f"There is no extractor {name!r}.{hint(name, known)} Expected some of {', '.join(known)}."
                )
        sets = {name: {"extractor": name} for name in features}
    return {"features": {**{name: {"extractor": NONE} for name in DEFAULTS}, **sets}}


def _require_no_crawl(extractors: Extractors) -> None:
    """Raise SettingsError if an extractor has to be fitted on a crawl, or reads a text that only a crawl has."""
    for name, extractor in extractors.all.items():
        if isinstance(extractor.need, Text) and extractor.need.source not in (DESCRIPTION, OCR):
            raise SettingsError(
                f"The feature set {name} reads the {extractor.need.source} of a crawl, and single files have only "
                "descriptions and pictures. Make a store, `nmcl extract CRAWL --out OUT`, or give these texts as "
                "descriptions."
            )
        if extractor.fit_videos:
            raise SettingsError(
                f"The extractor of {name} is fitted on a crawl, and single files are none. Make a store, `nmcl extract "
                "CRAWL --out OUT`, and read it: nmcl.open('OUT').features(); or name an extractor that is not fitted."
            )


def _require_no_description(extractors: Extractors) -> None:
    """Raise SettingsError if an extractor reads descriptions."""
    for name, extractor in extractors.all.items():
        if extractor.need == Text(DESCRIPTION):
            raise SettingsError(
                f"The feature set {name} is made from descriptions, and none were given. Give one for each file, or "
                "None for a file without: descriptions=[...]."
            )
