"""Headers of files, and the limits that cut them."""

from pathlib import Path

import pytest

from nmcl.pipeline.errors import ClipError
from nmcl.pipeline.media import MediaSettings
from nmcl.pipeline.media.probe import Header, probe
from tests.media import shades, tone, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("probe") / "a.mp4", shades([30, 200], 20), sound=tone(440, 4))


def header(path: Path, settings: MediaSettings) -> Header:
    found = probe(path, settings)
    assert isinstance(found, Header), found
    return found


def test_the_header_of_a_clip(clip: Path) -> None:
    found = header(clip, MediaSettings())
    assert found.duration_s == pytest.approx(4, abs=0.1)
    assert (found.width, found.height, found.frame_rate) == (96, 64, 10)
    assert (found.picture_codec, found.sound_codec, found.limits) == ("h264", "aac", ())


def test_limits_that_cut_it(clip: Path) -> None:
    (limit,) = header(clip, MediaSettings(max_seconds=1.5)).limits
    assert limit.startswith("Only the first 1.5 s of 4.")
    (limit,) = header(clip, MediaSettings(budget_megapixels=1)).limits
    assert "media.budget_megapixels = 1" in limit


def test_other_files_are_failures(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for path, kind in ((tmp_path / "text.mp4", "unreadable"), (tmp_path / "absent.mp4", "missing")):
        found = probe(path, MediaSettings())
        assert isinstance(found, ClipError)
        assert found.kind == kind
