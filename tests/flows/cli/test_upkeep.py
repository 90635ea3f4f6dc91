"""`nmcl du`, `gc` and `relocate` on real small stores."""

import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nmcl.flows.run import runs, stages
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import ModelChoice, Settings
from nmcl.flows.stored_settings import of_store, remember
from nmcl.model.registry import MODELS
from nmcl.pipeline.stages.verify import verify
from nmcl.pipeline.storage.runs import find_run, promote
from nmcl.pipeline.storage.store import Store
from tests.flows.commands import nmcl_here

DATA = Path(__file__).resolve().parents[2] / "data"
Nmcl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def nmcl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Nmcl:
    """Run a command in this process; returns its exit code, stdout and stderr."""
    return lambda *arguments: nmcl_here(*arguments, capsys=capsys, monkeypatch=monkeypatch)


@pytest.fixture(scope="module")
def three(trained: Path, quick: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a champion, a former challenger that was promoted, and a run that was stopped before its evaluation.

    The last one has other settings of acoustic features and of thumbnails, and so vectors, states and thumbnails of its
    own.
    """
    out = tmp_path_factory.mktemp("three") / "out"
    shutil.copytree(trained, out, symlinks=True)
    store = Store.open(out)
    majority = replace(quick, model=ModelChoice("majority", options=MODELS["majority"].settings))
    runs.up_to(Context(store, majority), "evaluate")
    promote(find_run(store, "majority"), "promote", "by hand")
    acoustic = quick.features["acoustic"]
    other = replace(acoustic, options=replace(acoustic.options, max_frames=90))
    smaller = replace(quick.thumbnails, height=80, backfill=True)
    settings = replace(quick, features={**quick.features, "acoustic": other}, thumbnails=smaller)
    runs.up_to(Context(store, settings), "train")
    remember(store, quick)
    return out


def files_in(out: Path) -> dict[str, bytes]:
    """Every file of a store, without links and locks."""
    found = {}
    for folder, _, names in os.walk(out):
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink() and name != ".lock":
                found[str(path.relative_to(out))] = path.read_bytes()
    return found


def thumbnails_in(out: Path) -> dict[int, str]:
    """Folders of thumbnails by the height of their pictures."""
    recipes = (out / "metadata" / "thumbnails").glob("*/recipe.json")
    return {
        json.loads(recipe.read_text())["settings_in_full"]["thumbnails"]["height"]: f"thumbnails/{recipe.parent.name}"
        for recipe in recipes
    }


def expected_to_go(out: Path, kept: list[str]) -> set[str]:
    """Files that no kept run refers to: by the addresses in recipes, read as text; thumbnails by their height."""
    folders: dict[str, set[str]] = {}
    for name in files_in(out):
        parts = name.removeprefix("metadata/").split("/")
        if parts[0] in ("features", "states", "completed", "runs", "texts", "thumbnails"):
            folders.setdefault("/".join(parts[:2]), set()).add(name)
    reached: set[str] = set()
    waiting = [*kept, thumbnails_in(out)[160]]
    while waiting:
        folder = waiting.pop()
        if folder in reached:
            continue
        reached.add(folder)
        for recipe in (name for name in folders[folder] if name.endswith("recipe.json")):
            addresses = re.findall(r'"([0-9a-f]{12})"', (out / recipe).read_text())
            waiting += [other for other in folders if other.rsplit("-", 1)[-1] in addresses and other[:4] != "runs"]
    return {name for folder, names in folders.items() if folder not in reached for name in names}


def test_gc_removes_exactly_what_no_kept_run_refers_to(
    three: Path, small_crawl: Path, tmp_path: Path, nmcl: Nmcl
) -> None:
    out = Path(shutil.copytree(three, tmp_path / "out", symlinks=True))
    before = files_in(out)
    finished = [f"runs/{folder.name}" for folder in (out / "runs").iterdir() if (folder / "metrics.json").exists()]
    assert len(finished) == 2
    assert len(list((out / "runs").iterdir())) == 3
    wanted = expected_to_go(out, finished)
    kinds = {name.removeprefix("metadata/").split("-")[0] for name in wanted}
    made = {"features/acoustic", "states/acoustic", "states/completion", "completed/all", "runs/logistic"}
    assert kinds == {*made, "thumbnails/images"}
    assert sum(name.endswith("made_with.json") for name in before) == 2

    code, printed, _ = nmcl("gc", "--out", out, "--dry-run", "--json")
    listed = json.loads(printed)
    assert (code, listed["removed"]) == (0, False)
    assert {name for row in listed["artifacts"] for name in row["files"]} == wanted
    assert listed["bytes"] == sum(len(before[name]) for name in wanted)
    assert files_in(out) == before
    code, printed, _ = nmcl("gc", "--out", out, "--dry-run")
    assert all(name in printed.splitlines() for name in wanted)

    assert nmcl("gc", "--out", out)[0] == 0
    assert files_in(out) == {name: content for name, content in before.items() if name not in wanted}
    assert sorted(f"runs/{folder.name}" for folder in (out / "runs").iterdir()) == sorted(finished)
    assert nmcl("verify", "--out", out)[0] == 0
    assert "Nothing to remove" in nmcl("gc", "--out", out)[1]

    assert nmcl("predict", small_crawl, "--model", out, "--out", tmp_path / "venues.parquet")[0] == 0
    assert "Champion: runs/logistic" in nmcl("rollback", "--out", out)[1]
    assert nmcl("predict", small_crawl, "--model", out, "--out", tmp_path / "again.parquet")[0] == 0


def test_a_kill_at_any_file_leaves_a_store_that_verifies(three: Path, tmp_path: Path, nmcl: Nmcl) -> None:
    names = [
        n for row in json.loads(nmcl("gc", "--out", three, "--dry-run", "--json")[1])["artifacts"] for n in row["files"]
    ]
    whole = {name: content for name, content in files_in(three).items() if name not in names}
    for n_removed in range(1, len(names), 3):
        out = Path(shutil.copytree(three, tmp_path / f"out{n_removed}", symlinks=True))
        for name in names[:n_removed]:
            (out / name).unlink()
        assert verify(Store.open(out)).problems == []
        if n_removed % 4 == 0:
            assert nmcl("gc", "--out", out)[0] == 0
            assert files_in(out) == whole
        shutil.rmtree(out)


def test_gc_keeps_the_thumbnails_that_show_most_videos_of_a_run(
    three: Path, quick: Settings, tmp_path: Path, nmcl: Nmcl
) -> None:
    """Even if other settings are in force now, for which there are no thumbnails, or only those of some videos."""
    out = Path(shutil.copytree(three, tmp_path / "out", symlinks=True))
    folders = thumbnails_in(out)
    assert sorted(folders) == [80, 160]
    first = next(
        path
        for path in sorted((out / folders[160]).glob("*.parquet"))
        if any(pq.read_table(path).column("images").to_pylist())
    )
    first.unlink()
    remember(Store.open(out), replace(quick, thumbnails=replace(quick.thumbnails, height=100)))
    assert nmcl("gc", "--out", out)[0] == 0
    assert thumbnails_in(out) == {80: folders[80]}
    code, printed, _ = nmcl("du", "--out", out, "--json")
    (row,) = (row for row in json.loads(printed)["artifacts"] if row["kind"] == "thumbnails")
    assert (code, row["in_use"], len(row["runs"])) == (0, True, 2)
    assert json.loads(nmcl("status", "--out", out, "--json")[1])["thumbnails"] == 13  # one of 14 files is none
    assert nmcl("report", "--out", out, "--to", tmp_path / "page.html")[0] == 0
    assert (tmp_path / "page.html").read_text().count("/9j/") > 3


def test_gc_keeps_what_the_present_settings_would_use(three: Path, quick: Settings, tmp_path: Path, nmcl: Nmcl) -> None:
    out = Path(shutil.copytree(three, tmp_path / "out", symlinks=True))
    acoustic = quick.features["acoustic"]
    other = replace(acoustic, options=replace(acoustic.options, max_frames=90))
    smaller = replace(quick.thumbnails, height=80)
    remember(Store.open(out), replace(quick, features={**quick.features, "acoustic": other}, thumbnails=smaller))
    assert nmcl("gc", "--out", out)[0] == 0
    assert set(thumbnails_in(three)) - set(thumbnails_in(out)) == {160}  # both show all videos
    rest = files_in(three).keys() - files_in(out).keys()
    assert {name.removeprefix("metadata/").split("/")[0] for name in rest} == {"thumbnails"}


def test_gc_removes_a_named_run_unless_it_was_champion(
    trained: Path, quick: Settings, tmp_path: Path, nmcl: Nmcl
) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "out", symlinks=True))
    store = Store.open(out)
    majority = replace(quick, model=ModelChoice("majority", options=MODELS["majority"].settings))
    runs.up_to(Context(store, majority), "evaluate")
    code, _, said = nmcl("gc", "--out", out, "--run", "logistic")
    assert code == 2
    assert "is or was the champion" in said
    code, _, said = nmcl("gc", "--out", out, "--run", "majority")
    assert code == 2
    assert "is the latest run" in said
    runs.up_to(Context(store, quick), "evaluate")
    before = files_in(out)
    assert nmcl("gc", "--out", out, "--run", "majority")[0] == 0
    gone = before.keys() - files_in(out).keys()
    assert {name.rsplit("/", 1)[0].split("-")[0] for name in gone} == {"runs/majority"}


def test_parts_in_no_catalogue_are_removed(
    trained: Path, small_crawl: Path, quick: Settings, tmp_path: Path, nmcl: Nmcl
) -> None:
    crawl = Path(shutil.copytree(small_crawl, tmp_path / "clips"))
    out = tmp_path / "out"
    context = Context(Store.create(out), quick)
    remember(context.store, quick)
    (old,) = stages.ingest(context, crawl).crawls
    visual = next(Path(trained, "features").glob("visual-*")).name
    images = next(Path(trained, "thumbnails").glob("images-*")).name
    for folder in (f"features/{visual}", f"thumbnails/{images}"):
        shutil.copytree(trained / folder, out / folder)
        shutil.copytree(trained / "metadata" / folder, out / "metadata" / folder)
    assert "Nothing to remove" in nmcl("gc", "--out", out)[1]
    manifest = crawl / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("\n1.mp4,snow ski ice", "\n1.mp4,snow"))
    (new,) = stages.ingest(context, crawl).crawls
    (changed,) = {part.key for part in old.parts} - {part.key for part in new.parts}
    before = files_in(out)
    assert nmcl("gc", "--out", out)[0] == 0
    gone = before.keys() - files_in(out).keys()
    (rows,) = {part.file for part in old.parts} - {part.file for part in new.parts}
    parts = [f"{folder}/part-{changed}.parquet" for folder in (f"features/{visual}", f"thumbnails/{images}")]
    assert gone == {*parts, *(f"metadata/{part}.sha256" for part in parts), rows}


def test_du_accounts_for_every_byte(three: Path, tmp_path: Path, nmcl: Nmcl) -> None:
    code, printed, _ = nmcl("du", "--out", three, "--json")
    found = json.loads(printed)
    assert code == 0
    files = files_in(three)
    assert (found["files"], found["bytes"]) == (len(files), sum(map(len, files.values())))
    rows = {row["folder"]: row for row in found["artifacts"]}
    unfinished = {folder for folder, row in rows.items() if not row["in_use"]}
    listed = json.loads(nmcl("gc", "--out", three, "--dry-run", "--json")[1])
    assert unfinished == {row["folder"] for row in listed["artifacts"]}
    visual = next(row for folder, row in rows.items() if folder.startswith("features/visual-"))
    assert visual["feature_set"] == "visual"
    assert sorted(run.split("-")[0] for run in visual["runs"]) == ["runs/logistic", "runs/majority"]
    printed = nmcl("du", "--out", three)[1]
    assert "unused" in printed
    assert "`nmcl gc --out" in printed


def test_du_and_gc_on_a_store_of_an_early_version(tmp_path: Path, nmcl: Nmcl) -> None:
    with tarfile.open(DATA / "store-28a06ff.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    before = files_in(tmp_path / "out")
    assert "Nothing to remove" in nmcl("gc", "--out", tmp_path / "out")[1]
    assert files_in(tmp_path / "out") == before
    found = json.loads(nmcl("du", "--out", tmp_path / "out", "--json")[1])
    assert all(row["in_use"] for row in found["artifacts"])


def test_on_an_object_store(three: Path, small_crawl: Path, tmp_path: Path, nmcl: Nmcl) -> None:
    """By fsspec's store in memory, which has neither folders nor links."""
    url = "memory://stores/three"
    store = Store(url)
    before = files_in(three)
    for name, content in before.items():
        store.write(name, content)
    for name in ("latest", "champion"):
        target = Store.open(three).target(name)
        assert target
        store.point(name, target)
    on_disk = json.loads(nmcl("gc", "--out", three, "--dry-run", "--json")[1])
    found = json.loads(nmcl("status", "--out", url, "--json")[1])
    own = json.loads(nmcl("status", "--out", three, "--json")[1])
    for name in ("crawls", "stages", "features", "outcomes", "champion", "problems"):
        assert found[name] == own[name]
    assert nmcl("gc", "--out", url)[0] == 0
    gone = {name for row in on_disk["artifacts"] for name in row["files"]}
    assert before.keys() - store.sizes().keys() == gone
    rows = json.loads(nmcl("du", "--out", url, "--json")[1])["artifacts"]
    assert all(row["in_use"] for row in rows)
    copy = Path(shutil.copytree(small_crawl, tmp_path / "copy"))
    assert nmcl("relocate", "clips", copy, "--out", url)[0] == 0
    assert json.loads(nmcl("status", "--out", url, "--json")[1])["crawls"][0]["folder"] == str(copy)


def test_gc_refuses_where_a_lineage_is_unknown(three: Path, tmp_path: Path, nmcl: Nmcl) -> None:
    out = Path(shutil.copytree(three, tmp_path / "out", symlinks=True))
    for recipe in (out / "states").glob("completion-*/recipe.json"):
        recipe.write_text("{}")
    before = files_in(out)
    code, _, said = nmcl("gc", "--out", out)
    assert code == 2
    assert "nothing is removed" in said
    assert files_in(out) == before
    code, printed, _ = nmcl("du", "--out", out, "--json")
    assert code == 0
    assert {row["in_use"] for row in json.loads(printed)["artifacts"]} == {None}


def test_a_moved_crawl_is_found_again(trained: Path, small_crawl: Path, tmp_path: Path, nmcl: Nmcl) -> None:
    old = Path(shutil.copytree(small_crawl, tmp_path / "clips"))
    out = Path(shutil.copytree(trained, tmp_path / "out", symlinks=True))
    assert nmcl("relocate", small_crawl, old, "--out", out)[0] == 0  # the copy takes the place of the fixture
    assert nmcl("predict", old, "--model", out, "--out", tmp_path / "before.csv")[0] == 0
    new = old.rename(tmp_path / "elsewhere")
    before = files_in(out)

    code, printed, _ = nmcl("relocate", old, new, "--out", out, "--dry-run")
    assert code == 0
    assert "14 files have the same size, 14 of them were read" in printed
    found = json.loads(nmcl("relocate", old, new, "--out", out, "--dry-run", "--json")[1])
    assert (found["old"], found["new"], found["changed"]) == (str(old), str(new), False)
    assert files_in(out) == before
    assert nmcl("relocate", old, new, "--out", out)[0] == 0
    after = files_in(out)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert {re.sub("-[0-9a-f]{8,12}", "", name) for name in changed} == {
        "catalogue.json",
        "predicted/clips.json",
        "predicted/elsewhere.json",
        "runs/logistic/catalogue.json",
    }
    for name in changed & after.keys():
        text = after[name].decode()
        assert str(new) in text
        assert str(old) not in text

    settings = of_store(Store.open(out), {})
    context = Context(Store.open(out), settings)
    stages.ingest(context, new)
    assert runs.is_complete(context)
    assert (out / "catalogue.json").read_bytes() == after["catalogue.json"]
    assert nmcl("verify", "--out", out)[0] == 0
    assert nmcl("predict", new, "--model", out, "--out", tmp_path / "after.csv")[0] == 0
    assert (tmp_path / "after.csv").read_bytes() == (tmp_path / "before.csv").read_bytes()


def test_another_place_is_refused(trained: Path, small_crawl: Path, tmp_path: Path, nmcl: Nmcl) -> None:
    out = Path(shutil.copytree(trained, tmp_path / "out", symlinks=True))
    before = files_in(out)

    def refused(old: object, new: object) -> str:
        code, _, said = nmcl("relocate", old, new, "--out", out)
        assert code == 2
        assert said.count("error: ") == 1
        assert files_in(out) == before
        return said

    new = Path(shutil.copytree(small_crawl, tmp_path / "new"))
    video = (new / "3.mp4").read_bytes()
    (new / "3.mp4").unlink()
    assert "1 of 14 files are missing in" in refused("clips", new)
    (new / "3.mp4").write_bytes(video + b"\0")
    assert "1 of 14 files are of another size" in refused("clips", new)
    (new / "3.mp4").write_bytes(video[:-1] + bytes([video[-1] ^ 1]))
    assert "3.mp4 has other content" in refused("clips", new)
    assert "knows no crawl at" in refused("nowhere", new)
    assert "is already at" in refused("clips", small_crawl)
    refused("clips", tmp_path / "absent")
    assert "inside the crawl" in refused("clips", tmp_path)
