"""Learning curves of a small world: what is hidden, and what every method makes of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nmcl.flows.report.study.results import results
from nmcl.model.study.folds import fold
from nmcl.model.study.learning_curves import SHARES, with_labels
from nmcl.model.study.study import StudySettings, study
from nmcl.pipeline.completion import CompletionSettings
from tests.forms import LONG, in_both_forms
from tests.model.conftest import with_terms, world
from tests.model.study.test_study import QUICK, SKIP, table

pytestmark = in_both_forms


def test_learning_curves_of_all_methods() -> None:
    """Also with one label of a class; labels are hidden from training rows only."""
    rows = replace(table(), terms=with_terms(world(240, 0), 0).terms)
    every = tuple(name for name in QUICK if name not in ("dare", "nmcl_paper", "variant_2", "variant_3", "variant_4"))
    methods = every if LONG else ("nmcl", "logistic", "ngram_bayes", "kernel_ridge", "majority")
    settings = StudySettings(methods, seeds=1, jobs=1, skip=SKIP, learning_curves=True)
    data, _ = study(rows, settings, QUICK)
    json.dumps(results(data), allow_nan=False)
    n_train = data.rows.train
    for name in methods:
        points = [point for point in data.learning_curves if point.method == name]
        assert [point.share for point in points] == [*SHARES, 1.0]
        assert [point.n_labels for point in points] == pytest.approx([p.share * n_train for p in points], abs=4)
        assert all(len(point.macro_f1.values) == 1 for point in points)
        assert [len(point.with_unlabelled.values) for point in points] == [1, 1, 1, 1, 0]
        whole = next(row for row in data.methods if row.name == name)
        assert points[-1].macro_f1 == whole.macro_f1


def test_labels_are_hidden_by_class_and_smaller_draws_are_in_larger_ones() -> None:
    whole = fold(table(), 3, CompletionSettings(method="mean"))
    parts = {share: with_labels(whole, share) for share in (0.05, 0.1, 0.5)}
    kept = {share: {row.tobytes() for row in part.train.side_by_side()} for share, part in parts.items()}
    assert kept[0.05] < kept[0.1] < kept[0.5]
    every = np.bincount(whole.train.label)
    for share, part in parts.items():
        np.testing.assert_array_equal(np.bincount(part.train.label), np.maximum(1, np.round(share * every)))
        assert part.unlabelled is not None
        assert len(part.unlabelled) == len(whole.train) - len(part.train)
        assert not hasattr(part.unlabelled, "label")
        assert part.validation is whole.validation
        assert part.digest != replace(part, unlabelled=None).digest
    assert with_labels(replace(whole, seed=4), 0.5).digest != with_labels(replace(whole, seed=5), 0.5).digest
