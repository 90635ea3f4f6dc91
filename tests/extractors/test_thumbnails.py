"""The size of thumbnails, and which key frames they show."""

import io

import numpy as np
import pytest
from PIL import Image

from nmcl.extractors.thumbnails import Small, Thumbnailer, ThumbnailSettings, without_margin


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 96), (64, 96)), ((1920, 1080), (160, 90)), ((100, 4000), (7, 284))]
)
def test_pictures_are_scaled_to_fit_and_keep_black_edges(size: tuple[int, int], expected: tuple[int, int]) -> None:
    canvas = Small(160)(np.zeros((*size, 3), np.uint8))
    assert canvas.shape == (161, 284, 3)
    assert without_margin(canvas).shape == (*expected, 3)


def test_three_of_eight_key_frames_are_kept_in_order_of_time() -> None:
    frames = np.stack([Small(160)(np.full((320, 180, 3), 30 * i, np.uint8)) for i in range(8)])
    chosen, files = Thumbnailer(ThumbnailSettings()).encoded(frames)
    assert chosen == [0, 4, 7]
    pictures = [np.asarray(Image.open(io.BytesIO(file))) for file in files]
    assert [picture.shape for picture in pictures] == [(160, 90, 3)] * 3
    assert [abs(picture.mean() - 30 * i) < 2 for i, picture in zip(chosen, pictures, strict=True)] == [True] * 3
    assert len(Thumbnailer(ThumbnailSettings()).encoded(frames[:2])[1]) == 2


def test_only_what_changes_the_pictures_changes_their_address() -> None:
    assert ThumbnailSettings(backfill=True).address() == ThumbnailSettings().address()
    assert ThumbnailSettings(height=120).address() != ThumbnailSettings().address()
