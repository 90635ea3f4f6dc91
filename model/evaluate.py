"""How good venue probabilities are: the paper's measures and a few more, as plain JSON values."""

from typing import Any

import numpy as np

from nmcl.pipeline.errors import ModelError

CURVE_POINTS = 201
"""Points of a ROC curve, at even steps of the false positive rate."""
TOP = 5


def f1(label: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Micro and macro-F1, 0..1, of indices of shape (N,).

    With one label per row, micro-F1 is the accuracy. The macro average runs over the venues that occur as a
    label or a prediction: one that is absent from a split cannot be got right or wrong.
    """
    from sklearn.metrics import f1_score  # takes a second; most processes never score

    micro = float((label == predicted).mean())
    return micro, float(f1_score(label, predicted, average="macro", zero_division=0.0))


def evaluate(probability: np.ndarray, label: np.ndarray, venues: tuple[str, ...]) -> dict[str, Any]:
    """All measures of N rows; None where one is not defined on them.

    Args:
        probability: shape (N, K), finite, rows sum to 1.
        label: shape (N,), integers, 0..K-1.
        venues: K names.

    Returns:
        n_rows; micro_f1, macro_f1, top5_accuracy (among the min(5, K) most probable), log_loss (nats),
        majority_share (accuracy of always naming the most frequent label), auc_micro, auc_macro (one venue
        against the rest, mean over venues with labels of both kinds); confusion (rows are labels, columns
        predictions); per_venue (by name: precision, recall, f1, auc, support); roc (micro and macro: lists
        fpr and tpr).

    Raises:
        ModelError: no rows, or shapes that do not fit.
    """
    from sklearn.metrics import confusion_matrix

    probability, label = _checked(probability, label, len(venues))
    predicted = probability.argmax(axis=1)
    micro, macro = f1(label, predicted)
    truth = np.eye(len(venues), dtype=bool)[label]
    area = [_auc(truth[:, k], probability[:, k]) for k in range(len(venues))]
    defined = [value for value in area if value is not None]
    own = probability[np.arange(len(label)), label]
    return {
        "n_rows": len(label),
        "micro_f1": micro,
        "macro_f1": macro,
        "top5_accuracy": _top_accuracy(probability, label),
        "log_loss": float(-np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()),
        "majority_share": float(np.bincount(label).max() / len(label)),
        "auc_micro": _auc(truth.ravel(), probability.ravel()),
        "auc_macro": float(np.mean(defined)) if defined else None,
        "confusion": confusion_matrix(label, predicted, labels=range(len(venues))).tolist(),
        "per_venue": _per_venue(label, predicted, area, venues),
        "roc": {
            "micro": _curve([truth.ravel()], [probability.ravel()]),
            "macro": _curve(truth.T, probability.T),
        },
    }


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
    """Share of rows whose label is among the most probable; of equals the first venues count, as in
    argmax."""
    order = np.argsort(-probability, axis=1, kind="stable")[:, :TOP]
    return float((order == label[:, None]).any(axis=1).mean())


def _auc(truth: np.ndarray, score: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, score)) if truth.any() and not truth.all() else None


def _per_venue(
    label: np.ndarray, predicted: np.ndarray, area: list[float | None], venues: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    from sklearn.metrics import precision_recall_fscore_support

    precision, recall, score, support = precision_recall_fscore_support(
        label, predicted, labels=range(len(venues)), zero_division=0.0
    )
    return {
        venue: {
            "precision": float(precision[k]),
            "recall": float(recall[k]),
            "f1": float(score[k]),
            "auc": area[k],
            "support": int(support[k]),
        }
        for k, venue in enumerate(venues)
    }


def _curve(truths: Any, scores: Any) -> dict[str, Any] | None:
    """Mean of the ROC curves that are defined, at even steps of the false positive rate; None without one."""
    from sklearn.metrics import auc, roc_curve

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
    return {"fpr": grid.tolist(), "tpr": mean.tolist(), "auc": float(auc(grid, mean))}
