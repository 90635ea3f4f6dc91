"""Self-training against the same steps by hand, and on rows whose hidden labels it cannot see."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nmcl.model.data import Dataset, joined
from nmcl.model.nmcl.stacking import Stacking
from nmcl.model.self_training import SHARE, fit_with_unlabelled, most_probable
from nmcl.model.trained import fit
from nmcl.pipeline.features import FeatureRows
from tests.model.conftest import CLASSES, quick, stacked, with_terms, world


def unlabelled(n: int = 200) -> FeatureRows:
    return FeatureRows.take(with_terms(world(n, seed=7), 7), np.arange(n))


def test_it_is_a_second_training_on_the_predictions_of_the_first() -> None:
    few, validation, more = with_terms(world(24, 1), 1), with_terms(world(80, 2), 2), unlabelled()
    trained = fit_with_unlabelled("nmcl", few, more, validation, CLASSES, quick(), seed=5)
    found = fit("nmcl", few, validation, CLASSES, quick(), 5).predict(more.modalities, more.observed).probability
    rows = np.flatnonzero(most_probable(found))
    predicted = Dataset(*_of(more.take(rows)), found[rows].argmax(axis=1), terms=more.take(rows).terms)
    by_hand = fit("nmcl", joined(few, predicted), validation, CLASSES, quick(), 5)
    np.testing.assert_array_equal(
        trained.predict(more.modalities).probability, by_hand.predict(more.modalities).probability
    )
    assert trained.diagnostics["self_training"] == {"unlabelled": 200, "joined": len(rows)}


@given(st.integers(1, 60), st.integers(2, 5), st.integers(0, 1000))
def test_of_each_predicted_class_the_more_probable_half_joins(n: int, n_classes: int, seed: int) -> None:
    probability = np.random.default_rng(seed).dirichlet(np.ones(n_classes), n)
    chosen, predicted = most_probable(probability), probability.argmax(axis=1)
    for label in range(n_classes):
        certainty = probability[predicted == label, label]
        joins = chosen[predicted == label]
        assert joins.sum() == np.ceil(SHARE * len(joins))
        assert certainty[joins].min(initial=1) >= certainty[~joins].max(initial=0)


def _of(rows: FeatureRows) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    return rows.modalities, rows.observed


@pytest.mark.parametrize("name", ["logistic", "kernel_ridge", "ngram_bayes"])
def test_other_methods_are_trained_on_more_rows_too(name: str) -> None:
    few, validation, test = with_terms(world(24, 1), 1), with_terms(world(80, 2), 2), with_terms(world(400, 3), 3)
    trained = fit_with_unlabelled(name, few, unlabelled(), validation, CLASSES)
    assert trained.diagnostics["self_training"]["joined"] > 0
    predicted = trained.predict(test.modalities, test.observed, test.terms).probability.argmax(axis=1)
    assert (predicted == test.label).mean() > 0.5


def test_without_unlabelled_rows_it_is_the_same_model() -> None:
    few, validation = world(24, 1), world(80, 2)
    nothing = FeatureRows.take(few, np.zeros(24, bool))
    trained = fit_with_unlabelled("logistic", few, nothing, validation, CLASSES)
    alone = fit("logistic", few, validation, CLASSES)
    np.testing.assert_array_equal(
        trained.predict(few.modalities).probability, alone.predict(few.modalities).probability
    )
    assert trained.diagnostics["self_training"] == {"unlabelled": 0, "joined": 0}


def test_a_stack_is_weighted_on_true_labels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    weighted = []
    fit_beside = Stacking.fit_beside

    def watched(stacking: Stacking, network: Tensor, log_p: Sequence[Tensor], label: np.ndarray) -> Tensor:
        weighted.append((label, {len(member) for member in log_p}))
        return fit_beside(stacking, network, log_p, label)

    monkeypatch.setattr(Stacking, "fit_beside", watched)
    few, validation = world(24, 1), world(80, 2)
    trained = fit_with_unlabelled(
        "nmcl_stacked", few, unlabelled(), validation, CLASSES, stacked(stacked_with=("logistic", "forest_late"))
    )
    assert trained.diagnostics["self_training"]["joined"] > 0
    for label, n_rows in weighted:  # of the first model, and of the second one
        np.testing.assert_array_equal(label, np.concatenate([few.label, validation.label]))
        assert n_rows == {104}
    assert len(weighted) == 2
