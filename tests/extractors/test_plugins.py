"""Extractors that are not built in: their constructors, promises, addresses, and their way to workers."""

import json
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from nmcl.extractors import plugins
from nmcl.extractors.keyframes import EvenFrames, KeyFrames
from nmcl.extractors.logmel import LogMelExtractor, LogMelSettings
from nmcl.extractors.preprocess import Preprocess
from nmcl.flows.run.extractors import Extractors
from nmcl.flows.settings import Settings, from_tree
from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.errors import CrawlError, ExtractorError
from nmcl.pipeline.extractor import Extractor
from nmcl.pipeline.needs import Frames, Sound, Text
from nmcl.pipeline.progress import silent
from nmcl.pipeline.records import Clip, State
from nmcl.testing import check_extractor

SOUND = Clip(waveform=np.arange(400, dtype=np.int16))


@dataclass(frozen=True)
class BandSettings:
    n_bands: int = 4
    added: Annotated[int, Reference(3)] = 3


class Bands:
    """An extractor whose author forgot everything in its address."""

    modality = "acoustic"
    need: Any = Sound(8000)
    fit_videos = 0

    def __init__(self, settings: BandSettings = BandSettings()) -> None:
        self.dim: Any = settings.n_bands

    def address(self) -> dict[str, object]:
        return {"code_version": 1}

    def fit(self, clips: Any, progress: Any) -> Any:
        return State()

    def extract(self, clips: Any, state: Any) -> Any:
        vectors = np.full((len(clips), self.dim), np.nan, np.float32)
        for vector, clip in zip(vectors, clips, strict=True):
            if clip.waveform is not None:
                vector[:] = [np.abs(part).mean() for part in np.array_split(clip.waveform.astype(float), self.dim)]
        return vectors


def built(kind: Any, name: str = "toy", settings: Any = None) -> Extractor:
    entry = plugins._entry(name, lambda: kind, "toy 1.0")
    return entry.build(settings or entry.settings)


def variant(**attributes: Any) -> type:
    return type("Variant", (Bands,), attributes)


def test_it_keeps_the_promises_of_built_in_ones() -> None:
    check_extractor(Bands())
    check_extractor(built(Bands))


def test_constructors() -> None:
    assert plugins._entry("toy", lambda: Bands, "").settings == BandSettings()
    without = type("Without", (Bands,), {"__init__": lambda self: None, "dim": 2})
    assert plugins._entry("toy", lambda: without, "").settings == plugins.NoSettings()

    def two(self: Bands, settings: BandSettings, more: int) -> None: ...
    def mutable(self: Bands, settings: Any = {"n_bands": 4}) -> None: ...  # noqa: B006
    def required(self: Bands, settings: BandSettings) -> None: ...

    for constructor in (two, mutable, required):
        with pytest.raises(ExtractorError, match="The constructor of the extractor toy takes settings"):
            built(variant(__init__=constructor))
    with pytest.raises(ExtractorError, match="expected a class"):
        built(Bands())


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"modality": "smell"}, "modality is 'smell'; expected visual or acoustic or textual"),
        ({"fit_videos": -1}, "fit_videos is -1"),
        ({"need": 8000}, "need is 8000; expected Frames, Sound or Text"),
        ({"need": Frames(KeyFrames(2), lambda picture: picture)}, "failed in its need, which is sent to decoding"),
        ({"need": Frames(KeyFrames(2), np.asarray)}, "expected a frozen dataclass or a function"),
        ({"address": lambda self: {"code_version": Path()}}, "failed in its address, which must be made of JSON"),
        ({"address": lambda self: 1 / 0}, "ZeroDivisionError"),
    ],
)
def test_a_broken_description_is_one_sentence(attributes: dict[str, Any], said: str) -> None:
    with pytest.raises(ExtractorError, match=r"The extractor toy \(toy 1.0\) ") as error:
        built(variant(**attributes))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("extract", "said"),
    [
        (lambda clips: np.zeros((len(clips), 3), np.float32), "extract returned (1, 3) float32; expected (1, 4)"),
        (lambda clips: np.zeros((len(clips), 4)), "extract returned (1, 4) float64"),
        (lambda clips: np.float32([[1, 2, np.nan, 3]]), "rows with some NaN or inf"),
        (lambda clips: np.float32([[1, 2, np.inf, 3]]), "rows with some NaN or inf"),
        (lambda clips: None, "extract returned None"),
        (lambda clips: clips[0].absent, "failed in extract: AttributeError"),
    ],
)
def test_wrong_vectors_are_one_sentence(extract: Any, said: str) -> None:
    extractor = built(variant(extract=lambda self, clips, state: extract(clips)))
    with pytest.raises(ExtractorError) as error:
        extractor.extract([SOUND], State())
    assert said in str(error.value)


def test_a_wrong_state_is_one_sentence() -> None:
    for state in (None, State({"a": [1]}), State(info={"a": Path()})):  # type: ignore[dict-item]
        with pytest.raises(ExtractorError):
            built(variant(fit=lambda self, clips, progress, state=state: state)).fit([SOUND], silent)


def test_errors_of_nmcl_pass() -> None:
    def fit(self: Bands, clips: Any, progress: Any) -> State:
        return State(info={"n": len(list(clips))})

    def gone() -> Iterator[Clip]:
        yield SOUND
        raise CrawlError("gone")

    with pytest.raises(CrawlError, match="gone"):
        built(variant(fit=fit)).fit(gone(), silent)


def test_weights_and_devices_are_checked_if_it_does_so() -> None:
    calls = []
    checking = variant(fetch=lambda self: calls.append("fetch"), check=lambda self: calls.append("check"))
    for kind in (Bands, checking):
        extractor: Any = built(kind)
        extractor.fetch()
        extractor.check()
    assert calls == ["fetch", "check"]


def test_addresses_differ_wherever_vectors_may() -> None:
    logmel = LogMelExtractor(LogMelSettings())
    same_address = {"address": lambda self: logmel.address()}
    found = [
        logmel.address(),
        built(variant(**same_address)).address(),
        built(variant(**same_address), "other").address(),
        built(variant(**same_address), settings=BandSettings(5)).address(),
        built(variant(**same_address), settings=BandSettings(added=4)).address(),
        built(variant(**same_address, need=Sound(16000))).address(),
        built(variant(**same_address, need=Text())).address(),
        built(variant(**same_address, need=Frames(KeyFrames(2), Preprocess()))).address(),
        built(variant(**same_address, need=Frames(KeyFrames(3), Preprocess()))).address(),
        built(variant(**same_address, need=Frames(EvenFrames(3), Preprocess()))).address(),
        built(variant(**same_address, need=Frames(KeyFrames(3), Preprocess(crop=112)))).address(),
        built(variant(**same_address, need=Frames(KeyFrames(3), as_it_is))).address(),
    ]
    assert len({json.dumps(address, sort_keys=True) for address in found}) == len(found)


def as_it_is(picture: np.ndarray) -> np.ndarray:
    return picture


def test_a_setting_at_its_reference_changes_no_address() -> None:
    assert built(Bands).address() == built(Bands, settings=BandSettings(added=3)).address()
    assert built(Bands).address()["plugin"]["settings"] == {"n_bands": 4}  # type: ignore[index]


MODULE = """
import numpy as np
from nmcl.pipeline.needs import Text
from nmcl.pipeline.records import State

class Words:
    modality, dim, fit_videos, need = "textual", 1, 0, Text()
    def address(self):
        return {"code_version": VERSION}
    def fit(self, clips, progress):
        return State()
    def extract(self, clips, state):
        return np.array([np.nan if c.text is None else len(c.text) for c in clips], np.float32)[:, None]
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings that name a class of a project."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "word_lengths.py").write_text(MODULE.replace("VERSION", "1"))
    plugins.permit({"word_lengths:Words": str(tmp_path)})
    yield from_tree({"features": {"words": {"extractor": "word_lengths:Words"}}})
    forget()


def forget() -> None:
    """As in another process."""
    plugins.permit({})
    plugins._of_project.cache_clear()
    sys.modules.pop("word_lengths", None)


def test_a_worker_gets_what_the_command_may_import(settings: Settings) -> None:
    sent = pickle.dumps(Extractors(settings))
    forget()
    received = pickle.loads(sent)
    assert "word_lengths" not in sys.modules  # imported on first use
    assert received.settings.features.keys() == settings.features.keys()
    assert received.all["words"].extract([Clip(text="four")], State()) == [[4]]
    assert pickle.loads(pickle.dumps(received)).all["words"].address() == received.all["words"].address()


def test_a_worker_with_another_version_is_refused(settings: Settings, tmp_path: Path) -> None:
    sent = pickle.dumps(Extractors(settings))
    forget()
    (tmp_path / "word_lengths.py").write_text(MODULE.replace("VERSION", "2"))
    received = pickle.loads(sent)
    with pytest.raises(ExtractorError, match="A worker has another version of the extractor word_lengths:Words"):
        _ = received.all


def test_a_worker_without_it_gives_a_message(settings: Settings, tmp_path: Path) -> None:
    sent = pickle.dumps(Extractors(settings))
    forget()
    (tmp_path / "word_lengths.py").unlink()
    received = pickle.loads(sent)
    with pytest.raises(ExtractorError, match="cannot be imported: ModuleNotFoundError"):
        _ = received.settings


def test_a_module_of_another_origin_is_named(settings: Settings) -> None:
    plugins.permit({"json:Words": "/nowhere"})
    with pytest.raises(ExtractorError, match=r"AttributeError: .* in .*json/__init__\.py"):
        plugins.find("json:Words")
