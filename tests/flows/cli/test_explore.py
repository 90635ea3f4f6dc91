"""`nmcl explain`, `nmcl similar` and `nmcl compare` of runs, as a user calls them."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import fsspec
import pytest

from nmcl.pipeline.records import Video
from nmcl.pipeline.storage.catalogue import TRAINING, Crawl, load_catalogue, make_part, save_catalogue
from nmcl.pipeline.storage.store import Store
from tests.flows.commands import nmcl_here
from tests.flows.run.earlier import unpacked

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return unpacked(tmp_path)


@pytest.fixture
def nmcl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "200")
    return partial(nmcl_here, capsys=capsys, monkeypatch=monkeypatch)


def test_texts_name_what_matters(store: Store, nmcl: Command) -> None:
    code, said, _ = nmcl("explain", "v0003", "--out", store.url)
    assert code == 0
    for words in ("label: Street; split: train", "observed, 1280", "weights 005bdebd355e", "Nearest training videos"):
        assert words in said
    code, said, _ = nmcl("similar", "v0003", "--out", store.url, "--features", "visual", "-n", "3")
    assert (code, said.count("monday/v")) == (0, 4)
    code, said, _ = nmcl("compare", "champion", "logistic", "--out", store.url)
    assert code == 0
    assert "Runs on 27 test videos of both" in said
    assert "Not testable" in said


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["explain", "v0003"], {"video_id", "outcomes", "vectors", "nearest", "header", "limits"}),
        (["similar", "v0003"], {"video", "features", "run", "nearest"}),
        (["similar", "--duplicates", "--threshold", "0.4"], {"threshold", "run", "pairs"}),
        (["compare", "nmcl", "logistic"], {"scores", "answers", "p_value", "settings", "features"}),
    ],
)
def test_json_is_one_ascii_document_also_of_an_object_store(
    store: Store, nmcl: Command, words: list[str], keys: set[str]
) -> None:
    code, said, _ = nmcl(*words, "--out", store.url, "--json")
    assert code == 0
    assert said.isascii()
    assert keys - {"limits"} <= json.loads(said).keys()
    remote = fsspec.filesystem("memory")
    remote.put(store.url, "/copy/out", recursive=True)
    for pointer in ("latest", "champion"):
        remote.pipe(f"/copy/out/{pointer}.json", json.dumps({"leads_to": store.target(pointer)}).encode())
    code, too, said_too = nmcl(*words, "--out", "memory://copy/out", "--json")
    assert (code, said_too.count("error")) == (0, 0)
    assert json.loads(too) == json.loads(said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explain", "nothing"], "There is no video nothing in"),
        (["similar"], "Name one video, or use --duplicates"),
        (["similar", "v0003", "--duplicates"], "Name one video, or use --duplicates"),
        (["similar", "v0003", "--threshold", "1"], "--threshold belongs to --duplicates"),
        (["similar", "v0003", "--features", "x"], "There is no feature set 'x'"),
        (["compare", "nmcl", "other"], "There is no run other"),
        (["explain", "v0003", "--run", "n\x1b"], "There is no run n\\x1b"),
    ],
)
def test_wrong_input_gets_one_sentence(store: Store, nmcl: Command, words: list[str], said: str) -> None:
    code, _, error = nmcl(*words, "--out", store.url)
    assert (code, error.count("\n")) == (2, 1)
    assert said in error


def test_studies_and_runs_are_distinguished(nmcl: Command) -> None:
    code, _, error = nmcl("compare", "nmcl", "logistic")
    assert code == 2
    assert "to compare two runs of a store, add --out STORE" in error


def test_names_of_a_hostile_crawl_are_escaped(store: Store, nmcl: Command) -> None:
    bad = "\x1b[31mred\u202e"
    part = make_part(store, [Video(bad, "evil", f"{bad}.mp4", "ef" * 32, 3, bad, bad, None, None)])
    save_catalogue(store, load_catalogue(store).with_crawl(Crawl("evil", "/srv/evil", (part,), ())), TRAINING)
    for options in ([], ["--json"]):
        code, said, error = nmcl("explain", "efef", "--out", store.url, *options)
        assert code == 0, error
        assert not {"\x1b", "\u202e"} & set(said + error)


LIGHT = """
import sys
from nmcl.flows.cli.main import main
sys.argv = ["nmcl", *sys.argv[1:]]
try:
    main()
finally:
    heavy = {"torch", "sklearn", "scipy", "gensim", "prefect", "av", "matplotlib"} & sys.modules.keys()
    sys.exit(",".join(sorted(heavy)) or 0)
"""


@pytest.mark.parametrize("command", [["explain", "v0003"], ["similar", "v0003"], ["runs"]])
def test_they_start_without_heavy_packages(store: Store, command: list[str]) -> None:
    words = [sys.executable, "-c", LIGHT, *command, "--out", store.url]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
