"""Figures derived from the metrics, and values as text."""

import numpy as np
import pytest

from nmcl.flows.report import numbers as text
from nmcl.flows.report import summary


def test_chance_is_that_of_the_most_frequent_venue() -> None:
    found = summary.chance(np.array([[6, 2], [1, 1]]))
    assert found.micro_f1 == pytest.approx(0.8)
    assert found.macro_f1 == pytest.approx((2 * 0.8 / 1.8) / 2)
    assert found.top5 == 1
    assert summary.chance(None).micro_f1 is None


def test_interval_is_wilsons() -> None:
    assert summary.interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert summary.interval(1.0, 3) == pytest.approx((0.4385, 1.0), abs=1e-4)
    assert summary.interval(0.5, 0) is None


def test_most_confused_comes_first_and_the_diagonal_never() -> None:
    found = summary.most_confused(np.array([[9, 1, 0], [3, 5, 0], [0, 0, 0]]), ("a", "b", "c"), 5)
    assert [(pair.venue, pair.taken_for, pair.n_videos, pair.share) for pair in found] == [
        ("b", "a", 3, 0.375),
        ("a", "b", 1, 0.1),
    ]


def test_values_as_text() -> None:
    assert [text.seconds(value) for value in (None, 0.04, 59.9, 75, 7260)] == [
        "–", "0.0 s", "59.9 s", "1 min 15 s", "2 h 1 min",
    ]  # fmt: skip
    assert text.percent(0.0816) == "8.2\N{NO-BREAK SPACE}%"
    assert text.shortened("a  long\nline", 6) == "a lon…"
    assert dict(summary.flat({"a": {"b": [1, None]}, "c": {}})) == {"a.b": "[1, null]", "c": "{}"}
