"""The table of predictions, and scores without completion."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nmcl.flows.run.evaluation import without_completion
from nmcl.flows.run.predict import find_run, load_run, predict
from nmcl.flows.run.prediction import table
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.failures import Failure
from nmcl.pipeline.storage.runs import PREDICTIONS
from nmcl.pipeline.storage.tables import read_table


def video(name: str, venue: str | None = None) -> Video:
    return Video(name, "crawl", f"{name}.mp4", "0" * 64, 1, None, venue, None, None)


@pytest.mark.parametrize("n_venues", [2, 5, 7])
def test_the_most_probable_venues_come_first(n_venues: int) -> None:
    probability = np.random.default_rng(0).dirichlet(np.ones(n_venues), size=4).astype(np.float32)
    probability[2:] = np.nan
    venues = [f"venue {k}" for k in range(n_venues)]
    timeout, no_picture = Failure(None, "timeout", "not decoded within 60 s"), Failure("visual", "no_picture", "none")
    failures = [(), (no_picture,), (timeout,), ()]
    rows = table([video(name) for name in "abcd"], failures, [None] * 4, probability, venues).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "partial", "failed", "failed"]
    assert [row["reason"] for row in rows] == [
        None,
        "no_picture: none",
        "timeout: not decoded within 60 s",
        "empty: no modality was found in it",
    ]
    for i, row in enumerate(rows):
        order = sorted(range(n_venues), key=lambda k: -probability[i, k])
        for rank in range(5):
            known = i < 2 and rank < n_venues
            assert row[f"venue_{rank + 1}"] == (venues[order[rank]] if known else None)
            share = row[f"probability_{rank + 1}"]
            assert share == pytest.approx(probability[i, order[rank]]) if known else share is None


def test_labels_splits_votes_and_all_classes() -> None:
    nan = np.nan
    probability = np.array([[0.2, 0.8], [0.75, 0.25], [nan, nan]], np.float32)
    alone = {"visual": np.array([[nan, nan], [0.4, 0.6], [nan, nan]], np.float32)}
    videos = [video("a", "Slope"), video("b"), video("c", "Rare")]
    found = table(videos, [()] * 3, ["test", None, None], probability, ["Beach", "Slope"], alone, True).to_pydict()
    assert found["venue"] == ["Slope", None, "Rare"]
    assert found["split"] == ["test", None, None]
    assert found["venue_1"] == ["Slope", "Beach", None]
    assert found["venue_by_visual"] == [None, "Slope", None]
    assert found["probability_by_visual"] == [None, pytest.approx(0.6), None]
    assert found["probability_of_Beach"] == [pytest.approx(0.2), 0.75, None]
    assert found["probability_of_Slope"] == [pytest.approx(0.8), 0.25, None]
    few = table(videos, [()] * 3, [None] * 3, probability, ["Beach", "Slope"])
    assert not [name for name in few.column_names if "_by_" in name or "_of_" in name]


def test_a_run_and_a_prediction_say_what_they_know(trained: Path, small_crawl: Path, tmp_path: Path) -> None:
    run = find_run(str(trained))
    own, metrics = read_table(run.store, run.file(PREDICTIONS)).to_pandas(), run.require_metrics()
    assert list(own["venue"]) == [video.venue for video in run.catalogue.videos(run.store)]
    tested = own[own["split"] == "test"]
    assert len(tested) == metrics.test.n_rows
    assert (tested["venue"] == tested["venue_1"]).mean() == metrics.test.micro_f1
    textual = tested[tested["venue_by_textual"].notna()]  # without words it has no vote
    assert 0 < len(textual) <= len(tested)
    visual = (tested["venue"] == tested["venue_by_visual"]).mean()
    assert visual == pytest.approx(metrics.modalities["visual"].micro_f1)

    out, changes = tmp_path / "venues.csv", {"predictions": {"all_classes": True}}
    predict(str(small_crawl), load_run(str(trained), changes), out)
    rows = pd.read_csv(out)
    assert list(rows["split"].fillna("")) == list(own["split"].fillna(""))
    assert list(rows["venue_1"].fillna("")) == list(own["venue_1"].fillna(""))
    shares = rows[["probability_of_Beach", "probability_of_Slope"]]
    known = rows["status"] != "failed"
    np.testing.assert_allclose(shares[known].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(shares[known].max(axis=1), rows["probability_1"][known], atol=1e-6)
    assert shares[~known].isna().all(axis=None)


def test_without_completion_nothing_flows_between_modalities() -> None:
    nan = np.nan
    blocks = {
        "visual": np.array([[1.0], [3.0], [50.0]], np.float32),
        "textual": np.array([[2.0, 4.0], [nan, nan], [nan, nan]], np.float32),
        "acoustic": np.full((3, 2), nan, np.float32),
    }
    bare = without_completion(blocks, np.array([True, True, False]))  # type: ignore[arg-type]
    np.testing.assert_array_equal(bare.modalities["visual"], blocks["visual"])
    np.testing.assert_array_equal(bare.modalities["textual"], [[2, 4], [2, 4], [2, 4]])
    np.testing.assert_array_equal(bare.modalities["acoustic"], np.zeros((3, 2)))
    np.testing.assert_array_equal(bare.observed["textual"], [True, False, False])
