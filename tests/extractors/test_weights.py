"""Published weights are those that were published, and files of a user are read once to know them."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from nmcl.extractors.visual import BACKBONES, VisualExtractor, VisualSettings
from nmcl.extractors.weights import checksum_of, published_file, sha256_of
from nmcl.pipeline.errors import WeightsError
from nmcl.pipeline.records import Clip, State


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "cache" / "nmcl" / "weights"


def test_names_of_published_files_tell_their_checksums() -> None:
    found = {name: checksum_of(backbone.source()) for name, backbone in BACKBONES.items()}
    assert found == {
        "resnet50": "0676ba61",
        "resnet101": "63fe2227",
        "resnet152": "394f9c45",
        "efficientnet_lite0": "57934424",
    }
    with pytest.raises(ValueError, match="names no checksum"):
        checksum_of("resnet50.pth")


def test_the_packaged_file_is_what_was_published() -> None:
    assert published_file(BACKBONES["efficientnet_lite0"].source()).is_file()


def test_a_damaged_published_file_is_refused(tmp_path: Path) -> None:
    """Also a file in torch's cache, which torch itself does not check again."""
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, folder / "resnet50-0676ba61.pth")
    extractor = VisualExtractor("resnet50", VisualSettings())
    with pytest.raises(WeightsError, match="not the file that was published"):
        extractor.fetch()
    with pytest.raises(WeightsError, match="not the file that was published"):
        extractor.extract([Clip(frames=torch.zeros(1, 224, 224, 3, dtype=torch.uint8).numpy())], State())


def test_a_file_is_known_by_its_bytes(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "own.pth"
    path.write_bytes(b"some weights")
    sha256 = hashlib.sha256(b"some weights").hexdigest()
    assert sha256_of(path) == sha256
    (kept,) = cache.iterdir()
    assert kept.read_text() == sha256
    address = VisualExtractor("resnet50", VisualSettings(weights=str(path))).address()
    assert address["weights"] == sha256
    (tmp_path / "copy.pth").write_bytes(b"some weights")
    assert VisualExtractor("resnet50", VisualSettings(weights=str(tmp_path / "copy.pth"))).address() == address
    path.write_bytes(b"more weights")
    os.utime(path, ns=(1, 1))
    assert sha256_of(path) == hashlib.sha256(b"more weights").hexdigest()


def test_a_file_is_read_once(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "own.pth"
    path.write_bytes(b"some weights")
    sha256_of(path)
    (kept,) = cache.iterdir()
    kept.write_text("0" * 64)
    assert sha256_of(path) == "0" * 64


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"0" * 63, b"z" * 64])
def test_a_damaged_cache_is_written_anew(tmp_path: Path, cache: Path, damage: bytes) -> None:
    path = tmp_path / "own.pth"
    path.write_bytes(b"some weights")
    sha256 = sha256_of(path)
    (kept,) = cache.iterdir()
    kept.write_bytes(damage)
    assert sha256_of(path) == sha256 == kept.read_text()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    path = tmp_path / "own.pth"
    path.write_bytes(b"some weights")
    assert sha256_of(path) == hashlib.sha256(b"some weights").hexdigest()


def test_many_may_write_the_cache(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "own.pth"
    path.write_bytes(b"some weights" * 100_000)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(sha256_of, [path] * 64))
    assert found == {hashlib.sha256(path.read_bytes()).hexdigest()}
    assert len(list(cache.iterdir())) == 1


def test_published_weights_have_one_name_wherever_they_lie(tmp_path: Path) -> None:
    own = tmp_path / "downloaded.pth"
    own.write_bytes(Path(BACKBONES["efficientnet_lite0"].source()).read_bytes())
    named = VisualExtractor("efficientnet_lite0", VisualSettings(weights=str(own)))
    assert named.address() == VisualExtractor("efficientnet_lite0", VisualSettings()).address()


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(WeightsError, match="cannot be read"):
        sha256_of(Path("absent.pth"))
