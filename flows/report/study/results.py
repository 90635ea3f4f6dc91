"""Writer of `results.json`: all numbers of a study for other programs. Its keys are a stable interface."""

from dataclasses import asdict
from typing import Any

from nmcl.model.study.results import FUSED, CompleterScores, MethodRow, StudyData

_LEFT_OUT = ("title", "created", "roc", "relations", "attention", "gates", "collapse")
_KEYS = {"n_classes": "n_venues"}
"""Fields whose key has another name."""


def results(data: StudyData) -> dict[str, Any]:
    """Return the content of `results.json`. Shares and scores are 0..1, times are seconds; None if undefined.

    `p_value` is that of a paired t-test of micro-F1 over the seeds against the reference method; `verdict_p_value` is
    that of macro-F1 by the test that fits the design, which `tested` names.
    """
    tree = asdict(data)
    return {_KEYS.get(name, name): value for name, value in tree.items() if name not in _LEFT_OUT} | {
        "methods": {row.name: _method(row) for row in data.methods},
        "modalities": {row.pop("name"): row for row in tree["modalities"]},
        "variants": {row.pop("name"): row for row in tree["variants"]},
        "completion": {
            f"{level.hidden:.1f}": {name: _completer(scores) for name, scores in level.completers.items()}
            for level in data.completion
        },
        "diagnostics": {"gates": tree["gates"], "collapse": tree["collapse"]},
        "seeds": list(data.seeds),
        "fused": FUSED,
    }


def _method(row: MethodRow) -> dict[str, Any]:
    tree = asdict(row)
    measures = {name: tree[name] for name in ("auc_micro", "auc_macro", "top5", "ece", "ece_if_calibrated")}
    tree |= {name: spread["mean"] for name, spread in measures.items()}
    tree["std"] = {name: spread["std"] for name, spread in measures.items()}
    tree["macro_f1_difference"] = tree.pop("macro_interval")
    del tree["name"]
    return tree


def _completer(scores: CompleterScores) -> dict[str, Any]:
    return {
        "nrmse": scores.nrmse,
        "per_modality": dict(scores.per_modality),
        "macro_f1_incomplete": scores.macro_f1.mean,
    }
