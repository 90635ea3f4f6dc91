"""Verification of a store: each part is checked against its recipe, its digest and the catalogue's rows."""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmcl.pipeline.completion.stored import check_state
from nmcl.pipeline.crawl.source import crawl_source
from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Video
from nmcl.pipeline.stages.texts import folders_made_from
from nmcl.pipeline.stages.verify_part import wrong_digest, wrong_part
from nmcl.pipeline.storage.artifacts import (
    DIGEST_SUFFIX,
    RECIPE,
    TABLES,
    Artifact,
    digest,
    digest_files,
    files_of,
    has_digests,
    hashed_part,
    load_state,
    recipe_file,
    wrong_recipe,
)
from nmcl.pipeline.storage.catalogue import TRAINING, Catalogue, Crawl, Part, load_catalogue, load_part, part_of
from nmcl.pipeline.storage.run_files import Timing
from nmcl.pipeline.storage.runs import (
    COMPARISON,
    DRIFT,
    METRICS,
    MODEL,
    PREDICTIONS,
    PROVENANCE,
    SETTINGS,
    WEIGHTS,
    Run,
    all_runs,
    champion,
)
from nmcl.pipeline.storage.store import CHAMPIONS, MARKER, POINTERS, Store
from nmcl.pipeline.storage.tables import decode, read_table
from nmcl.pipeline.text import listed

SOURCES = 32
"""Number of files of each crawl that are read again."""


@dataclass(frozen=True)
class Problem:
    """Problem found in a store."""

    file: str
    """File name relative to the store; for a crawl its address and path."""
    problem: str
    """What was found, and what was expected."""
    removes: tuple[str, ...] = ()
    """Files that `repair` removes, so that the next command recreates them; none if that would not help."""
    what_to_do: str = "`nmcl verify --repair` removes it, and the next `nmcl run` recreates it."


OF_THUMBNAILS = (
    "`nmcl verify --repair` removes it, and `nmcl extract --set thumbnails.backfill=true` recreates it. No other file "
    "depends on it."
)


@dataclass
class Findings:
    """Checked files and problems of a store."""

    checked: Counter[str] = field(default_factory=Counter)
    """Number of files by kind."""
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be checked, and why."""

    def add(self, file: str, problem: str, removes: tuple[str, ...] = (), what_to_do: str = Problem.what_to_do) -> None:
        """Add a problem."""
        self.problems.append(Problem(file, problem, removes, what_to_do))


def open_to_verify(root: str | Path) -> Store:
    """Open a store as `Store.open` does, also if `store.json` is damaged, which `verify` reports."""
    store = Store(root)
    return store if store.exists(MARKER) and _fault(store.read_json, MARKER) else Store.open(root)


def verify(store: Store, n_sources: int = SOURCES, seed: int = 0, progress: Progress = silent) -> Findings:
    """Check everything in a store without changing it.

    Args:
        n_sources: Files of each crawl that are read again and compared with the catalogue, selected by `seed`.
    """
    findings = Findings()
    catalogues = _catalogues(store, findings)
    rows = _check_catalogues(store, catalogues, findings)
    _check_parts(store, rows, findings, progress)
    _check_states(store, findings)
    _check_runs(store, findings)
    _check_small_files(store, findings)
    training = catalogues.get(TRAINING, Catalogue())
    for crawl in training.crawls:
        _check_sources(crawl, [v for p in crawl.parts for v in rows.get(p.key, ())], n_sources, seed, findings)
    return findings


def repair(store: Store, findings: Findings) -> int:
    """Remove damaged files, so that the next command recreates them. Returns the number of files removed."""
    names = dict.fromkeys(name for problem in findings.problems for name in problem.removes)
    for name in names:
        store.remove(name)
    return len(names)


def to_json(findings: Findings) -> dict[str, Any]:
    """Return the JSON output: `ok`, `checked`, `problems` (`file, problem, what_to_do, repairable`) and `notes`."""
    problems = [
        {"file": p.file, "problem": p.problem, "what_to_do": p.what_to_do, "repairable": bool(p.removes)}
        for p in findings.problems
    ]
    return {
        "ok": not problems,
        "checked": dict(sorted(findings.checked.items())),
        "problems": problems,
        "notes": findings.notes,
    }


def _fault(read: Callable[..., object], *args: object) -> str | None:
    """Return why a file of the store cannot be read, or None."""
    try:
        read(*args)
    except StoreError as error:
        return str(error)
    return None


def _catalogues(store: Store, findings: Findings) -> dict[str, Catalogue]:
    """Return every catalogue of the store that can be read, by its name."""
    names = [TRAINING]
    names += [f"predicted/{name}" for name in store.list("predicted") if name.endswith(".json")]
    names += [f"runs/{run}/catalogue.json" for run in store.list("runs")]
    found = {}
    if not store.exists(TRAINING) and store.list("features"):  # it is written before anything is extracted
        what_to_do = "Ingest the crawls again: their extracted vectors are reused."
        findings.add(TRAINING, "it is missing, though the store has feature sets", (), what_to_do)
    for name in names:
        try:
            found[name] = load_catalogue(store, name)
            findings.checked["catalogues"] += 1
        except StoreError as error:
            what_to_do = "Delete it, and ingest the crawls again: their extracted vectors are reused."
            findings.add(name, str(error), (name,) if name.startswith("predicted/") else (), what_to_do)
    return found


def _check_catalogues(
    store: Store, catalogues: Mapping[str, Catalogue], findings: Findings
) -> dict[str, Sequence[Video]]:
    """Return the videos of each part whose rows are correct, by the part's key."""
    parts: dict[Part, set[str]] = {}
    for name, catalogue in catalogues.items():
        for _, part in catalogue.parts():
            parts.setdefault(part, set()).add(name)
    rows: dict[str, Sequence[Video]] = {}
    for part, names in parts.items():
        findings.checked["catalogue parts"] += 1
        try:
            videos = load_part(store, part)
            if part_of(videos) == part:
                rows[part.key] = videos
                continue
            problem = "its rows do not match the hash in its name"
        except StoreError as error:
            problem = str(error)
        if all(name.startswith("runs/") for name in names):
            what_to_do = "Promote a run that was trained on other crawls, or train a new one with `nmcl run`."
            findings.add(part.file, problem, (), what_to_do)
        else:
            findings.add(part.file, problem, (part.file,))
    return rows


def _check_parts(store: Store, rows: Mapping[str, Sequence[Video]], findings: Findings, progress: Progress) -> None:
    """Check texts, features, completed vectors, failures and thumbnails."""
    folders = [f"{kind}/{name}" for kind in TABLES for name in store.list(kind)]
    decodings = _recorded_failures(store)
    for done, folder in enumerate(folders, start=1):
        parts = [name for name in store.list(folder) if name.startswith("part-") and name.endswith(".parquet")]
        recipe, problem = _recipe(store, folder)
        file = recipe_file(store, folder)
        if problem and not parts and not store.exists(file):
            continue  # absent, as after a repair
        if problem:
            findings.add(file, problem, (file, *(f"{folder}/{name}" for name in parts)))
            continue
        if not folder.startswith("completed/"):  # these have digests only since this version
            _note_digests(store, folder, parts, findings)
        dims: set[int] = set()
        for name in parts:
            findings.checked[folder.split("/")[0]] += 1
            key = name.removeprefix("part-").removesuffix(".parquet")
            if problem := wrong_part(store, folder, name, recipe, rows.get(key), decodings, dims):
                file = f"{folder}/{name}"
                made = _downstream(store, folder, name, recipe)
                what_to_do = OF_THUMBNAILS if folder.startswith("thumbnails/") else Problem.what_to_do
                findings.add(file, problem, (file, *digest_files(file), *made), what_to_do)
        progress("verify", done, len(folders))


def _note_digests(store: Store, folder: str, names: Sequence[str], findings: Findings) -> None:
    """Note files without a digest, which is no problem: a command killed while it replaces a file leaves this."""
    found = files_of(store, folder)
    lacking = [f"{folder}/{name}" for name in names if name + DIGEST_SUFFIX not in found]
    if lacking and has_digests(store, folder):
        findings.notes.append(
            f"The digest of {listed(lacking, 3)} is missing (deleted, or a command was killed), so that its bytes were "
            "not checked. The next `nmcl extract` writes those of parts as they are; delete a part to recreate it."
        )


def _downstream(store: Store, folder: str, name: str, recipe: Mapping[str, Any]) -> list[str]:
    """Return the files that are made from a part and would keep its error."""
    if not folder.startswith(("texts/", "features/")):
        return []
    features = folders_made_from(store, recipe) if folder.startswith("texts/") else []
    made = [f"{feature}/{name}" for feature in features]
    made += [f"completed/{completed}/{name}" for completed in store.list("completed")]
    return list(filter(store.exists, [one for file in made for one in (file, *digest_files(file))]))


def _recipe(store: Store, folder: str) -> tuple[dict[str, Any], str | None]:
    """Return the hashed part of an artifact's recipe, and what is wrong with it."""
    try:
        recipe = store.read_json(recipe_file(store, folder))
    except StoreError as error:
        return {}, str(error)
    problem = wrong_recipe(folder, recipe)
    return {} if problem else hashed_part(recipe), problem


def _recorded_failures(store: Store) -> dict[str, str]:
    """Return folders of failures by the digest of the decoding they belong to."""
    found = {}
    for name in store.list("failures"):
        recipe, problem = _recipe(store, f"failures/{name}")
        if not problem:
            found[digest(recipe.get("decoding"))] = f"failures/{name}"
    return found


def _check_states(store: Store, findings: Findings) -> None:
    for name in store.list("states"):
        folder = f"states/{name}"
        if store.exists(left_out := f"{folder}/left_out.json") and (problem := _fault(store.read_json, left_out)):
            findings.add(left_out, problem, (left_out,))
        if not store.exists(f"{folder}/state.json"):
            continue
        findings.checked["states"] += 1
        recipe, problem = _recipe(store, folder)
        try:
            _note_digests(store, folder, ["state.safetensors"], findings)
            for file in ("state.safetensors", "state.json"):
                problem = problem or wrong_digest(store, f"{folder}/{file}", store.read(f"{folder}/{file}"))
            if not problem:
                state = load_state(store, Artifact(folder.rsplit("-", 1)[0], recipe))
                if name.startswith("completion-"):
                    check_state(state)
        except StoreError as error:
            problem = str(error)
        if problem:
            findings.add(folder, problem, tuple(f"{folder}/{file}" for file in store.list(folder)))


def _check_runs(store: Store, findings: Findings) -> None:
    best = None
    try:
        best = champion(store)
    except StoreError as error:
        what_to_do = "Delete it, and promote a run: `nmcl runs`, `nmcl promote`."
        findings.add(CHAMPIONS, str(error), (), what_to_do)
    what_to_do = (
        "`nmcl verify --repair` removes it. `nmcl run` recreates it if the settings have not changed; otherwise "
        "promote another run: `nmcl runs`."
    )
    for run in [*all_runs(store), *(Run(store, f"drift/{name}") for name in store.list("drift"))]:
        findings.checked["runs"] += run.folder.startswith("runs/")
        for file in (DRIFT, COMPARISON):
            if problem := _fault(getattr, run, file.removesuffix(".json")):
                again = "`nmcl verify --repair` removes it, and the next `nmcl retrain` recreates it."
                findings.add(run.file(file), problem, (run.file(file),), again)
        if problem := _fault(getattr, run, "made_with"):
            no_loss = "`nmcl verify --repair` removes it. Only the page of the run shows it."
            findings.add(run.file(PROVENANCE), problem, (run.file(PROVENANCE),), no_loss)
        _, problem = _recipe(store, run.folder) if store.exists(run.file(RECIPE)) else ({}, None)
        if problem := problem or _wrong_model(run):
            findings.add(run.folder, problem, tuple(map(run.file, (RECIPE, MODEL, WEIGHTS, METRICS))), what_to_do)
            continue
        if problem := _fault(getattr, run, "metrics"):
            findings.add(run.file(METRICS), problem, (run.file(METRICS),), what_to_do)
            continue
        predictions = run.file(PREDICTIONS)
        if store.exists(predictions):
            data = store.read(predictions)
            _note_digests(store, run.folder, [PREDICTIONS], findings)
            problem = wrong_digest(store, predictions, data) or _fault(decode, data, predictions)
            if problem and best is not None and run.folder == best.folder:
                way_out = "The champion itself is intact: predict the crawls again with `nmcl predict`."
                findings.add(predictions, problem, (), way_out)
            elif problem:
                findings.add(predictions, problem, (predictions, run.file(METRICS)))
    if best is not None and not best.is_finished:
        what_to_do = "Promote another run, or return to the previous one: `nmcl runs`, `nmcl promote`, `nmcl rollback`."
        findings.add(CHAMPIONS, f"its champion {best.folder} is not a finished run", (), what_to_do)


def _wrong_model(run: Run) -> str | None:
    try:
        if run.model is None:
            return None
        if run.model.weights_sha256 != hashlib.sha256(run.store.read(run.file(WEIGHTS))).hexdigest():
            return f"{WEIGHTS} does not match the SHA-256 in {MODEL}"
        _ = run.store.exists(run.file(SETTINGS)) and run.settings
    except StoreError as error:
        return str(error)
    return None


def _check_small_files(store: Store, findings: Findings) -> None:
    """Check the marker, settings and pointers, and the optional files that only make commands faster."""
    if problem := _fault(store.read_json, MARKER):
        way_out = 'Restore it from a backup. This version writes {"format": 1, "made_by": "nmcl"}.'
        findings.add(MARKER, problem, (), way_out)
    for name in POINTERS:
        if problem := _fault(store.target, name):
            findings.add(f"{name}.json", problem, (f"{name}.json",))
    if store.exists(SETTINGS) and (problem := _fault(store.read_json, SETTINGS)):
        findings.add(SETTINGS, problem, (), "Delete it, and give the settings again with --set or --config.")
    for name in (f"timings/{file}" for file in store.list("timings")):
        if problem := _fault(store.read_record, name, Timing):
            findings.add(name, problem, (name,))
    for name in (f"videos/{file}" for file in store.list("videos") if not file.startswith("part-")):
        if problem := _fault(read_table, store, name):
            findings.add(name, problem, (name,))


def _check_sources(crawl: Crawl, videos: Sequence[Video], n_sources: int, seed: int, findings: Findings) -> None:
    """Read some files of a crawl again, and compare them with the catalogue."""
    known = sorted({(video.path, video.sha256) for video in videos if video.sha256})
    chosen = random.Random(seed).sample(known, min(n_sources, len(known)))
    source = crawl_source(crawl.folder)
    if chosen and not source.exists():
        findings.notes.append(f"The crawl {crawl.name} is not at {crawl.folder}: its files were not read again.")
        return
    gone = 0
    for path, sha256 in chosen:
        try:
            with source.open(path) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto
        except OSError:
            gone += 1
            continue
        findings.checked["source files"] += 1
        if found != sha256:
            problem = f"its SHA-256 is {found[:12]}..., but was {sha256[:12]}... when it was ingested"
            findings.add(
                f"{crawl.folder}/{path}", problem, (), "Ingest the crawl again with `nmcl run` or `nmcl ingest`."
            )
    if gone:
        findings.notes.append(f"{gone:,} of {len(chosen):,} checked files in {crawl.folder} no longer exist.")
