"""All measures against scikit-learn on made-up data, and what happens where one is not defined."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from nmcl.model.evaluate import calibration_error, error_if_calibrated, evaluate
from nmcl.pipeline.errors import ModelError


def names(k: int) -> tuple[str, ...]:
    return tuple(f"class {i}" for i in range(k))


def made_up(n: int, k: int, seed: int, steps: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities with ties, better than chance."""
    random = np.random.default_rng(seed)
    label = random.integers(0, k, n)
    score = np.round(random.random((n, k)) * steps) / steps + 0.5 * np.eye(k)[label] + 0.01
    return score / score.sum(axis=1, keepdims=True), label


@given(n=st.integers(1, 40), k=st.integers(2, 9), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_measures_agree_with_scikit_learn(n: int, k: int, seed: int) -> None:
    probability, label = made_up(n, k, seed)
    found = evaluate(probability, label, names(k))
    predicted = probability.argmax(axis=1)
    assert found.scores.micro_f1 == pytest.approx(metrics.f1_score(label, predicted, average="micro"))
    assert found.scores.macro_f1 == pytest.approx(
        metrics.f1_score(label, predicted, average="macro", zero_division=0.0)
    )
    assert found.scores.log_loss == pytest.approx(metrics.log_loss(label, probability, labels=range(k)))
    assert found.confusion.tolist() == metrics.confusion_matrix(label, predicted, labels=range(k)).tolist()
    truth = np.eye(k)[label]
    assert found.scores.auc_micro == pytest.approx(metrics.roc_auc_score(truth.ravel(), probability.ravel()))
    present = np.unique(label)
    if len(present) > 1:
        areas = [metrics.roc_auc_score(truth[:, j], probability[:, j]) for j in present]
        assert found.scores.auc_macro == pytest.approx(np.mean(areas))
    else:
        assert found.scores.auc_macro is None
    assert sum(of_class.support for of_class in found.per_class.values()) == n


@given(n=st.integers(6, 30), k=st.integers(3, 9), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_top_5_agrees_with_scikit_learn_without_ties(n: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    probability, label = random.dirichlet(np.ones(k), n), random.integers(0, k, n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = metrics.top_k_accuracy_score(label, probability, k=min(5, k), labels=range(k))
    assert evaluate(probability, label, names(k)).scores.top5 == pytest.approx(expected)


@given(n=st.integers(1, 60), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_calibration_error_is_that_of_a_loop_over_the_bins(n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    confidence, right = random.random(n), random.random(n) < 0.5
    confidence[0] = 1.0
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & ((confidence < low + 1 / 15 - 1e-12) | (low > 0.93))
        if inside.any():
            expected += inside.sum() / n * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(confidence, right) == pytest.approx(expected)


def test_calibration_error_by_hand() -> None:
    # 0.8 is right in three of four rows, 0.5 in both: (4 * 0.05 + 2 * 0.5) / 6
    confidence = np.array([0.8, 0.8, 0.8, 0.8, 0.5, 0.5])
    assert calibration_error(confidence, np.array([1, 1, 1, 0, 1, 1], bool)) == pytest.approx(0.2)


def test_error_of_calibrated_predictions_is_that_of_their_sampling() -> None:
    # One bin of n rows, each right with probability 0.5: the mean of |Binomial(n, 0.5) / n - 0.5|.
    n = 100
    expected = stats.binom(n, 0.5).expect(lambda hits: abs(hits / n - 0.5))
    assert error_if_calibrated(np.full(n, 0.5)) == pytest.approx(expected, rel=0.15)
    assert error_if_calibrated(np.ones(5)) == 0.0


def test_perfect_predictions() -> None:
    label = np.array([0, 1, 2, 1])
    found = evaluate(np.eye(3)[label], label, names(3))
    for measure in ("micro_f1", "macro_f1", "top5", "auc_micro", "auc_macro"):
        assert getattr(found.scores, measure) == 1.0
    assert found.scores.log_loss == 0.0
    assert found.scores.majority_share == 0.5
    assert found.roc["micro"].tpr[-1] == 1.0


def test_one_class_only_leaves_macro_auc_undefined() -> None:
    found = evaluate(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]), names(2))
    assert found.scores.auc_macro is None
    assert found.roc.keys() == {"micro"}
    assert found.per_class["class 1"].auc is None
    assert found.scores.macro_f1 == pytest.approx(1 / 3)  # class 0: 2/3, class 1 was predicted once and is wrong


def test_curves_start_at_the_origin_and_rise() -> None:
    probability, label = made_up(200, 6, 0)
    for curve in evaluate(probability, label, names(6)).roc.values():
        assert curve.fpr[0] == curve.tpr[0] == 0.0
        assert np.all(np.diff(curve.tpr) >= -1e-12)
        assert curve.auc == pytest.approx(metrics.auc(curve.fpr, curve.tpr), abs=0.01)


@pytest.mark.parametrize(
    ("probability", "label"),
    [
        (np.zeros((0, 2)), np.zeros(0, int)),
        (np.ones((1, 3)), np.array([0])),
        (np.array([[np.nan, 1.0]]), np.array([0])),
        (np.ones((1, 2)), np.array([2])),
        (np.ones((1, 2)), np.array([-1])),
        (np.ones((1, 2)), np.array([0.0])),
    ],
)
def test_unusable_input_is_refused(probability: np.ndarray, label: np.ndarray) -> None:
    with pytest.raises(ModelError, match=r"found|labels"):
        evaluate(probability, label, names(2))
