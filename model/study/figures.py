"""Figures 5 to 7 of a study, and the diagnostics of gates and branches, from the outcomes of one network."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from nmcl.model.base import Epoch
from nmcl.model.study.explain import attention_memory, has_relations, relation
from nmcl.model.study.folds import Fold
from nmcl.model.study.results import FUSED, AttentionMemory, EpochScores, GatePoint, RelationExample, StudyData
from nmcl.model.study.trials import Outcome

EXAMPLES = 2
"""Number of test rows whose relation scores are shown, with each of the first PICTURED modalities as host."""
PICTURED = 3


def of_reference(data: StudyData, first: Fold, outcomes: Sequence[Outcome]) -> StudyData:
    """Add figures 5 to 7 and the diagnostics of gates and branches."""
    trained = outcomes[0].trained
    pictured = trained is not None and has_relations(trained)
    return replace(
        data,
        epochs=_epochs(outcomes),
        gates=_gates(outcomes),
        collapse=_collapse(outcomes),
        relations=_relations(first, outcomes[0]) if pictured else (),
        attention=_memories(first, outcomes[0]) if pictured else (),
    )


def _by_number(of_seeds: Sequence[Outcome]) -> Iterator[tuple[int, list[Epoch]]]:
    """Yield the number of each epoch, and this epoch of the seeds that were still training."""
    histories = [outcome.trained.history if outcome.trained else () for outcome in of_seeds]
    for number, epochs in enumerate(zip_longest(*histories), start=1):
        yield number, [epoch for epoch in epochs if epoch]


def _epochs(of_seeds: Sequence[Outcome]) -> dict[str, list[EpochScores]]:
    """Return the data of Fig. 5, means over the seeds that were still training."""
    found: dict[str, list[EpochScores]] = {FUSED: []}
    for number, epochs in _by_number(of_seeds):
        for name in (FUSED, *epochs[0].per_modality):
            scores = [epoch.validation if name == FUSED else epoch.per_modality[name] for epoch in epochs]
            micro, macro = (float(np.mean([getattr(s, m) for s in scores])) for m in ("micro_f1", "macro_f1"))
            found.setdefault(name, []).append(EpochScores(number, micro, macro))
    return found


def _gates(of_seeds: Sequence[Outcome]) -> list[GatePoint]:
    """Return the gate diagnostics after each epoch, means over the seeds that were still training."""
    points = []
    for number, epochs in _by_number(of_seeds):
        gates = [epoch.diagnostics["gates"] for epoch in epochs]
        for modality in gates[0]:
            for side in ("host", "guest"):
                mean = {
                    field: float(np.mean([of_seed[modality][side][field] for of_seed in gates]))
                    for field in ("open", "undecided", "shut", "consistent_norm", "complementary_norm")
                }
                divergence = float(np.mean([of_seed[modality]["divergence"] for of_seed in gates]))
                points.append(GatePoint(number, modality, side, divergence=divergence, **mean))
    return points


def _collapse(of_seeds: Sequence[Outcome]) -> dict[str, dict[int, float]]:
    """Return the share of each branch's most frequent prediction after each epoch, the maximum over the seeds."""
    found: dict[str, dict[int, float]] = {}
    for number, epochs in _by_number(of_seeds):
        for name in epochs[0].per_modality:
            found.setdefault(name, {})[number] = max(epoch.per_modality[name].largest_share for epoch in epochs)
    return found


def _relations(rows: Fold, outcome: Outcome) -> list[RelationExample]:
    """Return the examples of Fig. 6: the most confident right predictions of different classes."""
    assert outcome.trained is not None
    predicted, certainty = outcome.probability.argmax(axis=1), outcome.probability.max(axis=1)
    right = [int(row) for row in np.argsort(-certainty, kind="stable") if predicted[row] == outcome.label[row]]
    examples: dict[int, int] = {}
    for row in right:
        examples.setdefault(int(outcome.label[row]), row)
    return [
        relation(outcome.trained, rows.test.modalities, row, host, _name(rows, row), rows.classes[label], names)
        for label, row in list(examples.items())[:EXAMPLES]
        for host in list(rows.test.modalities)[:PICTURED]
        for names in [rows.table.dimensions.get(host, ())]
    ]


def _name(rows: Fold, row: int) -> str:
    """Return the name of a test row."""
    names = rows.table.names
    return names[np.flatnonzero(rows.split == "test")[row]] if names else f"Test row {row}"


def _memories(rows: Fold, outcome: Outcome) -> list[AttentionMemory]:
    """Return the data of Fig. 7 for every host."""
    assert outcome.trained is not None
    names = rows.table.dimensions
    return [attention_memory(outcome.trained, host, names.get(host, ())) for host in outcome.trained.dims]
