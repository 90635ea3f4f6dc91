"""Writer of `results.json`: all numbers of a study for other programs. Its keys are a stable interface."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nmcl.model.study.results import FUSED, CompletionLevel, MethodRow, ScoreRow, Spread, StudyData


def results(data: StudyData) -> dict[str, Any]:
    """Return the content of `results.json`. Shares and scores are 0..1, times are seconds; None if undefined.

    `p_value` is that of a paired t-test of micro-F1 over the seeds against the reference method.
    """
    return {
        "methods": {row.name: _method(row) for row in data.methods},
        "modalities": {row.name: _score(row) for row in data.modalities},
        "enhanced": {
            subset: {modality: _spread(micro) for modality, micro in branches.items()}
            for subset, branches in data.enhanced.items()
        },
        "variants": {row.name: _score(row) for row in data.variants},
        "completion": _completion(data.completion),
        "absence": {
            modality: {handling: asdict(scores) for handling, scores in handled.items()}
            for modality, handled in data.absence.items()
        },
        "diagnostics": {
            "gates": [asdict(point) for point in data.gates],
            "collapse": {branch: {str(n): share for n, share in of.items()} for branch, of in data.collapse.items()},
        },
        "epochs": {name: [asdict(point) for point in points] for name, points in data.epochs.items()},
        "rows": asdict(data.rows),
        "dims": dict(data.dims),
        "n_venues": data.n_venues,
        "seeds": list(data.seeds),
        "reference": data.reference,
        "fused": FUSED,
        "settings": dict(data.settings),
        "tuning": {name: [asdict(trial) for trial in tried] for name, tried in data.tuning.items()},
        "notices": list(data.notices),
        "command": data.command,
    }


def _spread(measure: Spread) -> dict[str, Any]:
    return {"mean": measure.mean, "std": measure.std, "values": list(measure.values)}


def _method(row: MethodRow) -> dict[str, Any]:
    return {
        "micro_f1": _spread(row.micro_f1),
        "macro_f1": _spread(row.macro_f1),
        "auc_micro": row.auc_micro.mean,
        "auc_macro": row.auc_macro.mean,
        "top5": row.top5.mean,
        "std": {name: getattr(row, name).std for name in ("auc_micro", "auc_macro", "top5")},
        "train_seconds": row.train_seconds,
        "parameters": row.parameters,
        "p_value": row.p_value,
        "macro_p_value": row.macro_p_value,
        "corrected_p_value": row.corrected_p_value,
        "mcnemar_p_value": row.mcnemar_p_value,
        "macro_f1_difference": None if row.macro_interval is None else list(row.macro_interval),
    }


def _score(row: ScoreRow) -> dict[str, Any]:
    return {
        "micro_f1": _spread(row.micro_f1),
        "macro_f1": _spread(row.macro_f1),
        "p_value": row.p_value,
        "macro_p_value": row.macro_p_value,
    }


def _completion(levels: Sequence[CompletionLevel]) -> dict[str, Mapping[str, Any]]:
    """Return a mapping from the share hidden, such as "0.1", to completer to scores."""
    return {
        f"{level.hidden:.1f}": {
            name: {
                "nrmse": scores.nrmse,
                "per_modality": dict(scores.per_modality),
                "macro_f1_incomplete": scores.macro_f1.mean,
            }
            for name, scores in level.completers.items()
        }
        for level in levels
    }
