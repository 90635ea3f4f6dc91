"""Comparison of all models on a feature file or on the features of a store."""

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any, get_args

import numpy as np

from nmcl.flows.cli.options import StudyOptions, given_settings, names_in
from nmcl.flows.feature_settings import FeatureChoice
from nmcl.flows.report.study import write_study
from nmcl.flows.report.study.results import results
from nmcl.flows.run.evaluation import labels_of
from nmcl.flows.run.lineage import lineage_of
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.run_page import name_of, thumbnails_of
from nmcl.flows.settings import changed
from nmcl.flows.settings_tree import Tree
from nmcl.flows.stored_settings import in_current_form, usable
from nmcl.flows.text_sets import TextSet, chosen_sets
from nmcl.model.baselines.tagged_sounds import count_concepts
from nmcl.model.feature_table import FeatureTable, labelled, read_feature_file, read_with_texts
from nmcl.model.registry import ABLATIONS, MODELS, Method, method
from nmcl.model.study.results import StudyData
from nmcl.model.study.study import Section, StudySettings, study
from nmcl.model.study.taxonomy import read_taxonomy
from nmcl.pipeline.crawl.descriptions import read_descriptions
from nmcl.pipeline.errors import SettingsError, StoreError
from nmcl.pipeline.progress import Progress
from nmcl.pipeline.stages.complete import load_all_terms, load_features
from nmcl.pipeline.storage.artifacts import dimensions_of
from nmcl.pipeline.storage.catalogue import TRAINING, load_catalogue
from nmcl.pipeline.storage.files import write_whole
from nmcl.pipeline.storage.runs import SETTINGS, champion
from nmcl.pipeline.storage.store import Store, writing
from nmcl.pipeline.text import hint, listed

TUNED_TRIES = 8
"""Number of settings that `--tune` tries per method."""
UNFINISHED = ".unfinished"
"""Store of intermediate results, until the study is finished."""


def reproduce(options: StudyOptions, progress: Progress, command: str) -> StudyData:
    """Run the study and write `results.json`, tables, figures and a page into the folder.

    Intermediate results are kept in the folder until then. The same study, run again, resumes from them.

    Raises:
        UserError: On any error that the user can fix.
    """
    with writing(str(options.out)):
        options.out.mkdir(parents=True, exist_ok=True)
    texts = _text_sets(options)
    table = _table(options, texts, progress)
    models, notices = chosen_models(options, table)
    settings = StudySettings(
        tuple(models),
        options.seeds,
        TUNED_TRIES if options.tune else 0,
        options.jobs,
        _sections(options.skip),
        options.learning_curves,
    )
    unfinished = options.out / UNFINISHED
    data, predictions = study(table, settings, models, progress, Store(unfinished))
    data = replace(
        data,
        title=f"NMCL compared with other methods on {(options.features or options.store or Path()).name}",
        created=date.today().isoformat(),
        settings={
            "study": asdict(settings),
            "methods": {name: asdict(m.settings) for name, m in models.items()},
            **({"features": {name: asdict(choice) for name, choice in texts.items()}} if texts else {}),
        },
        notices=[*notices, *data.notices],
        command=command,
    )
    if options.store:
        data = _with_pictures(data, Store.open(options.store))
    write_study(data, options.out)
    arrays = io.BytesIO()
    np.savez(arrays, **predictions)  # type: ignore[arg-type]
    write_whole(options.out / "predictions.npz", arrays.getvalue())
    # Written last: if this file is new, the study is finished.
    write_whole(options.out / "results.json", json.dumps(results(data), indent=1, allow_nan=False).encode())
    shutil.rmtree(unfinished, ignore_errors=True)
    return data


def _with_pictures(data: StudyData, store: Store) -> StudyData:
    """Return the data with a picture of each example that the store has thumbnails of."""
    catalogue = load_catalogue(store, TRAINING)
    found = zip(catalogue.videos(store), thumbnails_of(store, catalogue), strict=False)
    images = {name_of(video): image.files[0] for video, image in found if image.files}
    return replace(data, relations=[replace(e, image=images.get(e.title)) for e in data.relations])


def _sections(text: str) -> tuple[Section, ...]:
    known, names = get_args(Section), names_in(text)
    for name in names:
        if name not in known:
            raise SettingsError(f"There is no section {name!r}. Expected one of {', '.join(known)}.")
    return tuple(section for section in known if section in names)


def _text_sets(options: StudyOptions) -> dict[str, FeatureChoice[Any]]:
    """Return the feature sets of the descriptions; empty without --texts."""
    if options.texts is None and options.store is None and options.sets:
        raise SettingsError(
            "--set is for the feature sets of --texts and of --store. Give one of them, or leave it out."
        )
    return chosen_sets(given_settings(None, options.sets)) if options.texts else {}


def _table(options: StudyOptions, texts: Mapping[str, FeatureChoice[Any]], progress: Progress) -> FeatureTable:
    if (options.features is None) == (options.store is None):
        raise SettingsError("Give either --features FILE.npz or --store DIR: the data to compare the methods on.")
    if options.texts and options.store:
        raise SettingsError("--texts belongs to --features FILE.npz: a store has its own descriptions.")
    names = names_in(options.modalities)
    if options.features is None:
        table = stored_features(options.store or Path(), names, given_settings(None, options.sets))
    elif options.texts:
        table = _with_texts(options.features, options.texts, texts, progress)
    else:
        table = read_feature_file(options.features)
    if names:
        table = table.only(names)
    return replace(table, split=None) if options.resplit else table


def _with_texts(
    features: Path, texts: Path, sets: Mapping[str, FeatureChoice[Any]], progress: Progress
) -> FeatureTable:
    """Return the rows of a feature file with the feature sets of their descriptions."""
    table, descriptions = read_with_texts(features, read_descriptions(texts))
    if twice := sorted(table.modalities.keys() & sets.keys()):
        raise SettingsError(
            f"{features} and the settings both have {twice[0]}. Give the set of the descriptions another name, such as "
            f"--set features.{twice[0]}.extractor=none --set features.words.extractor=paragraph_vectors."
        )
    fitted = {name: TextSet(descriptions, choice.build(), progress) for name, choice in sets.items()}
    return replace(table, fitted=fitted)


def stored_features(folder: Path, names: tuple[str, ...] = (), changes: Tree | None = None) -> FeatureTable:
    """Return a store's labelled videos with their extracted (not completed) features, and the store's own split.

    If they were not extracted by the current code and settings, the champion's features are used.

    Args:
        names: Feature sets; empty: all.
        changes: Changes to the settings of the store.

    Raises:
        SettingsError: If there is no such feature set.
        StoreError: If they were not extracted.
    """
    store = Store.open(folder)
    tree = {name: value for name, value in store.read_json(SETTINGS).items() if name != "model"}
    tree = usable(store, SETTINGS, tree)  # without the model, which may be unknown to this version
    settings = changed(tree, in_current_form(changes or {}))
    plan = Plan(store, load_catalogue(store, TRAINING), settings.only(names))
    run = champion(store)
    if not _is_extracted(plan) and run:  # for example after an upgrade raised the version of the extraction code
        lineage = lineage_of(run)
        own = settings.only(lineage.frozen.features)
        plan = Plan(store, lineage.catalogue, own, earlier=lineage.splits, frozen=lineage.frozen)
    if not _is_extracted(plan):
        some = f" --features {','.join(names)}" if names else ""
        raise StoreError(f"{folder} has no extracted features. Run `nmcl extract --out {folder}{some}` first.")
    features = {name: load_features(store, plan.catalogue, artifact) for name, artifact in plan.features.items()}
    present = np.any([~np.isnan(block[:, 0]) for block in features.values()], axis=0)
    split = np.array([a.split or "" for a in plan.splits.assignments])
    kept = present & (split != "")
    if not kept.any():
        raise StoreError(
            f"{folder} has no labelled videos in a split. Label more videos, or lower split.min_venue_videos."
        )
    labels = np.array(plan.splits.classes)[labels_of(plan)[kept]]
    table = labelled({m: block[kept] for m, block in features.items()}, labels, split[kept])
    terms = {name: matrix[kept] for name, matrix in load_all_terms(store, plan.catalogue, plan.features).items()}
    dimensions = {name: dimensions_of(artifact.recipe) for name, artifact in plan.features.items()}
    names_of_rows = tuple(name_of(plan.videos[i]) for i in np.flatnonzero(kept))
    return replace(table, terms=terms, names=names_of_rows, dimensions=dimensions)


def _is_extracted(plan: Plan) -> bool:
    names = [artifact.part(part.key) for artifact in plan.features.values() for _, part in plan.catalogue.parts()]
    return bool(names) and plan.store.has_all(names)


def chosen_models(options: StudyOptions, table: FeatureTable) -> tuple[dict[str, Method], list[str]]:
    """Return the methods to compare with their external inputs, and notes about them."""
    models, notices = {}, []
    named = names_in(options.methods)
    for name in named or MODELS:
        if name not in MODELS | ABLATIONS:
            known = MODELS | ABLATIONS
            raise SettingsError(
                f"There is no method {name!r}.{hint(name, known)} Expected one of {listed(known, len(known))}."
            )
        if name == "dare" and options.sounds is None:
            if "dare" in named:
                notices.append("DARE needs external labelled sounds (--sounds): dare_lite is used instead.")
            name = "dare_lite"
        models[name] = method(name)
    if options.deviations:
        models |= ABLATIONS
    if "dare" in models and options.sounds:
        settings = models["dare"].settings
        settings = replace(settings, sounds=str(options.sounds), n_concepts=count_concepts(options.sounds))
        models["dare"] = replace(models["dare"], settings=settings)
    if "trumann" in models:
        models["trumann"], note = _with_tree(models["trumann"], options, table)
        notices += note
    return models, notices


def _with_tree(trumann: Method, options: StudyOptions, table: FeatureTable) -> tuple[Method, list[str]]:
    if options.taxonomy is None:
        return trumann, ["TRUMANN has no taxonomy (--taxonomy): its tree is flat, with every venue under the root."]
    taxonomy = read_taxonomy(options.taxonomy)
    note = taxonomy.note(table.classes)
    settings = replace(trumann.settings, groups=taxonomy.groups_for(table.classes))
    return replace(trumann, settings=settings), [note] if note else []
