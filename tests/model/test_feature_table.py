"""Feature files: what is a modality, what is absent, and what is refused with what message."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nmcl.model.feature_table import read_feature_file, read_with_texts
from nmcl.pipeline.crawl.descriptions import TextRows
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


def rows(texts: list[str], **columns: list[str]) -> TextRows:
    return TextRows(Path("texts.csv"), texts, columns.get("ids"), columns.get("labels"), columns.get("splits"))


def test_descriptions_are_in_the_order_of_the_rows(tmp_path: Path) -> None:
    path = written(tmp_path, sight=None, label=None)
    splits = ["train", "validation", "test", "train", "", "test"]
    table, texts = read_with_texts(path, rows(list("uvwxyz"), ids=list("abcdef"), labels=["p", "q"] * 3, splits=splits))
    assert texts == list("uvwxz")
    assert table.classes == ("p", "q")
    assert table.label.tolist() == [0, 1, 0, 1, 1]
    assert table.split is not None
    assert table.split.tolist() == [split for split in splits if split]
    np.testing.assert_array_equal(table.modalities["sound"], np.delete(arrays()["sound"], 4, axis=0).astype(np.float32))
    assert "in the order of the rows" in table.notes[0]


def test_descriptions_are_joined_by_ids_if_both_files_have_some(tmp_path: Path) -> None:
    """The labels of the feature file count, wherever both have some."""
    path = written(tmp_path, ids=np.array(list("abcdef")))
    table, texts = read_with_texts(path, rows(list("FEDCBA"), ids=list("fedcba"), labels=["x"] * 6))
    assert texts == list("ABCDEF")
    assert table.classes == ("0", "1")
    assert "joined by their ids" in table.notes[0]
    numbers = written(tmp_path, video_id=np.arange(6))
    assert read_with_texts(numbers, rows(list("FEDCBA"), ids=list("543210")))[1] == list("ABCDEF")


def test_a_row_with_a_description_alone_is_kept(tmp_path: Path) -> None:
    sound = arrays()["sound"].copy()
    sound[[0, 1]] = np.nan
    table, texts = read_with_texts(written(tmp_path, sight=None, sound=sound), rows(["word", *[""] * 5]))
    assert texts == ["word", "", "", "", ""]
    assert np.isnan(table.modalities["sound"]).all(axis=1).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("changes", "beside", "message"),
    [
        ({}, {"texts": ["a"] * 5}, "has 6 rows and texts.csv has 5.*expected the same rows in the same order"),
        ({"ids": np.arange(6)}, {"texts": ["a"] * 6, "ids": list("012344")}, "texts.csv has several rows with.*'4'"),
        ({"ids": np.arange(6)}, {"texts": ["a"] * 6, "ids": list("012346")}, "only in the first: '5'.*second: '6'"),
        ({"label": None}, {"texts": ["a"] * 6}, "no array 'label'.*or a column `label` beside"),
        ({}, {"texts": ["a"] * 6, "splits": ["train", "test"] * 3}, "texts.csv: 'split' has no validation row"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, np.ndarray | None], beside: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        read_with_texts(written(tmp_path, **changes), rows(**beside))


def test_fitted_modalities_are_chosen_and_made_like_others(tmp_path: Path) -> None:
    def counted(train: np.ndarray) -> np.ndarray:
        return np.full((6, 1), train.sum(), np.float32)

    table = replace(read_feature_file(written(tmp_path)), fitted={"words": counted})
    assert list(table.only(["sound", "words"]).fitted_on(np.arange(6) < 4).modalities) == ["sound", "words"]
    made = table.only(["words"]).fitted_on(np.arange(6) < 4)
    assert made.modalities["words"].tolist() == [[4]] * 6
    assert not made.fitted
    assert list(table.only(["sight"]).fitted_on(np.arange(6) < 4).modalities) == ["sight"]
    with pytest.raises(StoreError, match="no modality smell; there are sight, sound, words"):
        table.only(["smell"])
