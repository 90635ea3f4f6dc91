"""Vectors of some files without a store are those of a store, and what is wrong with a file is said."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nmcl
from nmcl.flows.run import runs, stages
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import from_tree
from nmcl.flows.stored_settings import remember
from nmcl.pipeline.errors import CrawlError, UserError
from nmcl.pipeline.storage.store import Store

ROOT = Path(__file__).resolve().parents[3]
SETS = {
    "visual": {"extractor": "efficientnet_lite0", "key_frames": 3},
    "acoustic": {"extractor": "logmel"},
    "textual": {"extractor": "none"},
    "words": {"extractor": "none"},
    "ngrams": {"extractor": "none"},
}
NAMES = ["4.mp4", "0.mp4", "broken.mp4", "1.mp4"]


@pytest.fixture(scope="module")
def extraction(small_crawl: Path) -> nmcl.Extraction:
    """Three clips, one of them without sound, and a file that is none."""
    sets = {name: values for name, values in SETS.items() if name in ("visual", "acoustic")}
    return nmcl.extract([small_crawl / name for name in NAMES], sets)


def test_vectors_are_those_of_a_store(extraction: nmcl.Extraction, small_crawl: Path, tmp_path: Path) -> None:
    context = Context(Store.create(tmp_path / "out"), from_tree({"features": SETS}))
    remember(context.store, context.settings)
    stages.ingest(context, small_crawl)
    runs.up_to(context, "extract")
    stored = nmcl.open(tmp_path / "out").features()
    rows = [stored.ids.tolist().index(name.removesuffix(".mp4")) for name in NAMES]
    assert extraction.ids == [str(small_crawl / name) for name in NAMES]
    assert [*extraction.features] == ["visual", "acoustic"]
    for name, matrix in stored.to_numpy().items():
        np.testing.assert_allclose(extraction.features[name], matrix[rows], rtol=1e-3, atol=1e-4)
        assert np.isnan(extraction.features[name][2]).all()


def test_the_loudest_band_is_that_of_the_tone(extraction: nmcl.Extraction) -> None:
    """Clip i has a sine of 300 + 10 i Hz; the bands are 64 of Slaney's mel scale, linear below 1 kHz."""
    bands_hz = 11_025
    edges = np.linspace(0, 15 + 27 * np.log(bands_hz / 1000) / np.log(6.4), 66) * 200 / 3
    for row, clip in ((0, 4), (3, 1)):
        levels = extraction.features["acoustic"][row][:64]
        assert abs(edges[1:-1][levels.argmax()] - (300 + 10 * clip)) < edges[1]


def test_absence_and_failure_are_distinguished(extraction: nmcl.Extraction, small_crawl: Path) -> None:
    assert np.isnan(extraction.features["acoustic"]).all(axis=1).tolist() == [False, True, True, False]
    assert np.isnan(extraction.features["visual"]).all(axis=1).tolist() == [False, False, True, False]
    ((path, (problem,)),) = extraction.problems.items()
    assert path == str(small_crawl / "broken.mp4")
    assert (problem.modality, problem.kind) == (None, "unreadable")


def test_tables_have_a_row_per_file(extraction: nmcl.Extraction) -> None:
    frame = extraction.to_pandas()
    assert frame["video_id"].tolist() == extraction.ids
    assert frame["acoustic"].isna().tolist() == [False, True, True, False]
    np.testing.assert_array_equal(np.stack(frame["visual"].dropna()), extraction.features["visual"][[0, 1, 3]])


def test_descriptions_are_read_by_textual_extractors(small_crawl: Path) -> None:
    pytest.importorskip("wordllama")
    paths = [small_crawl / "1.mp4", small_crawl / "2.mp4", "nothing.mp4"]
    found = nmcl.extract(paths, ["wordllama"], descriptions=["snow", None, "snow"])
    first, absent, same = found.features["wordllama"]
    assert np.isnan(absent).all()
    np.testing.assert_array_equal(first, same)  # no file is decoded for its description


def test_a_file_that_is_not_there_is_a_problem_of_its_own(small_crawl: Path) -> None:
    found = nmcl.extract([small_crawl / "1.mp4", "nothing.mp4"], ["logmel"])
    assert np.isnan(found.features["logmel"]).all(axis=1).tolist() == [False, True]
    assert [(path, problem.kind) for path, (problem,) in found.problems.items()] == [("nothing.mp4", "missing")]


def test_a_script_without_a_main_guard_works(small_crawl: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        f"import nmcl\nprint(nmcl.extract({str(small_crawl / '1.mp4')!r}, ['logmel']).features['logmel'].shape)"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(1, 128)\n"


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (["sda"], "The extractor of sda is fitted on a crawl"),
        (["logmell"], "no extractor 'logmell'. Did you mean logmel?"),
        ("logmel", r"features is 'logmel'; expected a list, such as \['logmel'\]"),
        ({"x": {"extractor": "resnet50", "keyframes": 3}}, "Did you mean features.x.key_frames?"),
        (["wordllama"], "wordllama is made from descriptions, and none were given. Give one for each file"),
        ([], "No feature set is left"),
    ],
)
def test_extractors_that_cannot_be_used_are_described(features: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        nmcl.extract(["a.mp4"], features)


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ([], "Found no path"),
        ([ROOT], "is a folder; expected video files"),
        (["s3://bucket/a.mp4"], "is a URL; expected video files"),
        (["a.mp4", "b.mp4", "a.mp4"], "a.mp4 is given twice"),
    ],
)
def test_paths_that_cannot_be_used_are_described(paths: list[str], said: str) -> None:
    with pytest.raises(CrawlError, match=said):
        nmcl.extract(paths, ["logmel"])


def test_without_pandas_the_way_out_is_named(extraction: nmcl.Extraction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"to_pandas needs the package pandas.*pip install 'nmcl\[pandas\]'"):
        extraction.to_pandas()
