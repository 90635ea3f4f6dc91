"""Feature sets of titles and subtitles: their own artifact, read again with the crawl, and checked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nmcl
from nmcl.extractors.wordllama import WordLlamaExtractor, WordLlamaSettings, is_installed
from nmcl.flows import console
from nmcl.flows.run import runs, stages, texts
from nmcl.flows.run.plan import Plan
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import from_tree
from nmcl.pipeline.errors import CrawlError, SettingsError
from nmcl.pipeline.records import Clip, State
from nmcl.pipeline.stages.complete import load_features
from nmcl.pipeline.stages.texts import load_texts
from nmcl.pipeline.stages.verify import repair, verify
from nmcl.pipeline.storage.artifacts import digest_file, files_of
from nmcl.pipeline.storage.store import Store
from nmcl.pipeline.storage.tables import read_table

pytestmark = pytest.mark.skipif(not is_installed(), reason="wordllama is not installed")

VTT = "WEBVTT\n\n00:01.000 --> 00:02.000\n{}\n"
TITLES = {"a": "Sunset at the beach", "b": "", "c": "Snow on the slope", "d": "A walk by the sea", "e": "Ice and snow"}


def settings(**sets: dict[str, Any]) -> Any:
    none = {name: {"extractor": "none"} for name in ("visual", "acoustic", "textual") if name not in sets}
    return from_tree({"features": none | sets, "ingest": {"part_size": 2}})


def words(source: str) -> dict[str, Any]:
    return {"extractor": "wordllama", "text": source}


@pytest.fixture
def crawl(tmp_path: Path) -> Path:
    """Five videos in three parts; nothing here decodes them."""
    folder = tmp_path / "clips"
    folder.mkdir()
    rows = ["path,description,title"]
    for name, title in TITLES.items():
        (folder / f"{name}.mp4").write_bytes(name.encode())
        rows.append(f"{name}.mp4,words of {name},{title}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    (folder / "a.en.vtt").write_text(VTT.format("we are at the beach"))
    (folder / "d.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nthe sea is calm\n")
    return folder


def ingested(crawl: Path, out: Path, **sets: dict[str, Any]) -> Context:
    context = Context(Store.create(out), settings(**sets))
    stages.ingest(context, crawl)
    return context


def vectors(plan: Plan, name: str) -> np.ndarray:
    return load_features(plan.store, plan.catalogue, plan.features[name])


def embedded(wanted: list[str | None]) -> np.ndarray:
    return WordLlamaExtractor(WordLlamaSettings()).extract([Clip(text=text) for text in wanted], State())


def rows(plan: Plan, source: str) -> list[str | None]:
    artifact = plan.extractors.texts[source]  # type: ignore[index]
    return [text for _, part in plan.catalogue.parts() for text in load_texts(plan.store, artifact, part)]


SPOKEN = ["we are at the beach", None, None, "the sea is calm", None]


def test_sets_of_several_sources(crawl: Path, tmp_path: Path) -> None:
    sets = {"said": words("subtitles"), "named": words("title"), "words": words("description")}
    context = ingested(crawl, tmp_path / "out", **sets)
    plan = runs.up_to(context, "extract")
    np.testing.assert_array_equal(vectors(plan, "said"), embedded(SPOKEN))
    np.testing.assert_array_equal(vectors(plan, "named"), embedded([title or None for title in TITLES.values()]))
    np.testing.assert_array_equal(vectors(plan, "words"), embedded([f"words of {name}" for name in TITLES]))
    assert rows(plan, "subtitles") == SPOKEN
    assert plan.features["said"].recipe["texts"] == plan.extractors.texts["subtitles"].recipe
    first = read_table(plan.store, plan.extractors.texts["subtitles"].part(plan.catalogue.crawls[0].parts[0].key))
    assert first.to_pylist()[0] == {
        "video_id": "a", "text": SPOKEN[0], "lines": [SPOKEN[0]], "lines_s": [1.0], "file": "a.en.vtt", "remark": None,
    }  # fmt: skip
    findings = verify(context.store)
    assert findings.problems == []
    assert findings.checked["texts"] == 6
    assert runs.missing(plan)[:1] == ["complete"]


def test_other_sources_and_languages_are_other_artifacts_and_the_default_is_not(crawl: Path, tmp_path: Path) -> None:
    context = ingested(crawl, tmp_path / "out", said=words("subtitles"), named={"extractor": "wordllama"})
    plan = context.plan()
    assert "texts" not in plan.features["named"].recipe
    german = replace(context.settings, subtitles=replace(context.settings.subtitles, languages=("de",)))
    other = replace(context, settings=german).plan()
    assert other.features["said"] != plan.features["said"]
    assert other.features["named"] == plan.features["named"]
    assert rows(runs.up_to(replace(context, settings=german), "extract"), "subtitles") == [*[None] * 3, SPOKEN[3], None]


def test_paragraph_vectors_of_titles_are_those_of_the_same_words_as_descriptions(crawl: Path, tmp_path: Path) -> None:
    learned = {"extractor": "paragraph_vectors", "min_words": 1000, "dim": 8}
    plan = runs.up_to(ingested(crawl, tmp_path / "out", textual={**learned, "text": "title"}), "extract")
    table = (crawl / "manifest.csv").read_text().replace("description,title", "other,description")
    (crawl / "manifest.csv").write_text(table)
    same = runs.up_to(ingested(crawl, tmp_path / "same", textual=learned), "extract")
    np.testing.assert_array_equal(vectors(plan, "textual"), vectors(same, "textual"))
    assert np.isnan(vectors(plan, "textual")).any(axis=1).tolist() == [not title for title in TITLES.values()]
    assert plan.states["textual"].recipe["videos"] == same.states["textual"].recipe["videos"]
    assert plan.states["textual"] != same.states["textual"]


def test_subtitles_that_come_later_are_read_when_the_crawl_is_ingested_again(crawl: Path, tmp_path: Path) -> None:
    context = ingested(crawl, tmp_path / "out", said=words("subtitles"))
    before = runs.up_to(context, "complete")
    kept = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in parts(before, "said")}
    (crawl / "c.en.vtt").write_text(VTT.format("snow everywhere"))
    stages.ingest(context, crawl)
    after = runs.up_to(context, "complete")
    assert after.catalogue == before.catalogue
    spoken = [*SPOKEN[:2], "snow everywhere", *SPOKEN[3:]]
    assert rows(after, "subtitles") == spoken
    np.testing.assert_array_equal(vectors(after, "said"), embedded(spoken))
    same = [name for name, time in kept.items() if (tmp_path / "out" / name).stat().st_mtime_ns == time]
    assert same == [name for i, name in enumerate(kept) if i != 1]  # only the part of c is made again
    assert after.completion != before.completion
    assert after.run != before.run
    assert not verify(context.store).problems
    stages.ingest(context, crawl)
    assert context.plan().completion == after.completion


def parts(plan: Plan, name: str) -> list[str]:
    return [plan.features[name].part(part.key) for _, part in plan.catalogue.parts()]


def test_damaged_texts_are_found_and_made_again_with_what_was_made_from_them(crawl: Path, tmp_path: Path) -> None:
    context = ingested(crawl, tmp_path / "out", said=words("subtitles"))
    plan = runs.up_to(context, "complete")
    before = vectors(plan, "said")
    name = plan.extractors.texts["subtitles"].part(plan.catalogue.crawls[0].parts[0].key)
    file = tmp_path / "out" / name
    file.write_bytes(file.read_bytes()[:-20])
    (problem,) = verify(context.store).problems
    assert problem.file == name
    assert parts(plan, "said")[0] in problem.removes
    repair(context.store, verify(context.store))
    assert not file.exists()
    again = runs.up_to(context, "complete")
    np.testing.assert_array_equal(vectors(again, "said"), before)
    assert again.run == plan.run
    assert not verify(context.store).problems


def test_a_digest_that_is_gone_is_noted_and_written_again(crawl: Path, tmp_path: Path) -> None:
    context = ingested(crawl, tmp_path / "out", said=words("subtitles"))
    plan = runs.up_to(context, "complete")
    out = tmp_path / "out"
    digests = [next((out / "metadata" / kind).glob("*/*.sha256")) for kind in ("texts", "features", "failures")]
    digests += (out / "states").glob("completion-*/state.safetensors.sha256")
    before = [digest.read_bytes() for digest in digests]
    for digest in digests:
        digest.unlink()
    findings = verify(context.store)
    assert not findings.problems  # as after a kill while files are replaced
    names = [str(digest.relative_to(out)).removeprefix("metadata/").removesuffix(".sha256") for digest in digests]
    assert [sum(name in note for note in findings.notes) for name in names] == [1, 1, 1, 1]
    runs.up_to(replace(context, tried=set()), "complete")
    assert [digest.read_bytes() for digest in digests[:3]] == before[:3]
    assert [names[3] in note for note in verify(context.store).notes] == [True]
    assert runs.up_to(replace(context, tried=set()), "complete").run == plan.run


def test_subtitles_that_change_between_ingest_and_extract_are_read_once_and_again_with_the_crawl(
    crawl: Path, tmp_path: Path
) -> None:
    context = ingested(crawl, tmp_path / "out", said=words("subtitles"))
    (crawl / "a.en.vtt").write_text(VTT.format("changed once"))
    plan = runs.up_to(context, "extract")
    assert rows(plan, "subtitles") == ["changed once", *SPOKEN[1:]]
    (crawl / "a.en.vtt").write_text(VTT.format("changed twice"))
    plan = runs.up_to(replace(context, tried=set()), "complete")
    np.testing.assert_array_equal(vectors(plan, "said"), embedded(rows(plan, "subtitles")))
    assert rows(plan, "subtitles") == ["changed once", *SPOKEN[1:]]
    stages.ingest(context, crawl)
    plan = runs.up_to(replace(context, tried=set()), "complete")
    np.testing.assert_array_equal(vectors(plan, "said"), embedded(["changed twice", *SPOKEN[1:]]))


def test_a_killed_command_goes_on_where_it_was(crawl: Path, tmp_path: Path) -> None:
    context = ingested(crawl, tmp_path / "out", said=words("subtitles"))
    whole = ingested(crawl, tmp_path / "whole", said=words("subtitles"))
    runs.up_to(whole, "extract")

    def stop(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "read subtitles":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.up_to(replace(context, progress=stop), "extract")
    plan = context.plan()
    folder = plan.extractors.texts["subtitles"].folder
    (first,) = (tmp_path / "out" / folder).iterdir()
    written = first.stat().st_mtime_ns
    context.store.remove(digest_file(context.store, f"{folder}/{first.name}"))  # as if killed before it was written
    runs.up_to(context, "extract")
    assert first.stat().st_mtime_ns == written
    names = files_of(context.store, folder)
    assert names == files_of(whole.store, folder)
    assert len(names) == 7  # three parts, their digests, and the recipe
    for name in (name for name in names if name.endswith(".parquet")):
        assert context.store.read(f"{folder}/{name}") == whole.store.read(f"{folder}/{name}")


def test_what_is_absent_or_cannot_be_read_is_said_in_one_sentence(
    crawl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(console, "note", said.append)
    (crawl / "a.en.vtt").unlink()
    (crawl / "d.srt").unlink()
    sets = {"said": words("subtitles"), "tags": words("tags"), "words": words("description")}
    plan = runs.up_to(ingested(crawl, tmp_path / "out", **sets), "complete")
    assert np.isnan(vectors(plan, "said")).all()
    assert [note.split(":")[0] for note in said] == ["No video of clips has tags", "No video of clips has subtitles"]
    said.clear()
    (crawl / "a.en.vtt").write_bytes(b"<html>404</html>")
    runs.up_to(ingested(crawl, tmp_path / "other", said=words("subtitles")), "extract")
    (note,) = said
    assert note.startswith(
        "1 video has no subtitles, because their files in clips cannot be read: a.en.vtt has no line"
    )


def test_single_files_have_no_such_text(crawl: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="The feature set said reads the subtitles of a crawl"):
        nmcl.extract(crawl / "a.mp4", {"said": words("subtitles")})
    context = ingested(crawl, tmp_path / "out", said=words("subtitles"))
    texts.leave_out(context.store, context.plan().extractors, context.plan().catalogue)
    assert np.isnan(vectors(runs.up_to(context, "extract"), "said")).all()


def test_a_crawl_that_is_gone(crawl: Path, tmp_path: Path) -> None:
    context = ingested(crawl, tmp_path / "out", said=words("subtitles"))
    crawl.rename(tmp_path / "elsewhere")
    with pytest.raises(CrawlError, match="no longer at"):
        texts.read_missing(context.store, context.plan().extractors, context.plan().catalogue)
