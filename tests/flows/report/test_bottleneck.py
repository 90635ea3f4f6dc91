"""The line that names the bottleneck."""

import re
from dataclasses import asdict

import numpy as np

from nmcl.flows.report.bottleneck import ADVICE, bottleneck
from nmcl.flows.settings import from_tree
from nmcl.pipeline.completion.base import CompletionSettings
from nmcl.pipeline.completion.registry import COMPLETERS
from nmcl.pipeline.stages.complete import fit_completion


def test_extraction_is_divided_and_the_largest_is_named() -> None:
    said = bottleneck({"extract": 80.0, "train": 15.0, "fit": 4.0, "evaluate": 1.0}, {"visual": 3.0, "decoding": 1.0})
    assert said.startswith("Total time: 100 s (visual 60%, decoding 20%, train 15%). Bottleneck: ")
    assert ADVICE["visual"] in said


def test_a_stage_that_was_not_divided_counts_whole() -> None:
    assert "(extract 75%, train 25%)" in bottleneck({"extract": 3.0, "train": 1.0}, {})


def test_the_advice_names_settings_that_exist() -> None:
    named = re.findall(r"--set ([\w.]+)=", " ".join(ADVICE.values()))
    assert len(named) > 5
    tree = asdict(from_tree({}))
    for name in named:
        *sections, last = name.split(".")
        values = tree
        for section in sections:
            values = values[section] if section in values else values["options"][section]
        assert last in values or last in values["options"], name


def test_the_completion_takes_as_long_with_any_completer() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 40, 3)).astype(np.float32)
    rows[0, :5], rows[1, 5:9] = np.nan, np.nan
    for method in ("auto", "ridge"):
        state = fit_completion({"a": rows[0], "b": rows[1]}, CompletionSettings(method=method))
        assert state.info["held_out"]["nrmse"].keys() == COMPLETERS.keys()
    assert "completion.method" not in ADVICE["complete"]


def test_nothing_was_measured() -> None:
    assert bottleneck({"extract": 0.0}, {}) == ""
    assert bottleneck({}, {"visual": 1.0}) == ""
