"""Cards of a run, in Markdown with a head that Hugging Face reads: one of its model, one of its data.

They say only what the store knows. Equal runs give equal cards.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from nmcl.extractors.registry import EXTRACTORS
from nmcl.flows.feature_settings import FeatureChoice
from nmcl.flows.report.numbers import count, decimal, percent
from nmcl.flows.report.summary import flat, interval
from nmcl.flows.run.evaluation import Evaluated
from nmcl.model.evaluate import Evaluation, macro_f1
from nmcl.model.statistics import bootstrap
from nmcl.pipeline.escape import markdown_code, markdown_text, visible
from nmcl.pipeline.export.card import UNKNOWN
from nmcl.pipeline.records import SPLITS, Split, Video
from nmcl.pipeline.storage.run_files import Metrics, SplitScores
from nmcl.pipeline.text import listed

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
"""Names of Hugging Face for numbers of rows below a limit."""


def model_card(evaluated: Evaluated, metrics: Metrics) -> str:
    """Return the card of a run's model: scores, classes, training data, feature sets, settings and limits."""
    plan, name = evaluated.plan, evaluated.plan.run.folder.removeprefix("runs/")
    crawls = _crawls(evaluated)
    return f"""---
license: {UNKNOWN}
library_name: nmcl
pipeline_tag: video-classification
tags:
- micro-video
- multimodal
model-index:
- name: {json.dumps(name)}
  results:
  - task:
      type: video-classification
    dataset:
      type: nmcl
      name: {json.dumps(visible(crawls), ensure_ascii=False)}
      split: test
    metrics:
    - type: accuracy
      value: {metrics.test.micro_f1}
    - type: f1
      name: macro-F1
      value: {metrics.test.macro_f1}
---

# {name}

Predicts the venue of a micro-video, one of {count(len(metrics.classes))}, from its feature sets
{listed(f"`{n}`" for n in plan.features)}. It is the model `{plan.settings.model.name}` of nmcl {version("nmcl")},
trained on {markdown_text(crawls)}. The data are described in [dataset.md](dataset.md).
{_self_training(evaluated)}
## Scores

{_table(("split", "videos", "accuracy", "macro-F1", "most frequent venue"), _scores(evaluated))}
In brackets: 95 % intervals, Wilson's for the accuracy and by bootstrap over the videos for the macro-F1. They do not
cover the choice of the split and of the seed. The last column is the accuracy of always predicting the most frequent
venue.

The same model trained on one feature set alone, on the test videos:

{_table(("feature set", "accuracy", "macro-F1"), ((f"`{n}`", *_both(s)) for n, s in metrics.modalities.items()))}
## Venues

{_table(("venue", "test videos", "precision", "recall", "F1"), _classes(evaluated))}
## Feature sets

{_table(("feature set", "modality", "extractor", "length", "source", "licence of the weights"), _sets(evaluated))}
## Settings

Missing vectors are completed by `{metrics.completion.method if metrics.completion else "-"}`. All settings are in
`settings.json`.

{_table(("setting", "value"), ((f"`{n}`", markdown_code(v)) for n, v in _settings(metrics)))}
## Limits

* It answers with one of the venues above, also for a video of another place.
* Its labels are those of the crawls; they were not checked.
* Scores are of videos of the same crawls. `nmcl retrain` measures how far other videos differ.
{_bullets(metrics.notices)}
## Licence

{UNKNOWN.capitalize()}. It depends on the training videos and on the weights above. nmcl itself is under Apache-2.0.

## Use

The folder of the run is not enough: extractors and completer are in its store.

```sh
nmcl predict CRAWL --model OUT/runs/{name} --out venues.parquet
```
"""


def data_card(evaluated: Evaluated, metrics: Metrics) -> str:
    """Return the card of a run's data: crawls, splits, labels, feature sets, failures and limits."""
    plan, counts = evaluated.plan, metrics.counts
    failures = Counter(failure.kind for of_video in evaluated.failures for failure in of_video)
    failed = ", ".join(f"{kind} {count(n)}" for kind, n in failures.most_common()) or "none"
    notes = [note for crawl in plan.catalogue.crawls for note in crawl.notes]
    aside = ", ".join(f"{markdown_text(label)} ({count(n)})" for label, n in metrics.set_aside.items()) or "none"
    size = next((name for limit, name in _SIZES if counts["videos"] < limit), "n>10M")
    return f"""---
license: {UNKNOWN}
pretty_name: {json.dumps(visible(_crawls(evaluated)), ensure_ascii=False)}
task_categories:
- video-classification
size_categories:
- {size}
tags:
- micro-video
---

# {markdown_text(_crawls(evaluated))}

The {count(counts["videos"])} videos of a run of nmcl {version("nmcl")}. Its model is described in
[README.md](README.md).

{_table(("crawl", "videos", "labelled", "with a description"), _by_crawl(plan.videos))}
* **Failed**: {count(counts["failed"])} videos gave nothing, {count(counts["partial"])} only a part. Failures: {failed}.
* **Copies**: {count(counts["duplicates"])} videos have the bytes of another one; copies are in the same split.
* **Identity**: the SHA-256 of each file. Ids, hashes and splits are in `splits.parquet`, results in
  `predictions.parquet`.

## Labels and splits

{_table(("venue", *SPLITS), _by_class(evaluated))}
Videos that can be used, by split: {", ".join(f"{split} {count(counts[split])}" for split in SPLITS)}.
Venues with too few videos: {aside}.

## Feature sets

{_table(("feature set", "modality", "extractor", "videos with a vector"), _observed(evaluated))}
`nmcl export --out OUT --format hf` and other formats write them, with the recipe of every value.

## Limits

* Labels and descriptions are those of the crawls; they were not checked.
* What the videos show, and whether people in them agreed to it, is not known.
{_bullets(notes)}
## Licence

{UNKNOWN.capitalize()}: a crawl does not tell under which terms its videos, descriptions and labels may be used.
"""


def _crawls(evaluated: Evaluated) -> str:
    return listed(crawl.name for crawl in evaluated.plan.catalogue.crawls)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, ("---",) * len(header), *rows))


def _bullets(texts: Iterable[str]) -> str:
    return "".join(f"* {markdown_text(text)}\n" for text in texts)


def _settings(metrics: Metrics) -> list[tuple[str, str]]:
    return sorted(flat({"model": metrics.settings["model"]}))


def _scores(evaluated: Evaluated) -> Iterator[tuple[str, ...]]:
    labels = np.array([video.venue for video in evaluated.plan.videos], dtype=object)
    index = {name: k for k, name in enumerate(evaluated.trained.classes)}
    scored: dict[Split, Evaluation] = {"test": evaluated.test, "validation": evaluated.validation}
    for split, found in scored.items():
        rows = evaluated.rows[split]
        label, predicted = np.array([index[name] for name in labels[rows]]), evaluated.scored[split].argmax(axis=1)
        accuracy, f1 = _both(found.scores)
        low, high = bootstrap(macro_f1, label, predicted)
        yield (
            split,
            count(found.scores.n_rows),
            f"{accuracy} ({' to '.join(map(percent, interval(found.scores.micro_f1, found.scores.n_rows) or ()))})",
            f"{f1} ({decimal(low)} to {decimal(high)})",
            percent(found.scores.majority_share),
        )


def _self_training(evaluated: Evaluated) -> str:
    numbers = evaluated.trained.diagnostics.get("self_training")
    if not numbers:
        return ""
    joined, n = count(numbers["joined"]), count(numbers["unlabelled"])
    return f"By self-training, {joined} of {n} unlabelled videos were training videos, too, with predicted venues.\n"


def _both(scores: SplitScores) -> tuple[str, str]:
    return percent(scores.micro_f1), decimal(scores.macro_f1)


def _classes(evaluated: Evaluated) -> Iterator[tuple[str, ...]]:
    for name, found in evaluated.test.per_class.items():
        yield markdown_text(name), count(found.support), *map(decimal, (found.precision, found.recall, found.f1))


def _sets(evaluated: Evaluated) -> Iterator[tuple[str, ...]]:
    for name, chosen in evaluated.plan.settings.features.items():
        entry, length = chosen.entry, count(evaluated.trained.dims[name])
        yield (
            f"`{name}`",
            entry.modality,
            f"`{chosen.extractor}`",
            length,
            markdown_text(_source(chosen)),
            _licence(chosen),
        )


def _source(chosen: FeatureChoice[Any]) -> str:
    """Return where the vectors' method or weights come from."""
    weights = getattr(chosen.options, "weights", "")
    if weights == "random":
        return "untrained"
    is_file = getattr(chosen.entry.settings, "weights", weights) == "default" != weights
    return "a weights file" if is_file else chosen.entry.source


def _licence(chosen: FeatureChoice) -> str:
    """Return the licence of the published weights of an extractor; unknown for a user's file or extractor."""
    weights = getattr(chosen.options, "weights", "default")
    if weights == "random":
        return "random weights"
    if weights != "default" or chosen.extractor not in EXTRACTORS:
        return UNKNOWN
    return chosen.entry.licence or "no published weights"


def _by_crawl(videos: Sequence[Video]) -> Iterator[tuple[str, ...]]:
    for crawl in dict.fromkeys(video.crawl for video in videos):
        own = [video for video in videos if video.crawl == crawl]
        numbers = (len(own), sum(v.venue is not None for v in own), sum(bool(v.description) for v in own))
        yield markdown_text(crawl), *map(count, numbers)


def _by_class(evaluated: Evaluated) -> Iterator[tuple[str, ...]]:
    n_videos = Counter((video.venue, split) for video, split in evaluated.plan.placed)
    for name in evaluated.trained.classes:
        yield markdown_text(name), *(count(n_videos[name, split]) for split in SPLITS)


def _observed(evaluated: Evaluated) -> Iterator[tuple[str, ...]]:
    for name, chosen in evaluated.plan.settings.features.items():
        yield (
            f"`{name}`",
            chosen.entry.modality,
            f"`{chosen.extractor}`",
            count(int(evaluated.completed.observed[name].sum())),
        )
