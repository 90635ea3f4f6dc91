"""Every format is loaded as its consumer does, with the consumer itself where it is a package; compared by id."""

import csv
import io
import json
import os
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import cornac.data
import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
import webdataset

from nmcl.model.feature_table import read_feature_file
from nmcl.pipeline.errors import UserError
from nmcl.pipeline.export.files import write_export
from nmcl.pipeline.export.record import Missing
from nmcl.pipeline.export.registry import FORMATS
from tests.pipeline.export.world import DIMS, IDS, LABELS, MISSING, NAMES, SPLITS, World, make_world

Loaded = Mapping[str, Mapping[str, np.ndarray]]
"""Feature set -> id -> vector; an absent vector is NaN."""
FIRST = {"visual": "resnet", "acoustic": "spectrum", "textual": "words"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def by_name(ids: list[str], vectors: object, dim: int) -> dict[str, np.ndarray]:
    rows = [np.full(dim, np.nan, np.float32) if v is None else np.asarray(v, np.float32) for v in vectors]  # type: ignore[attr-defined]
    return dict(zip(ids, rows, strict=True))


def dim_of(name: str) -> int:
    return DIMS[NAMES[name]]


def with_pandas(path: Path) -> Loaded:
    table = pd.read_parquet(path)
    assert table["label"].isna().tolist() == [label is None for label in LABELS]
    assert table["split"].tolist()[0] == "test"
    for name in NAMES:
        assert table[f"{name}_observed"].tolist() == [i not in MISSING[name] for i in range(len(IDS))]
    return {name: by_name(table["video_id"].tolist(), table[name], dim_of(name)) for name in NAMES}


def with_polars(path: Path) -> Loaded:
    table = pl.read_parquet(path)
    return {name: by_name(table["video_id"].to_list(), table[name].to_list(), dim_of(name)) for name in NAMES}


def with_duckdb(path: Path) -> Loaded:
    found = {}
    for name in NAMES:
        rows = duckdb.sql(f"SELECT video_id, {name} FROM '{path}'").fetchall()
        found[name] = by_name([row[0] for row in rows], [row[1] for row in rows], dim_of(name))
    return found


def with_numpy(path: Path) -> Loaded:
    with np.load(path, allow_pickle=False) as file:
        assert file["split"].tolist() == [{"train": 0, "validation": 1, "test": 2}.get(s or "", -1) for s in SPLITS]
        assert file["label"].tolist() == [label or "" for label in LABELS]
        for name in NAMES:
            assert file[f"observed_{name}"].tolist() == [i not in MISSING[name] for i in range(len(IDS))]
        return {name: by_name(file["ids"].tolist(), file[f"X_{name}"], dim_of(name)) for name in NAMES}


def with_datasets(path: Path) -> Loaded:
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in NAMES}
    everything = datasets.load_dataset(str(path), cache_dir=str(path.parent / "cache"))
    assert {*everything} == {"train", "validation", "test", "unassigned"}
    for split, rows in everything.items():
        ids = rows["video_id"][:]
        assert [SPLITS[IDS.index(i)] or "unassigned" for i in ids] == [split] * len(ids)
        for name in NAMES:
            found[name] |= by_name(ids, rows[name][:], dim_of(name))
    return found


def with_torch(path: Path) -> Loaded:
    found = {}
    for name in NAMES:
        tensors = torch.load(path / f"{name}.pt", weights_only=True)
        mapped = torch.load(path / f"{name}.pt", weights_only=True, mmap=True)
        assert all(torch.equal(tensors[i], mapped[i]) or tensors[i].isnan().any() for i in IDS)
        found[name] = {i: tensor.numpy() for i, tensor in tensors.items()}
    return found


def with_more(path: Path) -> Loaded:
    files = {"resnet": "vision", "spectrum": "audio", "words": "text"}
    vids = {split: pd.read_csv(path / f"vids/{split}.csv", header=None)[0].tolist() for split in ("train", "test")}
    labels = pd.read_json(path / "label.jsonl", lines=True, dtype=False).set_index("vid")["label"].to_dict()
    for split, ids in vids.items():
        assert [str(i) for i in ids] == [
            i for i, s, label in zip(IDS, SPLITS, LABELS, strict=True) if s == split and label
        ]
    assert labels == {i: ("Beach", "Slope").index(label) for i, label in zip(IDS, LABELS, strict=True) if label}
    return {
        name: {
            i: tensor.numpy()
            for i, tensor in torch.load(path / f"fea/fea_{file}_modal_retrieval.pt", weights_only=True).items()
        }
        for name, file in files.items()
    }


def with_mmrec(path: Path) -> Loaded:
    items = pd.read_csv(path / "i_id_mapping.csv", sep="\t", dtype={"asin": str})
    assert items["itemID"].tolist() == list(range(len(IDS)))
    files = {"resnet": "image_feat.npy", "words": "text_feat.npy", "spectrum": "audio_feat.npy"}
    found = {}
    for name, file in files.items():
        features = torch.from_numpy(np.load(path / file, allow_pickle=True)).type(torch.FloatTensor)
        assert features.dtype == torch.float32
        found[name] = by_name(items["asin"].tolist(), features.numpy(), dim_of(name))
    return found


def with_cornac(path: Path) -> Loaded:
    found = {}
    shuffled = list(reversed(IDS))
    for name in NAMES:
        kind = cornac.data.ImageModality if NAMES[name] == "visual" else cornac.data.FeatureModality
        ids = json.loads((path / f"{name}_ids.json").read_text())
        modality = kind(features=np.load(path / f"{name}.npy"), ids=ids, normalized=False)
        modality.build(id_map={i: n for n, i in enumerate(shuffled)})
        found[name] = by_name(shuffled, modality.batch_feature(list(range(len(IDS)))), dim_of(name))
    return found


def with_elliot(path: Path) -> Loaded:
    of_id = pd.read_parquet(path / "rows.parquet").set_index("video_id")["file"].to_dict()
    found = {}
    for name in NAMES:
        folder = path / name
        items = {file.split(".")[0] for file in os.listdir(folder)}
        assert items == {*of_id.values()}
        dim = np.load(os.path.join(folder, os.listdir(folder)[0])).shape[0]
        found[name] = by_name(list(of_id), [np.load(f"{folder}/{of_id[i]}.npy") for i in of_id], dim)
    return found


def with_mmgcn(path: Path) -> Loaded:
    ids = json.loads((path / "ids.json").read_text())
    files = {"resnet": "FeatureVideo", "spectrum": "FeatureAudio_avg", "words": "FeatureText_stl"}
    return {
        name: by_name(ids, torch.tensor(np.load(path / f"{file}_normal.npy"), dtype=torch.float), dim_of(name))
        for name, file in files.items()
    }


def with_microlens(path: Path) -> Loaded:
    """Items are numbered by their first interaction, from 1."""
    ids = json.loads((path / "ids.json").read_text())
    items = ["[PAD]", *reversed(IDS)]
    row = {video_id: i for i, video_id in enumerate(ids)}
    found = {}
    for name in NAMES:
        features = np.load(path / f"{name}.npy", allow_pickle=True)
        features = np.stack([np.zeros(features.shape[1]), *(features[row[i]] for i in items[1:])])
        tensor = torch.tensor(features, dtype=torch.float)
        found[name] = by_name(items[1:], tensor[1:].numpy(), tensor.shape[-1])
    return found


def with_mmsa(path: Path) -> Loaded:
    with path.open("rb") as file:
        data = pickle.load(file)
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in ("resnet", "spectrum", "words")}
    for mode, split in (("train", "train"), ("valid", "validation"), ("test", "test"), ("unassigned", None)):
        part = data[mode]
        assert part["id"] == [i for i, s in zip(IDS, SPLITS, strict=True) if s == split]
        text, vision, audio = (part[name].astype(np.float32) for name in ("text", "vision", "audio"))
        audio[audio == -np.inf] = 0
        labels = np.array(part["regression_labels"]).astype(np.float32)
        wanted = [LABELS[IDS.index(i)] for i in part["id"]]
        assert (
            labels.tolist() == part["classification_labels"].tolist() == [-1 if w is None else w > "C" for w in wanted]
        )
        assert torch.Tensor(text[0]).shape == (1, 2)
        for name, values in (("words", text), ("resnet", vision)):
            found[name] |= by_name(part["id"], values[:, 0], dim_of(name))
        for i, steps, length in zip(part["id"], audio, part["audio_lengths"], strict=True):
            assert not steps[length:].any()
            found["spectrum"][i] = steps[:length]
    return found


def with_webdataset(path: Path) -> Loaded:
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in NAMES}
    for shard in sorted(path.glob("*.tar")):
        for sample in webdataset.WebDataset(str(shard), shardshuffle=False).decode():
            info, vectors = (
                sample["json"],
                np.load(io.BytesIO(sample["npz"])) if isinstance(sample["npz"], bytes) else sample["npz"],
            )
            n = IDS.index(info["video_id"])
            assert (info["label"], info["split"], shard.name) == (
                LABELS[n],
                SPLITS[n],
                f"{SPLITS[n] or 'unassigned'}-000000.tar",
            )
            for name in NAMES:
                assert info[f"{name}_observed"] == (n not in MISSING[name])
                found[name][info["video_id"]] = vectors[name]
    return found


def with_croissant(path: Path) -> Loaded:
    import mlcroissant  # takes seconds

    described = mlcroissant.Dataset(path / "croissant.json")
    assert not described.metadata.issues.errors
    rows = [*described.records("videos")]
    ids, labels, splits = (
        [None if row[f"videos/{name}"] is None else row[f"videos/{name}"].decode() for row in rows]
        for name in ("video_id", "label", "split")
    )
    assert (labels, splits) == (list(LABELS), list(SPLITS))
    for name in NAMES:
        assert [row[f"videos/{name}_observed"] for row in rows] == [i not in MISSING[name] for i in range(len(IDS))]
    return {name: by_name(ids, [row[f"videos/{name}"] for row in rows], dim_of(name)) for name in NAMES}


def with_csv(path: Path) -> Loaded:
    table = pd.read_csv(path, dtype={"video_id": str})
    with path.open(newline="") as file:
        assert not [cell for row in csv.reader(file) for cell in row if cell[:1] in ("=", "+", "@")]
    ids = [i.removeprefix("'") for i in table["video_id"]]
    return {
        name: by_name(ids, table[[f"{name}_{i}" for i in range(dim_of(name))]].to_numpy(), dim_of(name))
        for name in NAMES
    }


LOADERS: list[tuple[str, Callable[[Path], Loaded]]] = [
    ("parquet", with_pandas),
    ("parquet", with_polars),
    ("parquet", with_duckdb),
    ("npz", with_numpy),
    ("hf", with_datasets),
    ("croissant", with_croissant),
    ("torch", with_torch),
    ("more", with_more),
    ("mmrec", with_mmrec),
    ("cornac", with_cornac),
    ("elliot", with_elliot),
    ("mmgcn", with_mmgcn),
    ("microlens", with_microlens),
    ("mmsa", with_mmsa),
    ("webdataset", with_webdataset),
    ("csv", with_csv),
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves files open
@pytest.mark.parametrize("missing", ["completed", "zero", "nan"])
@pytest.mark.parametrize(("form", "load"), LOADERS, ids=[load.__name__ for _, load in LOADERS])
def test_the_consumer_finds_every_vector(
    form: str, load: Callable[[Path], Loaded], missing: Missing, world: World, tmp_path: Path
) -> None:
    to = tmp_path / FORMATS[form].default
    export = world.export(missing)
    if missing == "nan" and not FORMATS[form].holds_nan:
        with pytest.raises(UserError, match="compute with NaN as with a number"):
            write_export(export, form, to)
        assert not to.exists()
        return
    written = write_export(export, form, to)
    found = load(to)
    assert {*found} == {*written.contents.values()}
    for name, vectors in found.items():
        assert {*vectors} == {*IDS}
        for i, expected in zip(IDS, world.expected(name, missing), strict=True):
            np.testing.assert_allclose(vectors[i].reshape(-1), expected, rtol=1e-6, err_msg=f"{name} of {i}")


def test_every_format_is_loaded() -> None:
    assert {form for form, _ in LOADERS} == {*FORMATS}


def test_sequences_for_mmsa(world: World, tmp_path: Path) -> None:
    write_export(world.export("zero", sequences=True), "mmsa", tmp_path / "features.pkl")
    found = with_mmsa(tmp_path / "features.pkl")["spectrum"]
    for i, sequence in zip(IDS, world.sequences, strict=True):
        np.testing.assert_array_equal(found[i], np.zeros((1, 3)) if sequence is None else sequence)


def test_sequences_for_torch(world: World, tmp_path: Path) -> None:
    write_export(world.export("completed", sequences=True), "torch", tmp_path / "features")
    found = torch.load(tmp_path / "features/spectrum.pt", weights_only=True)
    expected = world.expected("spectrum", "completed")
    for i, sequence, pooled in zip(IDS, world.sequences, expected, strict=True):
        np.testing.assert_array_equal(found[i].numpy(), pooled[None] if sequence is None else sequence)
    assert torch.load(tmp_path / "features/words.pt", weights_only=True)["zebra"].shape == (2,)


def test_reproduce_reads_the_npz(world: World, tmp_path: Path) -> None:
    write_export(world.export("nan"), "npz", tmp_path / "features.npz")
    table = read_feature_file(tmp_path / "features.npz")
    rows = [n for n, (s, label) in enumerate(zip(SPLITS, LABELS, strict=True)) if s and label and n != 1]
    assert table.classes == ("Beach", "Slope")
    np.testing.assert_array_equal(table.modalities["X_resnet"], world.expected("resnet", "nan")[rows])
