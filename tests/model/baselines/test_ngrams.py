"""Models of sparse terms against scikit-learn's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, hstack
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB

from nmcl.model.base import TERMS, Shape
from nmcl.model.baselines.ngrams import NgramBayes, NgramBayesSettings, NgramLogistic, NgramLogisticSettings, TermModel
from nmcl.model.batches import sparse_tensor
from nmcl.model.data import Dataset
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.progress import silent
from tests.model.conftest import CLASSES, with_terms, world


def rows(n: int, seed: int) -> Dataset:
    """Rows with terms of two feature sets, the first of them without any."""
    found = with_terms(world(n, seed), seed)
    (words,) = found.terms.values()
    words = words.copy()
    words.data[:3] = 0
    words.eliminate_zeros()
    return replace(found, terms={"tags": words[:, :5], "words": words})


TRAIN, VALIDATION, TEST = rows(160, 1), rows(80, 2), rows(300, 3)
SHAPE = Shape(TRAIN.dims, CLASSES, TRAIN.n_terms)


def predicted(model: TermModel, test: Dataset) -> np.ndarray:
    features = {TERMS.format(name): sparse_tensor(terms) for name, terms in test.terms.items()}
    return np.asarray(model(features, {}).log_probability.numpy())


def side_by_side(part: Dataset) -> csr_array:
    return csr_array(hstack(list(part.terms.values())))


def test_naive_bayes_is_scikit_learn_s_sharpened() -> None:
    model = NgramBayes(SHAPE, NgramBayesSettings((0.3,)))
    model.fit(TRAIN, VALIDATION, 0, silent)
    known = np.diff(side_by_side(TRAIN).indptr) > 0
    reference = ComplementNB(alpha=0.3).fit(side_by_side(TRAIN)[known], TRAIN.label[known])
    joint = side_by_side(TEST) @ reference.feature_log_prob_.T
    expected = log_softmax(float(model.inverse_temperature) * joint, axis=1)
    np.testing.assert_allclose(predicted(model, TEST)[1:], expected[1:], atol=1e-4)


def test_logistic_regression_is_scikit_learn_s() -> None:
    model = NgramLogistic(SHAPE, NgramLogisticSettings((1.0, 10.0)))
    model.fit(TRAIN, VALIDATION, 0, silent)
    known = np.diff(side_by_side(TRAIN).indptr) > 0
    reference = LogisticRegression(C=model.chosen, max_iter=1000).fit(side_by_side(TRAIN)[known], TRAIN.label[known])
    scores = float(model.inverse_temperature) * reference.decision_function(side_by_side(TEST))
    np.testing.assert_allclose(predicted(model, TEST)[1:], log_softmax(scores, axis=1)[1:], atol=0.08)


@pytest.mark.parametrize("kind", [NgramBayes, NgramLogistic])
def test_a_row_without_a_term_gets_the_class_shares(kind: type) -> None:
    settings = NgramBayesSettings() if kind is NgramBayes else NgramLogisticSettings()
    model = kind(SHAPE, settings)
    model.fit(TRAIN, VALIDATION, 0, silent)
    shares = np.bincount(TRAIN.label, minlength=4) / len(TRAIN)
    np.testing.assert_allclose(np.exp(predicted(model, TEST)[0]), shares, atol=1e-4)
    assert (predicted(model, TEST).argmax(axis=1) == TEST.label).mean() > 0.65


def test_the_likeliest_penalty_is_chosen_and_kept_for_other_rows() -> None:
    model = NgramBayes(SHAPE, NgramBayesSettings((0.1, 100.0)))
    model.fit(TRAIN, VALIDATION, 0, silent)
    alone = []
    for smoothing in (0.1, 100.0):
        one = NgramBayes(SHAPE, NgramBayesSettings((smoothing,)))
        one.fit(TRAIN, VALIDATION, 0, silent)
        alone.append(predicted(one, VALIDATION)[np.arange(80), VALIDATION.label].mean())
    assert model.chosen == (0.1, 100.0)[int(np.argmax(alone))]
    model.refit(TEST, 0, silent)
    other = NgramBayes(SHAPE, NgramBayesSettings((model.chosen,)))
    other.fit(TEST, VALIDATION, 0, silent)
    torch.testing.assert_close(model.weight, other.weight)


def test_without_terms_it_is_refused() -> None:
    with pytest.raises(ModelError, match="no feature set has sparse terms"):
        NgramBayes(Shape(TRAIN.dims, CLASSES), NgramBayesSettings())
