"""Feature files: what is a modality, what is absent, and what is refused with what message."""

from pathlib import Path

import numpy as np
import pytest

from nmcl.model.feature_table import read_feature_file
from nmcl.pipeline.errors import StoreError


def arrays(n_rows: int = 6) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "sound": random.normal(size=(n_rows, 2)),
        "sight": random.normal(size=(n_rows, 3)).astype(np.float32),
        "label": np.arange(n_rows) % 2,
    }


def written(folder: Path, **changes: np.ndarray | None) -> Path:
    content = {name: array for name, array in {**arrays(), **changes}.items() if array is not None}
    np.savez(folder / "features.npz", **content)  # type: ignore[arg-type]
    return folder / "features.npz"


def test_two_dimensional_floats_are_modalities(tmp_path: Path) -> None:
    path = written(tmp_path, ids=np.arange(6), counts=np.ones((6, 2), int), label=np.array([20, 3, 20, 3, 3, 20]))
    table = read_feature_file(path)
    assert list(table.modalities) == ["sight", "sound"]
    assert all(block.dtype == np.float32 for block in table.modalities.values())
    np.testing.assert_array_equal(table.modalities["sound"], arrays()["sound"].astype(np.float32))
    assert table.classes == ("3", "20")
    assert table.label.tolist() == [1, 0, 1, 0, 0, 1]
    assert table.split is None
    assert any("counts, ids" in note for note in table.notes)


def test_string_labels_and_a_split(tmp_path: Path) -> None:
    label = np.array(["park", "cafe", "", "park", "cafe", "park"])
    table = read_feature_file(written(tmp_path, label=label, split=np.array([0, 1, 0, 2, -1, 0])))
    assert table.classes == ("cafe", "park")
    assert table.label.tolist() == [1, 0, 1, 1]
    assert table.split is not None
    assert table.split.tolist() == ["train", "validation", "test", "train"]
    assert any("2 rows" in note for note in table.notes)


def test_bytes_are_read_as_text(tmp_path: Path) -> None:
    table = read_feature_file(written(tmp_path, label=np.array([b"caf\xc3\xa9", b"park"] * 3)))
    assert table.classes == ("café", "park")


def test_rows_of_nan_are_absent_and_rows_without_any_modality_left_out(tmp_path: Path) -> None:
    sight, sound = arrays()["sight"].copy(), arrays()["sound"].copy()
    sight[[0, 1]] = np.nan
    sound[[1, 2]] = np.nan
    table = read_feature_file(written(tmp_path, sight=sight, sound=sound))
    assert len(table) == 5
    assert np.isnan(table.modalities["sight"]).all(axis=1).tolist() == [True, False, False, False, False]
    assert np.isnan(table.modalities["sound"]).all(axis=1).tolist() == [False, True, False, False, False]
    assert any("no modality" in note for note in table.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sound": None}, "expected two or more"),
        ({"label": None}, "no array 'label'"),
        ({"label": np.zeros(6, int)}, "1 different labels"),
        ({"label": np.zeros(5, int)}, r"expected \(6,\)"),
        ({"label": np.linspace(0, 1, 6)}, "integers or strings"),
        ({"label": np.array([1, "a", None, 2, 3, 4], object)}, "not objects"),
        ({"sound": np.zeros((5, 2))}, r"expected \(6, D\)"),
        ({"sound": np.full((6, 2), np.inf)}, "infinite"),
        ({"sound": np.full((6, 2), 1e300)}, "infinite"),
        ({"sound": np.where(np.eye(6, 2) > 0, np.nan, 1.0)}, "row 0 of 'sound' is NaN in 1 of 2"),
        ({"split": np.zeros(6, int)}, "no validation row"),
        ({"split": np.zeros(6)}, "expected .* integers"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, changes: dict[str, np.ndarray | None], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        read_feature_file(written(tmp_path, **changes))


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no file"):
        read_feature_file(tmp_path / "absent.npz")
    for name, content in (("text.npz", b"label,1,2"), ("cut.npz", written(tmp_path).read_bytes()[:300])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError, match="cannot be read"):
            read_feature_file(tmp_path / name)


def test_some_of_the_modalities(tmp_path: Path) -> None:
    table = read_feature_file(written(tmp_path))
    assert list(table.only(["sound"]).modalities) == ["sound"]
    with pytest.raises(StoreError, match="no modality smell; there are sight, sound"):
        table.only(["sound", "smell"])
