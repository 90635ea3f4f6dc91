"""Two studies of the same rows, compared by scipy and by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from nmcl.model.study.paired import compare_studies
from nmcl.pipeline.errors import StoreError

K = 3


def study(folder: Path, right: float, rows: list[np.ndarray], names: tuple[str, ...] = ("mlp",), seed: int = 0) -> Path:
    """Write the predictions of methods that are right with a probability."""
    random = np.random.default_rng(seed)
    label = np.arange(200) % K
    arrays: dict[str, np.ndarray] = {}
    for i, row in enumerate(rows):
        arrays[f"label/{i}"], arrays[f"row/{i}"] = label[row], row
        for name in names:
            shift = random.integers(1, K, len(row)) * (random.random(len(row)) > right)
            arrays[f"{name}/{i}"] = np.eye(K, dtype=np.float32)[(label[row] + shift) % K]
    folder.mkdir()
    np.savez(folder / "predictions.npz", **arrays)  # type: ignore[arg-type]
    (folder / "results.json").write_text(json.dumps({"rows": {"train": 98, "validation": 42, "test": 60}}))
    return folder


def of_study(folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(folder / "predictions.npz") as file:
        return file[f"label/{seed}"], file[f"mlp/{seed}"].argmax(axis=1), file[f"row/{seed}"]


def test_one_split(tmp_path: Path) -> None:
    rows = [np.arange(60)] * 3
    weak, strong = study(tmp_path / "weak", 0.5, rows), study(tmp_path / "strong", 0.8, rows, seed=1)
    (found,) = compare_studies(weak, strong)
    own, other = ([of_study(folder, i) for i in range(3)] for folder in (weak, strong))
    for scores, micro, macro in (
        (own, found.micro_f1, found.macro_f1),
        (other, found.other_micro_f1, found.other_macro_f1),
    ):
        assert micro == pytest.approx(np.mean([(label == choice).mean() for label, choice, _ in scores]))
        assert macro == pytest.approx(
            np.mean([f1_score(label, choice, average="macro") for label, choice, _ in scores])
        )
    assert 0 < found.interval[0] < found.other_macro_f1 - found.macro_f1 < found.interval[1]
    shares = [np.mean([label == choice for label, choice, _ in scores], axis=0) for scores in (other, own)]
    assert found.rows_p_value == pytest.approx(stats.ttest_rel(*shares).pvalue)
    assert found.splits_p_value is None
    (back,) = compare_studies(strong, weak)
    assert back.interval == pytest.approx((-found.interval[1], -found.interval[0]))
    assert back.rows_p_value == pytest.approx(found.rows_p_value)


def test_several_splits_are_corrected_for_their_overlap(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    rows = [np.sort(random.permutation(200)[:60]) for _ in range(5)]
    weak, strong = study(tmp_path / "weak", 0.6, rows), study(tmp_path / "strong", 0.7, rows, seed=1)
    (found,) = compare_studies(weak, strong)
    gains = []
    for i in range(5):
        (label, own, _), (_, other, _) = of_study(weak, i), of_study(strong, i)
        gains.append(f1_score(label, other, average="macro") - f1_score(label, own, average="macro"))
    t = np.mean(gains) / np.sqrt(np.var(gains, ddof=1) * (1 / 5 + 60 / 98))
    assert found.splits_p_value == pytest.approx(2 * stats.t.sf(abs(t), 4))
    right = {name: np.zeros(200) for name in ("own", "other", "n")}
    for i in range(5):
        (label, own, row), (_, other, _) = of_study(weak, i), of_study(strong, i)
        right["own"][row] += own == label
        right["other"][row] += other == label
        right["n"][row] += 1
    tested = right["n"] > 0
    shares = [right[name][tested] / right["n"][tested] for name in ("other", "own")]
    assert found.rows_p_value == pytest.approx(stats.ttest_rel(*shares).pvalue)


def test_a_study_against_itself_gains_nothing(tmp_path: Path) -> None:
    folder = study(tmp_path / "weak", 0.5, [np.arange(60)] * 2, ("mlp", "logistic"))
    found = compare_studies(folder, folder)
    assert [row.method for row in found] == ["mlp", "logistic"]
    assert all(row.interval == (0.0, 0.0) and row.rows_p_value is None for row in found)


def test_studies_that_cannot_be_compared(tmp_path: Path) -> None:
    first = study(tmp_path / "first", 0.5, [np.arange(60)])
    with pytest.raises(StoreError, match="different test rows"):
        compare_studies(first, study(tmp_path / "seeds", 0.5, [np.arange(60)] * 2))
    with pytest.raises(StoreError, match="different test rows"):
        compare_studies(first, study(tmp_path / "rows", 0.5, [np.arange(3, 63)]))  # with equal labels
    with pytest.raises(StoreError, match="no method in common"):
        compare_studies(first, study(tmp_path / "methods", 0.5, [np.arange(60)], ("logistic",)))
    with pytest.raises(StoreError, match=r"predictions\.npz. Give the --out folder"):
        compare_studies(first, tmp_path / "absent")
    old = tmp_path / "old"
    old.mkdir()
    with np.load(first / "predictions.npz") as file:
        np.savez(old / "predictions.npz", **{name: file[name] for name in file.files if name != "row/0"})
    with pytest.raises(StoreError, match=r"earlier version.*Run `nmcl reproduce` again"):
        compare_studies(old, old)
