"""Streams and tables of exported features, as a DataLoader gives them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from nmcl.model.torch_data import FeaturesInMemory, StreamedFeatures, torch_data
from nmcl.pipeline.errors import UserError
from nmcl.pipeline.export.record import Export
from tests.pipeline.export.world import DIMS, IDS, LABELS, MISSING, NAMES, SPLITS, World, make_world

CLASSES = ["Beach", "Slope"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Twelve videos in six parts."""
    return make_world(tmp_path_factory.mktemp("world"), part_size=2)


def data(export: Export, **changes: Any) -> StreamedFeatures | FeaturesInMemory:
    wanted: dict[str, Any] = {"splits": None, "labelled": False, "shuffle": False, "in_memory": False}
    return torch_data(export, **{**wanted, **changes})


def items(loader: Any) -> list[dict[str, Any]]:
    """The items of all batches."""
    found = []
    for batch in loader:
        for i, video_id in enumerate(batch["id"]):
            found.append(
                {
                    "id": video_id,
                    "features": {name: rows[i].numpy() for name, rows in batch["features"].items()},
                    "observed": {name: bool(mask[i]) for name, mask in batch["observed"].items()},
                    "label": int(batch["label"][i]),
                    "split": batch["split"][i],
                }
            )
    return found


WORKERS = pytest.mark.parametrize("n_workers", [0, pytest.param(2, marks=pytest.mark.own_process)])
"""A loader with workers forks its process, and sets a signal handler that stays."""


@pytest.mark.parametrize("in_memory", [False, True])
@WORKERS
@pytest.mark.parametrize("missing", ["nan", "completed"])
def test_every_video_comes_once_with_its_own_values(
    world: World, in_memory: bool, n_workers: int, missing: Any
) -> None:
    loader = DataLoader(data(world.export(missing), in_memory=in_memory), batch_size=3, num_workers=n_workers)  # type: ignore[arg-type]
    found = items(loader)
    assert Counter(item["id"] for item in found) == Counter(IDS)
    for item in found:
        n = IDS.index(item["id"])
        assert item["label"] == (-1 if LABELS[n] is None else CLASSES.index(LABELS[n]))
        assert item["split"] == (SPLITS[n] or "")
        for name in NAMES:
            assert item["observed"][name] == (n not in MISSING[name])
            assert item["features"][name].shape == (DIMS[NAMES[name]],)
            np.testing.assert_array_equal(item["features"][name], world.expected(name, missing)[n])


def test_without_workers_the_order_is_that_of_the_catalogue(world: World) -> None:
    assert [item["id"] for item in items(DataLoader(data(world.export()), batch_size=5))] == list(IDS)


def test_splits_and_labels_choose_videos(world: World) -> None:
    def ids(**changes: Any) -> set[str]:
        return {item["id"] for item in items(DataLoader(data(world.export(), **changes), batch_size=4))}

    train = {video_id for video_id, split in zip(IDS, SPLITS, strict=True) if split == "train"}
    assert ids(splits=["train"]) == ids(splits=["train"], in_memory=True) == train
    labelled = {video_id for video_id, label in zip(IDS, LABELS, strict=True) if label}
    assert ids(labelled=True) == ids(labelled=True, in_memory=True) == labelled
    with pytest.raises(UserError, match=r"No video is left: found \{'test': 2, .*'none': 3.*wanted the split train"):
        data(replace(world.export(), splits=["test"] * 2 + [None] * 3 + ["validation"] * 7), splits=["train"])


def test_only_the_parts_of_a_split_are_read(world: World) -> None:
    export = world.export(names=("resnet",))
    (feature,) = export.features
    read: list[int] = []

    def blocks(numbers: Any = None) -> Any:
        read.extend(numbers)
        return feature.blocks(numbers)

    spied = replace(export, features=[replace(feature, blocks=blocks)])
    list(data(spied, splits=["test"]))
    wanted = {IDS.index(i) // 2 for i, split in zip(IDS, SPLITS, strict=True) if split == "test"}
    assert sorted(read) == sorted(wanted) == [0, 3]


def test_at_most_one_part_is_in_memory_without_shuffling(world: World) -> None:
    """The next part is read only when the one before is used up."""
    export = world.export(names=("resnet",))
    (feature,) = export.features
    read: list[int] = []

    def blocks(numbers: Any = None) -> Any:
        read.extend(numbers)
        return feature.blocks(numbers)

    stream = iter(data(replace(export, features=[replace(feature, blocks=blocks)])))
    for n in range(len(IDS)):
        next(stream)
        assert read == list(range(n // 2 + 1))


def orders(dataset: Any, n_epochs: int, n_workers: int) -> list[list[str]]:
    loader = DataLoader(dataset, batch_size=1, num_workers=n_workers)
    return [[item["id"] for item in items(loader)] for _ in range(n_epochs)]


@WORKERS
def test_each_epoch_is_shuffled_anew_and_a_seed_repeats_it(world: World, n_workers: int) -> None:
    dataset = data(world.export(), shuffle=True)
    torch.manual_seed(1)
    first = orders(dataset, 4, n_workers)
    assert all(sorted(order) == sorted(IDS) for order in first)
    assert len({tuple(order) for order in [*first, IDS]}) == 5
    torch.manual_seed(1)
    assert orders(dataset, 4, n_workers) == first
    torch.manual_seed(2)
    assert orders(dataset, 4, n_workers) != first


def test_shuffling_mixes_rows_of_all_parts(world: World) -> None:
    """Every video comes to every third of the epoch: without mixing, two neighbours would stay neighbours."""
    dataset = data(world.export(names=("words",)), shuffle=True)
    torch.manual_seed(0)
    found = [[item["id"] for item in dataset] for _ in range(60)]
    place = {video_id: [order.index(video_id) for order in found] for video_id in IDS}
    for places in place.values():
        counts = np.histogram(places, bins=3, range=(0, 12))[0]
        assert counts.min() >= 8  # of 60, expected 20 each
    apart = [abs(a - b) for a, b in zip(place[IDS[0]], place[IDS[1]], strict=True)]
    assert np.mean(apart) > 3.3  # 13 / 3 for random order, 1 for neighbours


def test_a_table_is_shuffled_by_its_loader(world: World) -> None:
    table = data(world.export(), in_memory=True)
    assert isinstance(table, FeaturesInMemory)
    assert len(table) == len(IDS)
    assert table.classes == CLASSES
    loader = DataLoader(table, batch_size=4, shuffle=True)
    assert len(loader) == 3
    assert sorted(item["id"] for item in items(loader)) == sorted(IDS)
    with pytest.raises(UserError, match="shuffled by its loader"):
        data(world.export(), in_memory=True, shuffle=True)
    with pytest.raises(ValueError, match="IterableDataset"):
        DataLoader(data(world.export()), shuffle=True)


def test_items_do_not_keep_their_part_alive(world: World, tmp_path: Path) -> None:
    item = next(iter(data(world.export())))
    torch.save(item["features"]["resnet"], tmp_path / "vector.pt")
    assert item["features"]["resnet"].untyped_storage().nbytes() == 4 * DIMS["visual"]
