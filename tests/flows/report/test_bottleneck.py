"""The line that names the bottleneck."""

from nmcl.flows.report.bottleneck import ADVICE, bottleneck


def test_extraction_is_divided_and_the_largest_is_named() -> None:
    said = bottleneck({"extract": 80.0, "train": 15.0, "fit": 4.0, "evaluate": 1.0}, {"visual": 3.0, "decoding": 1.0})
    assert said.startswith("Total time: 100 s (visual 60%, decoding 20%, train 15%). Bottleneck: ")
    assert ADVICE["visual"] in said


def test_a_stage_that_was_not_divided_counts_whole() -> None:
    assert "(extract 75%, train 25%)" in bottleneck({"extract": 3.0, "train": 1.0}, {})


def test_nothing_was_measured() -> None:
    assert bottleneck({"extract": 0.0}, {}) == ""
    assert bottleneck({}, {"visual": 1.0}) == ""
