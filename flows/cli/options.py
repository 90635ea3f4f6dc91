"""Command-line options shared by several commands, and those of a study."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import reduce, wraps
from pathlib import Path
from typing import Annotated, Any

import typer

Crawl = Annotated[
    str, typer.Argument(help="Folder or URL with videos, and optionally a manifest or sidecars.", show_default=False)
]
SomeCrawl = Annotated[
    str | None, typer.Argument(help="Crawl to ingest first. Default: what is ingested already.", show_default=False)
]
Out = Annotated[
    str, typer.Option("--out", help="Folder or URL of the store; created if it does not exist.", show_default=False)
]
MaybeOut = Annotated[
    str | None,
    typer.Option("--out", help="Folder or URL of the store; created if it does not exist. Not needed for --dry-run."),
]
KnownStore = Annotated[str, typer.Option("--out", help="Folder or URL of an existing store.", show_default=False)]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.NAME=VALUE",
        help="Change one setting; repeatable. `nmcl settings` lists them. Sections: columns, ingest, split, media, "
        "subtitles, ocr, thumbnails, features, completion, model, drift, promotion, predictions, engine.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Features = Annotated[
    str,
    typer.Option("--features", metavar="NAMES", help="Comma-separated feature sets to use. Default: all."),
]


def given_settings(config: Path | None, assignments: Iterable[str] | None) -> dict[str, Any]:
    """Return the settings of `--config` and `--set`, nested.

    The extractors of a project that they name may be imported by this command: from the folder of the file, or from the
    working folder if `--set` names them.

    Raises:
        SettingsError: If the file cannot be read, or an assignment is malformed.
    """
    from nmcl.extractors.plugins import permit
    from nmcl.flows.feature_settings import extractors_of_project, with_feature_sets
    from nmcl.flows.settings_tree import load_tree, merged
    from nmcl.flows.stored_settings import note_earlier_names

    of_file = load_tree(config)
    trees = [load_tree(None, [assignment]) for assignment in assignments or ()]
    trees.sort(key=lambda tree: not isinstance(tree.get("features"), str))  # a preset, then settings of single sets
    note_earlier_names(of_file, *trees)
    of_file = with_feature_sets(of_file)
    assigned: dict[str, Any] = reduce(merged, map(with_feature_sets, trees), {})
    folder = str(config.resolve().parent) if config else ""
    here = dict.fromkeys(extractors_of_project(assigned), str(Path.cwd()))
    permit(here | dict.fromkeys(extractors_of_project(of_file), folder))
    return merged(of_file, assigned)


@dataclass(frozen=True)
class SettingsOptions:
    """Options that change settings."""

    config: ConfigFile = None
    sets: Assignments = None

    def changes(self) -> dict[str, Any]:
        """Return the settings given on the command line, nested. Dedicated options override `--set`.

        Raises:
            SettingsError: If the file cannot be read, or an assignment is malformed.
        """
        from nmcl.flows.settings_tree import merged

        tree = given_settings(self.config, self.sets)
        for option, (section, name) in _SETTINGS.items():
            if (value := getattr(self, option, None)) is not None:
                tree = merged(tree, {section: {name: value}})
        return tree


@dataclass(frozen=True)
class FeatureOptions(SettingsOptions):
    """Options of commands that work on some of the feature sets."""

    features: Features = ""


@dataclass(frozen=True)
class CrawlOptions(SettingsOptions):
    """Options of commands that read a crawl."""

    path_col: Annotated[str | None, typer.Option("--path-col", help="Manifest column with the path of the video.")] = (
        None
    )
    text_col: Annotated[
        str | None, typer.Option("--text-col", help="Manifest column or sidecar key with the description.")
    ] = None
    label_col: Annotated[
        str | None, typer.Option("--label-col", help="Manifest column or sidecar key with the venue.")
    ] = None
    id_col: Annotated[
        str | None, typer.Option("--id-col", help="Manifest column or sidecar key with the video id.")
    ] = None


@dataclass(frozen=True)
class EngineOptions(SettingsOptions):
    """Options of commands that extract."""

    engine: Annotated[
        str | None, typer.Option("--engine", metavar="NAME", help="Execution engine: processes, threads, ray or dask.")
    ] = None
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Number of parts processed in parallel.")] = (
        None
    )
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="URL", help="Running Ray or Dask cluster. Default: a local one."),
    ] = None


@dataclass(frozen=True)
class AllOptions(EngineOptions, CrawlOptions):
    """Options of commands that read a crawl and extract."""


@dataclass(frozen=True)
class ExtractOptions(EngineOptions, FeatureOptions):
    """Options of commands that extract some of the feature sets."""


@dataclass(frozen=True)
class RunOptions(AllOptions, FeatureOptions):
    """Options of commands that read a crawl and extract some of the feature sets."""


_SETTINGS = {
    "path_col": ("columns", "path"),
    "text_col": ("columns", "text"),
    "label_col": ("columns", "label"),
    "id_col": ("columns", "id"),
    "engine": ("engine", "name"),
    "workers": ("engine", "workers"),
    "address": ("engine", "address"),
}
"""Option -> section and name of the setting that it changes."""


@dataclass(frozen=True)
class StudyOptions:
    """Options of a comparison of methods. Either `features` or `store` is required."""

    out: Annotated[Path, typer.Option("--out", help="Output folder: results.json, tables, figures, report.html.")]
    features: Annotated[
        Path | None,
        typer.Option("--features", help=".npz file: 2-D float arrays are modalities; `label`; optionally `split`."),
    ] = None
    texts: Annotated[
        Path | None,
        typer.Option("--texts", help="Descriptions of the rows of --features: CSV, TSV, JSON Lines or Parquet."),
    ] = None
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="features.NAME.SETTING=VALUE",
            help="With --texts: a feature set of the descriptions, or its settings. With --store: a setting of the "
            "store. Repeatable. Default with --texts: textual, words and ngrams.",
        ),
    ] = None
    store: Annotated[Path | None, typer.Option("--store", help="Store (--out of a run) with extracted features.")] = (
        None
    )
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            help="Comma-separated methods. Default: all, which are nmcl, nmcl_paper, nmcl_stacked, variant_1, "
            "variant_2, variant_3, variant_4, early_fusion, late_fusion, early_attention, late_attention, trumann, "
            "dare, dare_lite, logistic, logistic_late, kernel_ridge, mahalanobis, forest, forest_late, ngram_bayes, "
            "ngram_logistic, mlp, tokens, majority.",
        ),
    ] = ""
    modalities: Annotated[str, typer.Option("--modalities", help="Comma-separated modalities. Default: all.")] = ""
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds per method.")] = 5
    taxonomy: Annotated[Path | None, typer.Option("--taxonomy", help="Venue tree for TRUMANN: CSV or JSON.")] = None
    sounds: Annotated[
        Path | None,
        typer.Option("--sounds", help=".npz file of external labelled sounds for DARE. Default: dare_lite."),
    ] = None
    deviations: Annotated[
        bool,
        typer.Option("--deviations", help="Also compare nmcl with each deviation reverted: printed_gate, ..."),
    ] = False
    tune: Annotated[
        bool, typer.Option("--tune", help="First tune batch size, learning rate and dropout on validation rows.")
    ] = False
    learning_curves: Annotated[
        bool,
        typer.Option(
            "--learning-curves",
            help="Also train all methods with 5, 10, 25 and 50 % of the training labels, with and without the other "
            "rows as unlabelled ones.",
        ),
    ] = False
    resplit: Annotated[
        bool, typer.Option("--resplit", help="Draw a new split for every seed, even if one is given.")
    ] = False
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Parallel trainings. Default: one per core.")] = None
    skip: Annotated[
        str, typer.Option("--skip", help="Comma-separated sections to skip: modalities, completion, absence.")
    ] = ""


def names_in(text: str) -> tuple[str, ...]:
    """Return the distinct names of a comma-separated list."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def with_options(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the fields of its parameter `options`, a dataclass, as command-line options."""
    parameters = dict(inspect.signature(function).parameters)
    if "options" not in parameters:
        return function
    kind = parameters.pop("options").annotation
    names = [field.name for field in fields(kind)]

    @wraps(function)
    def called(**values: Any) -> None:
        chosen = kind(**{name: values.pop(name) for name in names})
        function(**values, options=chosen)

    shared = inspect.signature(kind).parameters
    called.__signature__ = inspect.Signature([*parameters.values(), *shared.values()])  # type: ignore[attr-defined]
    called.__annotations__ = {name: p.annotation for name, p in (parameters | dict(shared)).items()}
    return called
