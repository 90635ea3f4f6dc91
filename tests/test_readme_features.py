"""README's way from a folder of videos to an MMRec folder and a PyTorch loader: its own words, on real clips."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from nmcl.flows.settings import from_tree
from nmcl.flows.stored_settings import remember
from nmcl.pipeline.storage.store import Store
from tests.own import write_clips
from tests.readme import README

(PASSAGE,) = re.findall(r"^## Features for your own model\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
(COMMAND,) = re.findall(r"```sh\n(.*?)```", PASSAGE, re.DOTALL)
(SCRIPT,) = re.findall(r"```python\n(.*?)```", PASSAGE, re.DOTALL)
SMALL = {
    "features": {
        "acoustic": {"autoencoder": {"layers": [32, 16], "epochs": 0, "fine_tune_epochs": 0, "min_steps": 0}},
        "textual": {"min_words": 200},
    }
}
"""Small networks: the words of README are for any size."""


def test_from_a_folder_to_mmrec_and_to_a_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clips(tmp_path / "my-videos", 5)  # the last has no sound
    lines = ["video_path,video_id,description,venue", "3.mp4,z,sand and sea,Beach", "0.mp4,b,,Slope", "4.mp4,a,snow,"]
    (tmp_path / "my-videos" / "manifest.csv").write_text("\n".join([*lines, "1.mp4,9,sun and sea,", "2.mp4,c,,Beach"]))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    remember(Store.create(tmp_path / "out"), from_tree(SMALL))
    done = subprocess.run(["bash", "-ec", COMMAND], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    monkeypatch.chdir(tmp_path)
    items = pd.read_csv("features-mmrec/i_id_mapping.csv", sep="\t", dtype={"asin": str})
    row = dict(zip(items["asin"], items["itemID"], strict=True))
    space: dict[str, Any] = {}
    exec(SCRIPT, space)
    batches = list(space["loader"])
    assert sorted(i for batch in batches for i in batch["id"]) == sorted(row) == ["9", "a", "b", "c", "z"]
    for name, file in (("visual", "image_feat"), ("acoustic", "audio_feat"), ("textual", "text_feat")):
        (path,) = Path("out/features").glob(f"{name}-*/part-*.parquet")
        stored = dict(zip(*pq.read_table(path, columns=["video_id", "vector"]).to_pydict().values(), strict=True))
        # as MMRec's AbstractRecommender loads it
        matrix = torch.from_numpy(np.load(f"features-mmrec/{file}.npy", allow_pickle=True)).type(torch.FloatTensor)  # type: ignore[call-overload]
        for batch in batches:
            for i, vector, observed in zip(
                batch["id"], batch["features"][name], batch["observed"][name].tolist(), strict=True
            ):
                expected = np.array(stored[i] or [0] * len(vector), np.float32)
                assert observed == (stored[i] is not None) == expected.any()
                np.testing.assert_array_equal(vector, expected)
                np.testing.assert_array_equal(matrix[row[i]], expected)
    assert [name for name in ("visual", "acoustic", "textual") if not batches[0]["observed"][name].all()] == [
        "acoustic",
        "textual",
    ]
    labels = {i: int(label) for batch in batches for i, label in zip(batch["id"], batch["label"], strict=True)}
    assert labels == {"z": 0, "b": 1, "a": -1, "9": -1, "c": 0}
    assert space["loader"].dataset.classes == ["Beach", "Slope"]
    assert space["pictures"].shape[1] == 1280
