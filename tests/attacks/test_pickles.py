"""Code in the place of data: pickles as weights, features, models, states and parts. None is run."""

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.attacks.media import good_videos
from tests.attacks.test_words import check
from tests.attacks.watching import Trap
from tests.faults.disks import Disk
from tests.forms import LONG, in_both_forms

pytestmark = in_both_forms


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def evil(caught: Trap) -> bytes:
    return pickle.dumps(Evil(caught.ran))


def test_it_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def torch_file(path: Path, data: bytes) -> Path:
    """As `torch.save` lays a file out."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    return path


WEIGHTS = ["weights.pth", "weights.safetensors", "raw.pth", "weights.pt", "weights.bin"]


@pytest.mark.parametrize("name", WEIGHTS if LONG else WEIGHTS[:2])
def test_weights(name: str, caught: Trap, disk: Disk, tmp_path: Path) -> None:
    crawl, weights, out = tmp_path / "crawl", tmp_path / name, tmp_path / "out"
    crawl.mkdir()
    good_videos(crawl, 2)
    torch_file(weights, evil(caught))
    if name in ("raw.pth", "weights.safetensors"):
        weights.write_bytes(evil(caught))
    sets = ["--set", "features.visual.extractor=resnet50", "--set", f"features.visual.weights={weights}"]
    codes = [disk.run(["ingest", str(crawl), "--out", str(out), *sets], tmp_path)]
    if codes == [0]:
        codes.append(disk.run(["extract", "--out", str(out)], tmp_path))
    check(disk, codes[-1], caught)
    assert codes[-1] == 2, disk.said


@pytest.mark.parametrize("how", ["objects", "raw", "label", "bomb", "names"])
def test_features(how: str, caught: Trap, disk: Disk, tmp_path: Path) -> None:
    file, out = tmp_path / "features.npz", tmp_path / "study"
    vectors, label = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    match how:
        case "objects":
            np.savez(file, visual=np.array([[Evil(caught.ran)] * 2] * 60, dtype=object), label=label)
        case "label":
            np.savez(file, visual=vectors, label=np.array([Evil(caught.ran)] * 60, dtype=object))
        case "raw":
            file.write_bytes(evil(caught))
        case "names":
            np.savez(file, **{"visual": vectors, "../../../x": vectors, "[/]\x1b[31m": vectors, "label": label})  # type: ignore[arg-type]
        case "bomb":
            header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 100000), }".ljust(117) + b"\n"
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("visual.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    words = ["reproduce", "--features", str(file), "--out", str(out), "--methods", "logistic", "--seeds", "1"]
    code = disk.run([*words, "--jobs", "1", "--skip", "modalities,completion,absence"], tmp_path)
    check(disk, code, caught)
    assert (code == 2) == (how != "names"), disk.said
    assert {path.name for path in tmp_path.iterdir()} <= {"features.npz", "study"}


@pytest.mark.parametrize("option", ["--taxonomy", "--sounds"])
@pytest.mark.parametrize("how", ["pickle", "deep"])
def test_other_files_of_a_study(option: str, how: str, caught: Trap, disk: Disk, tmp_path: Path) -> None:
    file, other = tmp_path / "features.npz", tmp_path / ("tree.json" if option == "--taxonomy" else "sounds.npz")
    vectors, label = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    np.savez(file, acoustic=vectors, visual=vectors, label=label)
    if how == "deep":
        other.write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    elif option == "--sounds":
        np.savez(other, acoustic=np.array([[Evil(caught.ran)] * 4] * 9, dtype=object), label=np.arange(9))
    else:
        other.write_bytes(evil(caught))
    words = ["reproduce", "--features", str(file), "--out", str(tmp_path / "study"), "--methods", "dare,trumann"]
    code = disk.run([*words, "--seeds", "1", option, str(other), "--jobs", "1"], tmp_path)
    check(disk, code, caught)
    assert code == 2, disk.said


FILES = [
    "runs/*/model.safetensors",
    "runs/*/model.json",
    "runs/*/settings.json",
    "runs/*/metrics.json",
    "runs/*/recipe.json",
    "states/acoustic-*/state.safetensors",
    "states/acoustic-*/state.json",
    "states/textual-*/state.safetensors",
    "states/completion-*/state.json",
    "features/visual-*/part-*.parquet",
    "completed/all-*/part-*.parquet",
    "failures/media-*/part-*.parquet",
    "videos/part-*.parquet",
    "catalogue.json",
    "champions.json",
    "settings.json",
    "store.json",
]


def of_a_store(caught: Trap) -> dict[str, bytes]:
    """What stands in the place of a file of a store."""
    tensor = {"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
    return {
        "pickle": evil(caught),
        "deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "bomb": (10**15).to_bytes(8, "little") + json.dumps(tensor).encode(),
    }


@pytest.mark.parametrize("how", ["pickle", "deep", "bomb"] if LONG else ["pickle"])
@pytest.mark.parametrize("pattern", FILES if LONG else FILES[::4])
def test_files_of_a_store(pattern: str, how: str, finished: Path, caught: Trap, disk: Disk, tmp_path: Path) -> None:
    """What another person's store holds is data, whatever it looks like."""
    out = shutil.copytree(finished, tmp_path / "out", symlinks=True)
    for path in out.glob(pattern):
        path.write_bytes(of_a_store(caught)[how])
    for words in (["runs"], ["evaluate", "--set", "model.seed=1"], ["rollback"]):
        code = disk.run([*words, "--out", str(out)], tmp_path)
        check(disk, code, caught)
