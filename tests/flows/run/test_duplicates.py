"""Near-duplicates among real files that ffmpeg encoded again, and files that are not in the store."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from nmcl.flows.run import runs, stages
from nmcl.flows.run.duplicates import near_duplicates
from nmcl.flows.run.stages import Context
from nmcl.flows.run.stored import stored_sets
from nmcl.flows.settings import from_tree
from nmcl.flows.stored_settings import remember
from nmcl.pipeline.storage.store import Store
from tests.flows.commands import nmcl_here
from tests.media import run_ffmpeg

SETTINGS = {
    "features": {
        "visual": {"extractor": "efficientnet_lite0"},
        "acoustic": {"extractor": "logmel"},
        "textual": {"extractor": "none"},
        "words": {"extractor": "none"},
        "ngrams": {"extractor": "none"},
    },
    "ingest": {"part_size": 10},
}
WAYS = (["-crf", "23", "-b:a", "64k"], ["-r", "20", "-crf", "22", "-b:a", "96k"], ["-crf", "23", "-b:a", "48k"])
"""Mild ones: the rendered clips have only 192 x 144 pixels."""


@pytest.fixture
def extracted(sample_crawl: Path, tmp_path: Path) -> Store:
    """A store with 24 clips, three of which are there again in another encoding and another split."""
    crawl = tmp_path / "crawl"
    crawl.mkdir()
    lines = ["path,split"]
    for name in [f"v{i:04d}" for i in range(24)]:
        shutil.copy(sample_crawl / "videos" / f"{name}.mp4", crawl)
        lines.append(f"{name}.mp4,train")
    for i, way in enumerate(WAYS):
        run_ffmpeg("-i", crawl / f"v{i:04d}.mp4", "-c:v", "libx264", "-c:a", "aac", *way, crawl / f"again{i}.mp4")
        lines.append(f"again{i}.mp4,{'test' if i else 'train'}")
    (crawl / "manifest.csv").write_text("\n".join(lines))
    context = Context(Store.create(tmp_path / "out"), from_tree(SETTINGS))
    remember(context.store, context.settings)
    stages.ingest(context, crawl)
    runs.up_to(context, "extract")
    return context.store


def test_files_that_were_encoded_again_are_found(extracted: Store) -> None:
    pairs = near_duplicates(stored_sets(extracted, None))
    found = {frozenset({pair.video_id, pair.other_video_id}): pair.crosses_splits for pair in pairs}
    assert found == {frozenset({f"again{i}", f"v000{i}"}): i > 0 for i in range(3)}
    assert [pair.crosses_splits for pair in pairs] == [True, True, False]


@pytest.fixture
def similar(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    return partial(nmcl_here, "similar", "--out", trained, "--json", capsys=capsys, monkeypatch=monkeypatch)


def files_of(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.name != ".lock"}


def test_a_file_that_is_not_in_the_store(
    small_crawl: Path, trained: Path, similar: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.mp4"
    copy.write_bytes((small_crawl / "3.mp4").read_bytes() + b"\x00\x00\x00\x08free")  # other bytes, same content
    before = files_of(trained)
    for features in ("visual", "acoustic"):
        code, said, error = similar(copy, "--features", features, "-n", "2")
        assert code == 0, error
        first, second = json.loads(said)["nearest"]
        assert (first["video_id"], first["same_bytes"]) == ("3", False)
        assert first["distance"] < 1e-3 < second["distance"]
    assert files_of(trained) == before


def test_a_file_that_cannot_be_used(similar: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("some text")
    code, _, error = similar(tmp_path / "text.mp4")
    assert code == 2
    assert "text.mp4 cannot be used: unreadable: not a media file" in error.splitlines()[-1]
