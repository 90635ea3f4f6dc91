"""The Python API of a store: feature sets, videos and runs. `nmcl.open` opens one; see docs/python.md."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from nmcl.extractors.plugins import permit, permitted
from nmcl.flows.feature_settings import require_known
from nmcl.flows.run import export as exports
from nmcl.flows.run.export import Selection, SplitSource
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.predict import load_run, predict_crawl, predict_files, predict_store
from nmcl.flows.run.stages import Context
from nmcl.flows.stored_settings import of_store
from nmcl.model.torch_data import FeaturesInMemory, StreamedFeatures, torch_data
from nmcl.pipeline.crawl.source import crawl_source
from nmcl.pipeline.errors import UserError
from nmcl.pipeline.export.record import Export, FeatureSet, Missing
from nmcl.pipeline.export.rows import blocks_of, sequence_columns, to_pandas
from nmcl.pipeline.export.source import unique_ids
from nmcl.pipeline.records import Split, Steps
from nmcl.pipeline.storage import runs
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import from_videos, read_table


@dataclass(frozen=True, repr=False)
class Features:
    """Feature sets of N videos, in the order of the catalogue. Vectors are read when they are asked for."""

    _export: Export

    @property
    def names(self) -> list[str]:
        """Names of the feature sets."""
        return [feature.name for feature in self._sets]

    @property
    def dims(self) -> dict[str, int]:
        """Length of a vector, D, by feature set."""
        return {feature.name: feature.dim for feature in self._sets}

    @cached_property
    def ids(self) -> np.ndarray:
        """Ids of the videos, shape (N,), str; one that several crawls use is preceded by its crawl."""
        return np.array(self._export.ids, object)

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels, shape (N,), str or None."""
        return np.array(self._export.labels, object)

    @cached_property
    def splits(self) -> np.ndarray:
        """Splits, shape (N,): `train`, `validation`, `test` or None."""
        return np.array(self._export.splits, object)

    @property
    def classes(self) -> list[str]:
        """All labels, sorted."""
        return self._export.classes

    @property
    def observed(self) -> dict[str, np.ndarray]:
        """Masks by feature set, shape (N,), bool; False where a vector is absent, whatever stands in its place."""
        return {feature.name: feature.observed for feature in self._sets}

    @property
    def recipes(self) -> dict[str, Any]:
        """How each feature set was made: the recipes of its artifacts, as JSON."""
        return {feature.name: dict(feature.made_by) for feature in self._sets}

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about these values: where the splits come from, what could not be completed."""
        return tuple(self._export.notes)

    def to_arrow(self) -> pa.Table:
        """Return one row per video.

        Columns: `video_id`, `crawl`, `path`, `sha256`, `split`, `label`, `description`; a column of vectors per feature
        set, null where NaN; `SET_observed`; with sequences also `SET_sequence` and `SET_sequence_s`, null where absent.
        """
        table = pa.concat_tables([table for _, table in blocks_of(self._export)])
        for name, column in sequence_columns(self._export).items():
            table = table.append_column(name, column)
        return table

    def to_pandas(self) -> Any:
        """Return `to_arrow` as a pandas data frame; a vector is a NumPy array, and None where it is null.

        Raises:
            UserError: If pandas is not installed.
        """
        return to_pandas(self.to_arrow())

    def to_numpy(self) -> dict[str, np.ndarray]:
        """Return the matrix of each feature set by name, shape (N, D), float32, NaN rows where absent.

        `NMCLClassifier` takes this form. `ids`, `labels` and `splits` have the same order.
        """
        return {feature.name: np.concatenate(list(feature.blocks())) for feature in self._sets}

    def sequences(self, name: str) -> Iterator[Steps | None]:
        """Yield the sequence that each video's vector was pooled from, in the order of `ids`, read part by part.

        Args:
            name: Feature set.

        Yields:
            `vectors`, shape (T, D), float32, and `times_s`, shape (T,), in seconds; None where the modality is absent.

        Raises:
            UserError: If there is no such feature set, or it was read without `sequences=True`.
        """
        by_name = {feature.name: feature for feature in self._sets}
        require_known([name], by_name)
        read = by_name[name].sequences
        if read is None:
            raise UserError(
                f"The sequences of {name} were not read, or it has none. Ask for store.features({name!r}, "
                "sequences=True); they are kept by an extraction with the setting `sequence = true`."
            )
        return (steps for block in read() for steps in block)

    def to_torch(
        self,
        split: Split | Sequence[Split] | None = None,
        *,
        labelled: bool = False,
        shuffle: bool = False,
        in_memory: bool = False,
    ) -> StreamedFeatures | FeaturesInMemory:
        """Return a PyTorch data set for a `DataLoader`, of items as in `nmcl.model.torch_data.Item`.

        By default it is an `IterableDataset` that reads part by part: a store may be larger than memory, and its files
        are made to be read from start to end. The workers of the loader share out the parts.

        Args:
            split: Only videos of this split, or of these splits; None: all.
            labelled: Only videos with a label.
            shuffle: Shuffle again in each epoch; instead of the loader's own `shuffle`, which cannot be used here.
            in_memory: Return a data set with an index and a length instead, which holds all vectors in memory.

        Raises:
            UserError: If no video is left.
        """
        splits = [split] if isinstance(split, str) else split
        for wanted in splits or ():
            _one_of("split", wanted, Split)
        return torch_data(self._export, splits, labelled, shuffle, in_memory)

    def __len__(self) -> int:
        return len(self._export)

    def __repr__(self) -> str:
        return f"Features({len(self)} videos, {self.dims})"

    @property
    def _sets(self) -> Sequence[FeatureSet]:
        return self._export.features


@dataclass(frozen=True, repr=False)
class Run(runs.Run):
    """Training run with its results: `metrics`, `settings`, `recipe`, `drift` and `comparison` as records."""

    @property
    def name(self) -> str:
        """Name in the store, which commands take."""
        return self.folder.removeprefix("runs/")

    @property
    def scores(self) -> dict[str, float | None]:
        """Scores on test videos, 0..1 but for `n_rows` and `log_loss`; empty before the run is finished."""
        return asdict(self.metrics.test) if self.metrics else {}

    @property
    def predictions(self) -> pa.Table:
        """Predictions for the videos of its store, as the run wrote them. See `predict` for the columns.

        Raises:
            StoreError: If the run is not finished.
        """
        self.require_metrics()
        return read_table(self.store, self.file(runs.PREDICTIONS))

    def predict(
        self,
        videos: "str | Path | StoreReader | Sequence[str | Path]",
        descriptions: Sequence[str | None] | None = None,
    ) -> pa.Table:
        """Predict the labels of videos with the run's own extractors, completer and model.

        Args:
            videos: Video files of this machine; or a crawl (a folder or URL) or a store that was opened, whose vectors
                are then kept in the run's store as by `nmcl predict`.
            descriptions: Texts of the files, in the same order; None: without. Crawls and stores have their own.

        Returns:
            One row per video: `video_id` (the path of a file), `status`, `venue_1..venue_5`,
            `probability_1..probability_5`, `reason`.

        Raises:
            UserError: If the run is not finished, or these videos cannot be read.
        """
        frozen = load_run(f"{self.store.url}/{self.folder}", {})
        if isinstance(videos, StoreReader):
            if descriptions is not None:
                raise UserError("A store has its own descriptions; leave them out.")
            return predict_store(videos._store, frozen)
        if isinstance(videos, str | Path) and not Path(videos).is_file():
            if descriptions is not None:
                raise UserError("A crawl has its own descriptions; leave them out, or name its files.")
            crawl_source(videos).require()
            return predict_crawl(str(videos), frozen).table
        return predict_files([videos] if isinstance(videos, str | Path) else videos, descriptions, frozen)

    def __repr__(self) -> str:
        macro_f1 = self.scores.get("macro_f1")
        return f"Run({self.name}, {'not finished' if macro_f1 is None else f'macro-F1 {macro_f1:.3f}'})"


class StoreReader:
    """Feature sets, videos and runs of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def url(self) -> str:
        """Absolute path or URL of the store."""
        return self._store.url

    def features(
        self,
        *names: str,
        missing: Missing = "nan",
        split: SplitSource | None = None,
        run: str | None = None,
        sequences: bool = False,
    ) -> Features:
        """Return feature sets of all videos, unlabelled ones included.

        Args:
            names: Feature sets; none: all.
            missing: What stands where a vector is absent: `nan`, `zero`, or `completed` from the other feature sets.
            split: Splits of the `run`, or `given` by the manifest; None: of the run if there is one.
            run: Run whose feature sets and splits are read; None: the feature sets of the store's settings, and the
                splits of the champion, else of the latest run.
            sequences: Also read what vectors were pooled from, of the feature sets that were extracted with the setting
                `sequence = true`.

        Raises:
            UserError: If there is no such feature set or run, something is not extracted, or the store has no completed
                vectors or sequences.
        """
        _one_of("missing", missing, Missing)
        _one_of("split", split, SplitSource | None)
        wanted = Selection(features=names, missing=missing, split=split, run=run, sequences=sequences)
        return Features(exports.read(self._plan, wanted))

    def videos(self, split: SplitSource | None = None, run: str | None = None) -> pa.Table:
        """Return one row per video of the catalogue; nothing has to be extracted.

        Args:
            split: See `features`.
            run: Run whose splits are read.

        Returns:
            Columns `video_id`, `crawl`, `path`, `sha256`, `n_bytes`, `description`, `label`, `split`, `duplicate_of`.
        """
        _one_of("split", split, SplitSource | None)
        videos = self._plan.videos
        splits, _ = exports.splits_of(videos, runs.run_of(self._store, run), split, self._store, [])
        table = from_videos(videos)
        columns = {name: table.column(name) for name in table.column_names}
        columns |= {"video_id": pa.array(unique_ids(videos)), "split": pa.array(splits, pa.string())}
        return pa.table({"label" if name == "venue" else name: column for name, column in columns.items()})

    @property
    def runs(self) -> list[Run]:
        """All runs, oldest first."""
        return sorted(map(_with_api, runs.all_runs(self._store)), key=lambda run: (run.when, run.folder))

    @property
    def champion(self) -> Run | None:
        """The promoted run; None before there is one."""
        found = runs.champion(self._store)
        return _with_api(found) if found else None

    def run(self, name: str) -> Run:
        """Return a run by its name, a unique prefix, the name of its model if unique, or `latest`.

        Raises:
            StoreError: If no run matches, or several do.
        """
        return _with_api(runs.find_run(self._store, name))

    def __repr__(self) -> str:
        return f"StoreReader({self.url})"

    @property
    def _plan(self) -> Plan:
        return Context(self._store, of_store(self._store, {})).plan()


def open_store(location: str | Path, extractors: Sequence[str] = ()) -> StoreReader:
    """Open a store that exists.

    Args:
        location: Folder, or URL such as s3://bucket/store.
        extractors: Names `module:Class` of extractors of your own project that the store uses, imported as in your
            script or from the working folder. A store never decides what is imported, so they have to be named here,
            once in a process.

    Raises:
        StoreError: If there is no store, or a newer version wrote it.
    """
    if extractors:
        permit(permitted() | dict.fromkeys(extractors, str(Path.cwd())))
    return StoreReader(Store.open(location))


def _with_api(run: runs.Run) -> Run:
    return Run(run.store, run.folder)


def _one_of(argument: str, value: object, allowed: Any) -> None:
    """Raise UserError unless a value is one of a Literal, or None if the Literal may be."""
    names = [name for literal in (allowed, *get_args(allowed)) for name in get_args(literal) if isinstance(name, str)]
    if value not in names and not (value is None and type(None) in get_args(allowed)):
        raise UserError(f"{argument}={value!r}: expected one of {', '.join(dict.fromkeys(names))}.")
