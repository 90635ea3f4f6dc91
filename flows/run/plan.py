"""Plan of a run: the addresses of all its artifacts, known in advance. An artifact that exists is finished."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from nmcl.flows.run.extractors import Extractors, in_full
from nmcl.flows.run.lineage import FrozenStates
from nmcl.flows.settings import Settings
from nmcl.model.base import CODE_VERSION as MODEL_CODE_VERSION
from nmcl.pipeline import completion
from nmcl.pipeline.addressing import hashed
from nmcl.pipeline.needs import DESCRIPTION, Text, TextSource
from nmcl.pipeline.records import Split, Video
from nmcl.pipeline.stages.fit import sample
from nmcl.pipeline.stages.splits import Splits, assign
from nmcl.pipeline.stages.texts import load_texts
from nmcl.pipeline.storage.artifacts import Artifact, addresses_of, digest
from nmcl.pipeline.storage.catalogue import Catalogue, load_part
from nmcl.pipeline.storage.failures import load_failures
from nmcl.pipeline.storage.lineage import completed_with
from nmcl.pipeline.storage.runs import Run
from nmcl.pipeline.storage.shapes import Count
from nmcl.pipeline.storage.store import Store

LEFT_OUT = "left_out.json"
"""File in the folder of a planned state: the videos that could not be read. Another state was made without them."""


@dataclass(frozen=True)
class LeftOut:
    """Videos that were left out when an extractor was fitted, because of temporary failures."""

    videos: tuple[dict[str, str], ...]
    """Each with `crawl`, `video_id` and the `kind` of its failure."""
    attempts: Count
    """Number of commands that have tried to read them."""


def left_out_of(store: Store, planned: Artifact) -> LeftOut | None:
    """Return the videos left out of a planned state; None if there are none. See `Plan.states`."""
    return store.find_record(f"{planned.folder}/{LEFT_OUT}", LeftOut)


@dataclass(frozen=True)
class Plan:
    """The addresses of all artifacts for one catalogue and one set of settings."""

    store: Store
    catalogue: Catalogue
    settings: Settings
    earlier: Mapping[str, Split] = field(default_factory=dict)
    """Fixed splits by content hash: those of a run that this one is to be compared with."""
    frozen: FrozenStates | None = None
    """Fixed states; if None, extractors and completer are fitted on these videos."""
    start: str | None = None
    """Folder of the run whose weights training starts from; None: from scratch."""

    @cached_property
    def videos(self) -> list[Video]:
        """All rows of the catalogue."""
        return self.catalogue.videos(self.store)

    @cached_property
    def splits(self) -> Splits:
        """The splits of the labelled videos."""
        return assign(self.videos, self.settings.split, self.earlier)

    @property
    def placed(self) -> list[tuple[Video, Split]]:
        """The labelled videos of the splits, each with its split."""
        assigned = zip(self.videos, self.splits.assignments, strict=True)
        return [(video, a.split) for video, a in assigned if a.split]

    @cached_property
    def extractors(self) -> Extractors:
        """The extractors that the settings name."""
        return Extractors(self.settings)

    @cached_property
    def fit_rows(self) -> np.ndarray:
        """Videos on which extractors are fitted, without labels: those whose content is in neither validation nor test.

        Shape (N,), bool, in the order of `videos`.
        """
        assigned = zip(self.videos, self.splits.assignments, strict=True)
        held_out = {video.sha256 for video, a in assigned if a.split in ("validation", "test")}
        return np.array([video.sha256 not in held_out for video in self.videos])

    @cached_property
    def fit_videos(self) -> list[Video]:
        """The videos of `fit_rows`."""
        return [video for video, wanted in zip(self.videos, self.fit_rows, strict=True) if wanted]

    @cached_property
    def texts(self) -> Mapping[TextSource, Mapping[tuple[str, str], str]]:
        """Texts besides descriptions, by source, crawl and video_id. Parts that were not read yet have none."""
        return {source: dict(self._texts(artifact)) for source, artifact in self.extractors.texts.items()}

    def _texts(self, artifact: Artifact) -> Iterator[tuple[tuple[str, str], str]]:
        read = set(self.store.list(artifact.folder))
        for _, part in self.catalogue.parts():
            if f"part-{part.key}.parquet" in read:
                videos = load_part(self.store, part)
                for video, text in zip(videos, load_texts(self.store, artifact, part), strict=True):
                    if text:
                        yield (video.crawl, video.video_id), text

    def text(self, name: str, video: Video) -> str | None:
        """Return the text of a video that a feature set reads; None without one."""
        need = self.extractors.all[name].need
        source = need.source if isinstance(need, Text) else DESCRIPTION
        return video.description if source == DESCRIPTION else self.texts[source].get((video.crawl, video.video_id))

    def fit_sample(self, name: str) -> list[Video]:
        """Return the videos that one extractor is fitted on."""
        extractor = self.extractors.all[name]
        videos = self.fit_videos
        if isinstance(extractor.need, Text):
            videos = [video for video in videos if self.text(name, video)]
        return sample(videos, extractor.fit_videos, self.settings.split.seed)

    @cached_property
    def states(self) -> Mapping[str, Artifact]:
        """States of the extractors that need fitting.

        If videos had to be left out of the sample, the state has another address, and its recipe lists them.
        """
        if self.frozen:
            return self.frozen.states
        states = {}
        for name, planned in self.planned_states.items():
            left_out = left_out_of(self.store, planned)
            states[name] = self.state(name, left_out.videos) if left_out else planned
        return states

    @cached_property
    def planned_states(self) -> Mapping[str, Artifact]:
        """States of the extractors if every video of the sample can be read."""
        if self.frozen:
            return self.frozen.states
        return {name: self.state(name) for name, extractor in self.extractors.all.items() if extractor.fit_videos}

    def state(self, name: str, left_out: Sequence[Mapping[str, str]] = ()) -> Artifact:
        """Return the state of one extractor.

        Args:
            left_out: See `LeftOut.videos`.
        """
        extractor = self.extractors.all[name]
        without = {(video["crawl"], video["video_id"]) for video in left_out}
        videos = [v for v in self.fit_sample(name) if (v.crawl, v.video_id) not in without]
        text = isinstance(extractor.need, Text)
        learns_from = digest([self.text(name, video) if text else video.sha256 for video in videos])
        recipe: dict[str, object] = {"extractor": extractor.address(), "videos": learns_from}
        if not text:
            recipe["decoding"] = self.extractors.decoding()
        if source := self.extractors.text_of(name):
            recipe["texts"] = source.recipe
        if left_out:
            recipe["left_out"] = [dict(video) for video in left_out]
        return Artifact(f"states/{name}", recipe, self.extractors.in_full(name))

    @cached_property
    def features(self) -> Mapping[str, Artifact]:
        """The vectors of each feature set.

        Raises:
            ModelError: If the vectors would differ from those of the run with the frozen states.
        """
        states = self.states
        made = {
            name: self.extractors.features(name, states[name].address if name in states else None)
            for name in self.extractors.all
        }
        return self.frozen.check_all(self.extractors.all, made) if self.frozen else made

    @cached_property
    def failures(self) -> Artifact:
        """The videos that do not decode."""
        return (self.frozen.failures if self.frozen else None) or self.extractors.failures()

    @cached_property
    def without(self) -> dict[str, object]:
        """Recipe entry that identifies the videos with temporary failures; empty if there are none.

        So results with and without these videos have different addresses. Known only after extraction.
        """
        recorded = set(self.store.list(self.failures.folder))
        found = [
            [part.key, video_id, failure.modality]
            for _, part in self.catalogue.parts()
            if f"part-{part.key}.parquet" in recorded
            for video_id, failures in load_failures(self.store, self.failures, part).items()
            for failure in failures
            if failure.is_transient
        ]
        return {"without": {"videos": len(found), "digest": digest(found)}} if found else {}

    def refreshed(self) -> "Plan":
        """Return the same plan after fitting or extraction: later addresses depend on what could be read."""
        plan = replace(self)
        for name in ("videos", "splits", "extractors", "fit_rows", "fit_videos", "planned_states"):
            if name in self.__dict__:
                plan.__dict__[name] = self.__dict__[name]
        return plan

    @cached_property
    def completion(self) -> Artifact:
        """State of the completer, fitted on the same videos as the extractors."""
        if self.frozen:
            return self.frozen.completion
        recipe = {**self._completion, **self._read_texts, **self.without}
        return Artifact("states/completion", recipe, in_full(self.settings, "completion"))

    @property
    def _read_texts(self) -> dict[str, object]:
        """Recipe entry that identifies the texts: those of a crawl may change after it was ingested."""
        found = {source: sorted([*key, text] for key, text in texts.items()) for source, texts in self.texts.items()}
        return {"texts": digest(found)} if found else {}

    @cached_property
    def _completion(self) -> dict[str, object]:
        return {
            **completion.address(self.settings.completion),
            "features": addresses_of(self.features),
            "videos": digest([[video.video_id, video.sha256, video.description] for video in self.fit_videos]),
        }

    @cached_property
    def completed(self) -> Artifact:
        """All modalities of all videos."""
        return completed_with(self.completion.address)

    @property
    def result(self) -> Run:
        """The files of the run, created on each access, so that new files are seen."""
        return Run(self.store, self.run.folder)

    @cached_property
    def run(self) -> Artifact:
        """The trained model and its evaluation."""
        assigned = zip(self.videos, self.splits.assignments, strict=True)
        labels = [[v.video_id, v.sha256, v.venue, a.split] for v, a in assigned if a.split]
        recipe = {
            "model": hashed(self.settings.model),
            "code_version": MODEL_CODE_VERSION,
            "completed": self.completed.address,
            "labels": digest(labels),
            **self.without,
            **({"start": self.start} if self.start else {}),
        }
        return Artifact(f"runs/{self.settings.model.name}", recipe, in_full(self.settings, "model"))

    @cached_property
    def work(self) -> str:
        """Key of the time spent on fitting, extracting and completing; with frozen states, only on new videos."""
        if not self.frozen:
            return digest(self._completion)
        return digest([self.completion.address, [part.key for _, part in self.catalogue.parts()]])
