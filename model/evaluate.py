"""Evaluation of class probabilities by the paper's measures and a few more."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.storage.run_files import SplitScores

CURVE_POINTS = 201
"""Number of points of a ROC curve, at equal steps of the false positive rate."""
TOP = 5
CALIBRATION_BINS = 15
CALIBRATION_DRAWS = 200


@dataclass(frozen=True)
class Curve:
    """ROC curve as two sequences of the same length, increasing from 0 to 1."""

    fpr: Sequence[float] | np.ndarray
    tpr: Sequence[float] | np.ndarray
    auc: float | None = None


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class, 0..1."""

    precision: float
    recall: float
    f1: float
    auc: float | None
    """AUC of the class against the rest; None unless there are labels of both kinds."""
    support: int
    """Number of rows with this label."""


@dataclass(frozen=True)
class Evaluation:
    """All measures for N rows and K classes."""

    scores: SplitScores
    confusion: np.ndarray
    """Shape (K, K), int64: rows are labels, columns predictions."""
    per_class: Mapping[str, ClassScores]
    roc: Mapping[Literal["micro", "macro"], Curve]
    """ROC curves that are defined."""


def f1(label: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Return micro and macro-F1, 0..1, of class indices of shape (N,).

    With one label per row, micro-F1 is the accuracy. The macro average is over the classes that occur as a label or a
    prediction: one that is absent from a split cannot be right or wrong.
    """
    return float((label == predicted).mean()), macro_f1(label, predicted)


def macro_f1(label: np.ndarray, predicted: np.ndarray) -> float:
    """Return the macro-F1, 0..1, of `f1` alone.

    scikit-learn, at a millisecond a call, is too slow for every epoch and resample.

    Args:
        label: Class indices, shape (N,), N >= 1.
        predicted: Class indices, shape (N,).
    """
    n = int(max(label.max(), predicted.max())) + 1
    hits = np.bincount(label[label == predicted], minlength=n)
    total = np.bincount(label, minlength=n) + np.bincount(predicted, minlength=n)
    return float((2 * hits[total > 0] / total[total > 0]).mean())


def evaluate(probability: np.ndarray, label: np.ndarray, classes: tuple[str, ...]) -> Evaluation:
    """Score the probabilities of N rows.

    Args:
        probability: shape (N, K), finite, rows sum to 1.
        label: shape (N,), integers, 0..K-1.
        classes: K names.

    Raises:
        ModelError: there are no rows, or the shapes do not fit.
    """
    from sklearn.metrics import confusion_matrix

    probability, label = _checked(probability, label, len(classes))
    predicted = probability.argmax(axis=1)
    micro, macro = f1(label, predicted)
    truth = np.eye(len(classes), dtype=bool)[label]
    area = [_auc(truth[:, k], probability[:, k]) for k in range(len(classes))]
    defined = [value for value in area if value is not None]
    own = probability[np.arange(len(label)), label]
    confidence = probability.max(axis=1)
    scores = SplitScores(
        n_rows=len(label),
        micro_f1=micro,
        macro_f1=macro,
        auc_micro=_auc(truth.ravel(), probability.ravel()),
        auc_macro=float(np.mean(defined)) if defined else None,
        top5=_top_accuracy(probability, label),
        log_loss=float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()),
        majority_share=float(np.bincount(label).max() / len(label)),
        ece=calibration_error(confidence, predicted == label),
        ece_if_calibrated=error_if_calibrated(confidence),
    )
    curves: dict[Literal["micro", "macro"], Curve | None] = {
        "micro": _curve([truth.ravel()], [probability.ravel()], scores.auc_micro),
        "macro": _curve(truth.T, probability.T, scores.auc_macro),
    }
    return Evaluation(
        scores=scores,
        confusion=confusion_matrix(label, predicted, labels=range(len(classes))),
        per_class=_per_class(label, predicted, area, classes),
        roc={name: curve for name, curve in curves.items() if curve},
    )


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error (ECE), 0..1.

    The mean over the rows of how far mean confidence and share of right predictions are apart in 15 bins of equal
    width: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Args:
        confidence: Probability of the predicted class, shape (N,), N >= 1, 0..1.
        right: Whether the prediction is right, shape (N,), bool.
    """
    number = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return float(np.abs(np.bincount(number, weights=right - confidence)).sum() / len(confidence))


def error_if_calibrated(confidence: np.ndarray) -> float:
    """Return the mean calibration error of as many rows if each confidence were the probability of being right.

    With few rows it is far from 0: a hundred rows give up to 10 %. A measured error is only evidence above this one.
    Bröcker and Smith, "Increasing the Reliability of Reliability Diagrams", 2007, draw outcomes in the same way.

    Args:
        confidence: See `calibration_error`.

    Returns:
        The mean of 200 seeded draws, 0..1.
    """
    random = np.random.default_rng(0)
    draws = (random.random(len(confidence)) < confidence for _ in range(CALIBRATION_DRAWS))
    return float(np.mean([calibration_error(confidence, right) for right in draws]))


def _checked(probability: np.ndarray, label: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    probability, label = np.asarray(probability, np.float64), np.asarray(label)
    if label.ndim != 1 or len(label) == 0 or not np.issubdtype(label.dtype, np.integer):
        raise ModelError(f"found labels of shape {label.shape} and type {label.dtype}, expected N >= 1 integers")
    if probability.shape != (len(label), n_classes) or not np.isfinite(probability).all():
        raise ModelError(f"found probabilities of shape {probability.shape}, expected finite {(len(label), n_classes)}")
    if label.min() < 0 or label.max() >= n_classes:
        raise ModelError(f"labels run from {label.min()} to {label.max()}, expected 0 to {n_classes - 1}")
    return probability, label


def _top_accuracy(probability: np.ndarray, label: np.ndarray) -> float:
    """Return the share of rows whose label is among the `TOP` most probable; ties go to the first, as in argmax."""
    order = np.argsort(-probability, axis=1, kind="stable")[:, :TOP]
    return float((order == label[:, None]).any(axis=1).mean())


def _auc(truth: np.ndarray, score: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, score)) if truth.any() and not truth.all() else None


def _per_class(
    label: np.ndarray, predicted: np.ndarray, area: list[float | None], classes: tuple[str, ...]
) -> dict[str, ClassScores]:
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, score, support = precision_recall_fscore_support(
        label, predicted, labels=range(len(classes)), zero_division=0.0
    )
    return {
        name: ClassScores(float(precision[k]), float(recall[k]), float(score[k]), area[k], int(support[k]))
        for k, name in enumerate(classes)
    }


def _curve(truths: Iterable[np.ndarray], scores: Iterable[np.ndarray], area: float | None) -> Curve | None:
    """Return the mean of the defined ROC curves at equal steps of the false positive rate; None if there are none."""
    from sklearn.metrics import roc_curve

    grid = np.linspace(0.0, 1.0, CURVE_POINTS)
    curves = []
    for truth, score in zip(truths, scores, strict=True):
        if truth.any() and not truth.all():
            false, true, _ = roc_curve(truth, score)
            curves.append(np.interp(grid, false, true))
    if not curves:
        return None
    mean = np.mean(curves, axis=0)
    mean[0] = 0.0
    return Curve(grid, mean, area)
