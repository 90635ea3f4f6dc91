"""Command-line options that several commands share, and those of a study."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

Crawl = Annotated[
    str, typer.Argument(help="Folder or URL of videos, with a manifest, sidecars, or neither.", show_default=False)
]
SomeCrawl = Annotated[
    str | None, typer.Argument(help="A crawl to ingest first; what is ingested if not given.", show_default=False)
]
Out = Annotated[
    str, typer.Option("--out", help="Folder or URL of the store; made if it is not there.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@dataclass(frozen=True)
class SettingsOptions:
    """Options that change settings."""

    config: Annotated[Path | None, typer.Option("--config", help="Settings in a TOML file.")] = None
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.NAME=VALUE", help="One setting; may be repeated.")
    ] = None

    def changes(self) -> dict[str, Any]:
        """Return the settings given on the command line, nested. Dedicated options override `--set`.

        Raises:
            SettingsError: the file cannot be read, or an assignment is malformed.
        """
        from nmcl.flows.settings import load_tree, merged

        tree = load_tree(self.config, self.sets or ())
        for option, (section, name) in _SETTINGS.items():
            if (value := getattr(self, option, None)) is not None:
                tree = merged(tree, {section: {name: value}})
        return tree


@dataclass(frozen=True)
class CrawlOptions(SettingsOptions):
    """Options of commands that read a crawl."""

    path_col: Annotated[str | None, typer.Option("--path-col", help="Manifest column of the video's path.")] = None
    text_col: Annotated[
        str | None, typer.Option("--text-col", help="Manifest column or sidecar key of the description.")
    ] = None
    label_col: Annotated[
        str | None, typer.Option("--label-col", help="Manifest column or sidecar key of the venue.")
    ] = None
    id_col: Annotated[
        str | None, typer.Option("--id-col", help="Manifest column or sidecar key of the video's name.")
    ] = None


@dataclass(frozen=True)
class EngineOptions(SettingsOptions):
    """Options of commands that extract."""

    engine: Annotated[
        str | None, typer.Option("--engine", metavar="NAME", help="Who extracts: processes, threads, ray or dask.")
    ] = None
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Parts of the crawl that are done at a time.")
    ] = None
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="URL", help="A Ray or Dask cluster that runs; else one is started."),
    ] = None


@dataclass(frozen=True)
class AllOptions(EngineOptions, CrawlOptions):
    """Options of commands that read a crawl and extract."""


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
    """Options of a comparison of methods; either `features` or `store` is given."""

    out: Annotated[Path, typer.Option("--out", help="Folder for results.json, tables, figures and report.html.")]
    features: Annotated[
        Path | None,
        typer.Option("--features", help=".npz: 2-D float arrays are modalities, `label`, and `split` if you have one."),
    ] = None
    store: Annotated[Path | None, typer.Option("--store", help="The --out of a run: its extracted features.")] = None
    methods: Annotated[str, typer.Option("--methods", help="Names with commas between; all if not given.")] = ""
    modalities: Annotated[str, typer.Option("--modalities", help="Some of the file's, with commas between.")] = ""
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each method.")] = 5
    taxonomy: Annotated[Path | None, typer.Option("--taxonomy", help="Venue tree for TRUMANN: CSV or JSON.")] = None
    sounds: Annotated[
        Path | None, typer.Option("--sounds", help=".npz of external labelled sounds for DARE, else dare_lite.")
    ] = None
    deviations: Annotated[
        bool,
        typer.Option("--deviations", help="Also nmcl with each departure from the paper undone: printed_gate, ..."),
    ] = False
    tune: Annotated[
        bool, typer.Option("--tune", help="Search batch size, learning rate and dropout on validation rows first.")
    ] = False
    resplit: Annotated[
        bool, typer.Option("--resplit", help="Draw a new split for every seed, even if one is given.")
    ] = False
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Trainings at a time; one per core.")] = None
    skip: Annotated[
        str, typer.Option("--skip", help="Sections to leave out: modalities, completion, absence; commas between.")
    ] = ""


def with_options(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command with the options in the dataclass of its parameter `options`, if it has one."""
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
