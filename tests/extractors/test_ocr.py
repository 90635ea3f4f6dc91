"""Text on screen: pictures that show known words."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from nmcl.extractors import ocr
from nmcl.extractors.ocr import Canvas, OcrReader, OcrSettings, _without_margin
from nmcl.pipeline import optional
from nmcl.pipeline.errors import UserError, WeightsError
from nmcl.pipeline.records import Clip, FoundText

needs_package = pytest.mark.skipif(not optional.is_installed("rapidocr"), reason="rapidocr is not installed")


def picture(*lines: str, size: tuple[int, int] = (960, 540)) -> np.ndarray:
    """A picture (height, width, 3), uint8, that shows lines of text."""
    image = Image.new("RGB", size, (40, 90, 130))
    for i, line in enumerate(lines):
        ImageDraw.Draw(image).text((60, 60 + 140 * i), line, font=ImageFont.load_default(52), fill="white")
    return np.asarray(image)


def clip(*pictures: np.ndarray, side: int = 1280) -> Clip:
    return Clip(frames=np.stack([Canvas(side)(p) for p in pictures]), frame_times_s=tuple(range(len(pictures))))


@pytest.fixture(scope="module")
def reader() -> OcrReader:
    return OcrReader(OcrSettings())


def test_a_canvas_keeps_all_of_a_picture() -> None:
    noise = np.random.default_rng(0).integers(1, 256, (90, 160, 3)).astype(np.uint8)
    small = Canvas(320)(noise)
    np.testing.assert_array_equal(small[:90, :160], noise)
    assert small[90:].max() == small[:, 160:].max() == 0
    large = Canvas(80)(noise)
    assert large.shape == (80, 80, 3)
    assert large[45:].max() == 0
    pooled = noise.reshape(45, 2, 80, 2, 3).mean(axis=(1, 3))
    assert np.abs(large[:45] - pooled).max() <= 1
    assert Canvas(80)(np.ones((1, 4000, 3), np.uint8)).shape == (80, 80, 3)
    assert _without_margin(small).shape == (90, 160, 3)
    assert _without_margin(Canvas(320)(np.ones((1, 320, 3), np.uint8))).shape == (80, 320, 3)
    assert _without_margin(np.zeros((320, 320, 3), np.uint8)).shape == (80, 80, 3)


@needs_package
def test_lines_come_once_with_their_first_time(reader: OcrReader) -> None:
    first = picture("Sunset at the beach", "Day 1 of 30")
    later = picture("SUNSET at the beach!", "Day 2 of 30")
    upright = picture("Day 2 of 30", size=(540, 960))
    found = reader.read(clip(first, first, later, upright))
    assert found.lines == ((0, "Sunset at the beach"), (0, "Day 1 of 30"), (2, "Day 2 of 30"))
    assert found.text == "Sunset at the beach Day 1 of 30 Day 2 of 30"


@needs_package
def test_chinese_is_read_if_a_font_shows_it(reader: OcrReader) -> None:
    fonts = [*Path("/usr/share/fonts").rglob("*CJK*"), *Path("/usr/share/fonts").rglob("wqy*")]
    if not fonts:
        pytest.skip("no Chinese font is installed")
    image = Image.new("RGB", (960, 540), "black")
    ImageDraw.Draw(image).text((60, 60), "今天天气很好", font=ImageFont.truetype(str(fonts[0]), 60), fill="white")
    assert reader.read(clip(np.asarray(image))).text == "今天天气很好"


@needs_package
def test_pictures_without_text(reader: OcrReader) -> None:
    black = np.zeros((540, 960, 3), np.uint8)
    assert reader.read(clip(black, picture())) == FoundText(None, ())


@needs_package
@pytest.mark.parametrize("shape", [(1, 1280, 3), (1280, 1, 3), (1, 1, 3)])
def test_a_thin_picture_takes_neither_memory_nor_time(reader: OcrReader, shape: tuple[int, ...]) -> None:
    start = time.perf_counter()
    assert reader.read(clip(np.full(shape, 200, np.uint8))).text is None
    assert time.perf_counter() - start < 60


@needs_package
def test_unsure_lines_are_left_out() -> None:
    shown = clip(picture("Sunset at the beach"))
    assert OcrReader(OcrSettings(min_confidence=1.0)).read(shown) == FoundText(None, ())


@needs_package
def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ocr.FILES, "Rec", (ocr.FILES["Rec"][0], "0" * 64))
    with pytest.raises(WeightsError, match=r"is not the file of rapidocr 3\.10\.0"):
        OcrReader(OcrSettings()).read(clip(picture("word")))


def test_an_absent_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional, "is_installed", lambda module: False)
    with pytest.raises(UserError, match=r"needs the package rapidocr.*pip install 'nmcl\[ocr\]'"):
        OcrReader(OcrSettings()).check()
