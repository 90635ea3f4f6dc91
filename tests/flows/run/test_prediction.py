"""The table of predictions, and scores without completion."""

import numpy as np
import pytest

from nmcl.flows.run.evaluation import without_completion
from nmcl.flows.run.prediction import table
from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.failures import Failure


def video(name: str) -> Video:
    return Video(name, "crawl", f"{name}.mp4", "0" * 64, 1, None, None, None, None)


@pytest.mark.parametrize("n_venues", [2, 5, 7])
def test_the_most_probable_venues_come_first(n_venues: int) -> None:
    probability = np.random.default_rng(0).dirichlet(np.ones(n_venues), size=4).astype(np.float32)
    probability[2:] = np.nan
    venues = [f"venue {k}" for k in range(n_venues)]
    timeout, no_picture = Failure(None, "timeout", "not decoded within 60 s"), Failure("visual", "no_picture", "none")
    failures = [(), (no_picture,), (timeout,), ()]
    rows = table([video(name) for name in "abcd"], failures, probability, venues).to_pylist()
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
