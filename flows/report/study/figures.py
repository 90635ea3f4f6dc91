"""All figures of a study by name, those of the paper first."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from nmcl.flows.report.study import comparison, curves, heat
from nmcl.flows.report.study.style import Drawing, slug
from nmcl.model.study.results import StudyData


def figures(data: StudyData) -> Iterator[Drawing]:
    """Yield the figures whose data is available."""
    if curves.telling(data):
        yield Drawing("fig4-roc", "ROC curves of all methods", partial(curves.roc, data))
    if any(data.epochs.values()):
        names = ", ".join(data.epochs)
        yield Drawing("fig5-epochs", f"Validation scores over the epochs: {names}", partial(curves.epochs, data))
    for i, example in enumerate(data.relations, start=1):
        if not np.size(example.scores):
            continue
        caption = f"Relation scores of {example.host} with its guests: {example.title}"
        yield Drawing(f"fig6-relation-{i}", caption, partial(heat.relation, example))
    for name, memory in zip(_attention_names(data), data.attention, strict=True):
        if not np.size(memory.weights):
            continue
        yield Drawing(name, f"Attention weights of {memory.host} by venue", partial(heat.attention, memory))
    if data.methods:
        yield Drawing("methods", "Micro- and macro-F1 of all methods", partial(comparison.methods, data))
    if data.learning_curves:
        yield Drawing(
            "learning-curves", "Macro-F1 by share of the training labels", partial(curves.learning_curves, data)
        )
    if data.completion:
        yield Drawing("completion", "Completion error and macro-F1 by share hidden", partial(curves.completion, data))
    if data.gates:
        yield Drawing(
            "gates", "Share of open, undecided and shut gates over the epochs", partial(comparison.gates, data)
        )


def _attention_names(data: StudyData) -> list[str]:
    """Return the names `fig7-attention-<host>`, numbered if two hosts would share a file."""
    names: list[str] = []
    for memory in data.attention:
        stem = f"fig7-attention-{slug(memory.host) or 'host'}"
        name, n = stem, 1
        while name in names:
            n += 1
            name = f"{stem}-{n}"
        names.append(name)
    return names
