"""Visual features against torchvision's own presets and a plain loop."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet50_Weights, resnet50

from nmcl.extractors.keyframes import KeyFrames
from nmcl.extractors.network import has_bfloat16
from nmcl.extractors.preprocess import Preprocess
from nmcl.extractors.visual import BACKBONES, VisualExtractor, VisualSettings
from nmcl.pipeline.errors import WeightsError
from nmcl.pipeline.media import MediaSettings, Request, decode
from nmcl.pipeline.needs import Frames
from nmcl.pipeline.progress import silent
from nmcl.pipeline.records import Clip, Content, State

LITE = "efficientnet_lite0", VisualSettings()


@pytest.fixture(scope="module")
def lite() -> VisualExtractor:
    return VisualExtractor(*LITE)


def photo(seed: int, width: int, height: int) -> Image.Image:
    """Smooth random colours, so that scaling matters."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def clips_of(*n_frames: int) -> list[Clip]:
    rng = np.random.default_rng(1)
    return [Clip(frames=rng.integers(0, 256, (n, 224, 224, 3), dtype=np.uint8)) if n else Clip() for n in n_frames]


@pytest.mark.parametrize(("width", "height"), [(480, 480), (640, 361), (201, 377), (256, 256), (320, 240)])
def test_preprocessing_equals_torchvisions(width: int, height: int) -> None:
    image, ours = photo(width, width, height), Preprocess()
    expected = ResNet50_Weights.IMAGENET1K_V1.transforms()(image)
    pixels = torch.from_numpy(ours(np.asarray(image)).copy()).permute(2, 0, 1) / 255
    found = (pixels - torch.tensor(ours.mean).view(3, 1, 1)) / torch.tensor(ours.std).view(3, 1, 1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_lite_inputs_are_those_of_the_original() -> None:
    preprocess = BACKBONES["efficientnet_lite0"].preprocess
    pixels = np.array([0.0, 127.0, 255.0])
    scaled = (pixels / 255 - preprocess.mean[0]) / preprocess.std[0]
    np.testing.assert_allclose(scaled, (pixels - 127) / 128, atol=1e-6)


def test_resnet_features_are_what_its_last_layer_sees(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reference = resnet50(weights=None).eval()
    torch.save(reference.state_dict(), tmp_path / "weights.pth")
    extractor = VisualExtractor("resnet50", VisualSettings(weights=str(tmp_path / "weights.pth"), precision="float32"))
    (clip,) = clips_of(2)
    seen: list[torch.Tensor] = []
    reference.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert clip.frames is not None
    pixels = torch.from_numpy(clip.frames).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (Preprocess().mean, Preprocess().std))
    with torch.no_grad():
        reference((pixels - mean) / std)
    vector = extractor.extract([clip], State())
    assert vector.shape == (1, 2048)
    np.testing.assert_allclose(vector[0], seen[0].mean(dim=0).numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not has_bfloat16("cpu"), reason="this processor has no products in bfloat16")
def test_bfloat16_keeps_the_direction_of_real_clips(shared: Path) -> None:
    """The bound that the settings state, for those backbones that `auto` gives it to."""
    files = sorted((shared / "crawls" / "scenes-b").glob("**/*.mp4"))[:6]
    need = Frames(KeyFrames(8), Preprocess())
    contents = [decode(Request(path, (need,)), MediaSettings()) for path in files]
    clips = [content.clip(need) for content in contents if isinstance(content, Content)]
    assert len(clips) == len(files)
    exact, fast = (
        VisualExtractor("resnet50", VisualSettings("random", precision=precision)).extract(clips, State())
        for precision in ("float32", "bfloat16")
    )
    cosine = (exact * fast).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(fast, axis=1)
    assert cosine.min() > 0.999
    assert not np.array_equal(exact, fast)


def test_vectors_do_not_depend_on_the_number_of_threads(lite: VisualExtractor) -> None:
    clips, n_threads = clips_of(3, 8), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = VisualExtractor(*LITE).extract(clips, State())
    finally:
        torch.set_num_threads(n_threads)
    np.testing.assert_array_equal(lite.extract(clips, State()), alone)


def test_the_runtime_changes_no_feature(lite: VisualExtractor) -> None:
    (clip,) = clips_of(2)
    assert clip.frames is not None
    network = BACKBONES["efficientnet_lite0"].build().eval()
    network.load_state_dict(lite.weights)
    with torch.no_grad():
        plain = network((torch.from_numpy(clip.frames).permute(0, 3, 1, 2) - 127.0) / 128.0).mean(dim=0).numpy()
    np.testing.assert_allclose(lite.extract([clip], State())[0], plain, rtol=1e-3, atol=1e-4)


def test_a_vector_does_not_depend_on_its_neighbours(lite: VisualExtractor) -> None:
    clips = clips_of(3, 8, 1, 5, 8, 8, 2)
    together = lite.extract(clips, State())
    alone = np.concatenate([lite.extract([clip], State()) for clip in clips[:3]])
    np.testing.assert_array_equal(together[:3], alone)


def test_mean_over_frames_and_absence(lite: VisualExtractor) -> None:
    pair, nothing = clips_of(2, 0)
    assert pair.frames is not None
    vectors = lite.extract([pair, nothing], State())
    single = [lite.extract([Clip(frames=pair.frames[i : i + 1])], State())[0] for i in range(2)]
    np.testing.assert_allclose(vectors[0], np.mean(single, axis=0), rtol=1e-5, atol=1e-6)
    assert np.isnan(vectors[1]).all()
    assert vectors.dtype == np.float32
    assert np.isnan(lite.extract([nothing], State())).all()


def test_packaged_weights_know_a_few_things(lite: VisualExtractor) -> None:
    """Two views of one picture lie closer than two pictures."""

    def vector(image: Image.Image) -> np.ndarray:
        frames = BACKBONES["efficientnet_lite0"].preprocess(np.asarray(image))[None]
        return lite.extract([Clip(frames=frames)], State())[0]

    first, other = photo(1, 400, 300), photo(2, 400, 300)
    a, b, c = vector(first), vector(first.crop((15, 15, 385, 285))), vector(other)
    cosine = lambda x, y: float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))  # noqa: E731
    assert 1 - cosine(a, b) < 0.5 * (1 - cosine(a, c))


def test_missing_weights_name_three_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    extractor = VisualExtractor("resnet50", VisualSettings())
    assert extractor.address()["weights"] == "0676ba61"
    with pytest.raises(WeightsError) as caught:
        extractor.fetch()
    for way in (
        "features.visual.weights=/path/to/resnet50.pth",
        "features.visual.extractor=efficientnet_lite0",
        "features.visual.weights=random",
    ):
        assert way in str(caught.value)


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.pth").write_bytes(b"noise")
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.pth")
    torch.save({"network": resnet50}, tmp_path / "code.pth")
    for name in ("noise.pth", "part.pth", "code.pth", "absent.pth"):
        extractor = VisualExtractor("resnet50", VisualSettings(weights=str(tmp_path / name)))
        with pytest.raises(WeightsError, match="weights"):
            extractor.extract(clips_of(1), State())


def test_addresses_tell_what_differs(lite: VisualExtractor) -> None:
    same = VisualExtractor("efficientnet_lite0", VisualSettings(device="cpu")).address()
    assert lite.address() == same
    others = [
        VisualExtractor("efficientnet_lite0", VisualSettings(key_frames=4)).address(),
        VisualExtractor("efficientnet_lite0", VisualSettings(weights="random")).address(),
    ]
    assert all(other != same for other in others)


def test_there_is_nothing_to_fit(lite: VisualExtractor) -> None:
    assert lite.fit([], silent) == State()
    assert lite.fit_videos == 0
