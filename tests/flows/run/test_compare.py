"""Comparison of two runs of a store, against scikit-learn and SciPy."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score

from nmcl.flows.run.compare import compare_runs
from nmcl.pipeline.errors import StoreError, UserError
from nmcl.pipeline.storage.runs import Run, named_run
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import encode, read_table
from tests.flows.run.earlier import unpacked


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return unpacked(tmp_path)


def rewritten(run: Run, change: dict[str, str]) -> None:
    """Change the predictions of some videos."""
    name = run.file("predictions.parquet")
    table = read_table(run.store, name)
    ids, first = table.column("video_id").to_pylist(), table.column("venue_1").to_pylist()
    new = pa.array([change.get(i, label) for i, label in zip(ids, first, strict=True)], pa.string())
    run.store.write(name, encode(table.set_column(table.column_names.index("venue_1"), "venue_1", new)))


def test_scores_and_tests_are_those_of_other_libraries(store: Store) -> None:
    first, second = named_run(store, "champion"), named_run(store, "logistic")
    assert first.splits is not None
    videos = first.catalogue.videos(store)
    test = [v for v in videos if v.venue and first.splits.get(v.sha256) == "test"]
    wrong = {"Beach": "Cafe", "Cafe": "Street", "Street": "Beach"}
    before = dict(
        zip(*read_table(store, first.file("predictions.parquet")).select([0, 2]).to_pydict().values(), strict=True)
    )
    right = [v for v in test if before[v.video_id] == v.venue]
    rewritten(first, {v.video_id: wrong[str(v.venue)] for v in right[:1]})
    rewritten(second, {v.video_id: wrong[str(v.venue)] for v in right[1:7]})
    found = compare_runs(first, second)
    label = [str(v.venue) for v in test]
    for run, name in ((first, "first"), (second, "second")):
        table = read_table(store, run.file("predictions.parquet")).to_pydict()
        predicted = dict(zip(table["video_id"], table["venue_1"], strict=True))
        decided = [predicted[v.video_id] for v in test]
        assert found.scores[name]["micro_f1"] == pytest.approx(accuracy_score(label, decided))
        assert found.scores[name]["macro_f1"] == pytest.approx(f1_score(label, decided, average="macro"))
    assert (found.n_rows, found.n_only_first, found.n_only_second) == (len(test), 6, 1)
    assert found.p_value == pytest.approx(binomtest(1, 7).pvalue)
    assert {(a.video_id, a.right) for a in found.answers} == {
        (right[0].video_id, "second"),
        *((v.video_id, "first") for v in right[1:7]),
    }
    assert found.interval is not None
    assert found.interval[0] < found.interval[1] <= 0
    assert [d.name for d in found.settings] == ["model.name"]
    assert found.features == ()


def test_no_p_value_where_nothing_differs(store: Store) -> None:
    found = compare_runs(named_run(store, "nmcl"), named_run(store, "logistic"))
    assert (found.answers, found.p_value, found.gain) == ((), None, 0)
    with pytest.raises(UserError, match="named twice"):
        compare_runs(named_run(store, "nmcl"), named_run(store, "champion"))


def test_only_test_videos_of_both_count(store: Store) -> None:
    first, second = named_run(store, "nmcl"), named_run(store, "logistic")
    table = read_table(store, second.file("splits.parquet"))
    splits = np.array(table.column("split").to_pylist(), object)
    test = np.flatnonzero(splits == "test")
    splits[test[:4]] = "train"
    new = table.set_column(table.column_names.index("split"), "split", pa.array(splits, pa.string()))
    store.write(second.file("splits.parquet"), encode(new))
    found = compare_runs(named_run(store, "nmcl"), named_run(store, "logistic"))
    assert found.n_rows == len(test) - 4
    assert found.notes == (f"4 test videos of {first.folder} left out: {second.folder} was trained or tuned on them.",)
    splits[test] = "validation"
    new = table.set_column(table.column_names.index("split"), "split", pa.array(splits, pa.string()))
    store.write(second.file("splits.parquet"), encode(new))
    with pytest.raises(StoreError, match="no test video in common"):
        compare_runs(named_run(store, "nmcl"), named_run(store, "logistic"))
