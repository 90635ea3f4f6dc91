"""The comparison against scikit-learn and binomials, and the rule part by part."""

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from nmcl.model.comparison import PromotionSettings, agreement, compare, promotion_verdict
from nmcl.pipeline.storage.run_files import Agreement, Comparison, NewClass, Slice

RULE = PromotionSettings()
rows = st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=60)


@settings(max_examples=20)  # each resamples a thousand times
@given(rows)
def test_a_slice_is_what_others_work_out(drawn: list[tuple[int, int, int]]) -> None:
    label, champion, challenger = np.array(drawn).T
    found = compare(label, champion, challenger)
    for scores, decided in ((found.champion, champion), (found.challenger, challenger)):
        assert scores["micro_f1"] == pytest.approx(accuracy_score(label, decided))
        assert scores["macro_f1"] == pytest.approx(f1_score(label, decided, average="macro", zero_division=0.0))
    wins = sum(a == c != b for a, b, c in drawn)
    losses = sum(a == b != c for a, b, c in drawn)
    assert (found.wins, found.losses) == (wins, losses)
    n, k = wins + losses, min(wins, losses)
    tail = sum(comb(n, i) for i in range(k + 1)) / 2**n
    assert found.p_value == pytest.approx(min(1.0, 2 * tail))
    assert found.gain == pytest.approx(found.challenger["macro_f1"] - found.champion["macro_f1"])
    assert found.interval is not None
    assert found.interval[0] <= found.interval[1]


def test_no_rows() -> None:
    none = np.zeros(0, np.int64)
    assert compare(none, none, none).gain is None
    assert agreement(none, none) == Agreement(0, None)


def test_agreement_is_beyond_chance() -> None:
    label = np.repeat([0, 1], [90, 10])
    assert agreement(label, label).kappa == 1.0
    assert agreement(label, np.zeros(100, np.int64)).kappa == pytest.approx(0.0)  # right for 90 %, by chance
    assert agreement(np.zeros(9, np.int64), np.zeros(9, np.int64)).kappa == 1.0
    of_one_venue = agreement(np.zeros(50, np.int64), np.eye(50, dtype=np.int64)[0])
    assert of_one_venue.kappa == pytest.approx(0.98)  # Cohen's would be 0


def slice_of(
    gain: float | None = 0.0, wins: int = 3, losses: int = 3, p_value: float | None = 1.0, n_rows: int = 100
) -> Slice:
    if gain is None:
        return Slice(0, {}, {}, None, None, 0, 0, None)
    return Slice(100, {"macro_f1": 0.9}, {"macro_f1": 0.9 + gain}, gain, (gain, gain), wins, losses, p_value)


def found(**parts: object) -> Comparison:
    usual = {
        "frozen": slice_of(0.01),
        "fresh": slice_of(0.01),
        "together": slice_of(0.01),
        "trusted": Agreement(100, 0.9),
        "crawls": {"b": Agreement(100, 0.85)},
        "new_classes": {},
    }
    return Comparison(**{**usual, **parts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "promoted", "reason", "doubted"),
    [
        ({}, True, "better: macro-F1 \\+0.010", ()),
        ({"together": slice_of(0.0)}, False, "not better", ()),
        ({"crawls": {"b": Agreement(100, 0.44)}}, False, "labels of b cannot be trusted", ("b",)),
        ({"crawls": {"b": Agreement(100, 0.9), "c": Agreement(50, 0.0)}}, False, "labels of c", ("c",)),
        ({"crawls": {"b": Agreement(9, 0.0)}}, True, "better", ()),
        ({"crawls": {"b": Agreement(0, None)}, "fresh": slice_of(None)}, True, "better", ()),
        ({"frozen": slice_of(-0.011)}, False, "worse on the frozen test set", ("b",)),
        ({"frozen": slice_of(-0.009)}, True, "better", ()),
        ({"frozen": slice_of(-0.009, 5, 30, 1e-4)}, False, "surely worse on the frozen", ("b",)),
        ({"frozen": slice_of(0.009, 30, 5, 1e-4)}, True, "better", ()),
        ({"fresh": slice_of(-0.05)}, True, "better", ()),
        ({"fresh": slice_of(-0.05, 1, 12, 0.003)}, False, "surely worse on the fresh", ("b",)),
        ({"together": slice_of(0.0), "new_classes": {"zoo": NewClass(8, 0.5)}}, True, "recognizes zoo", ()),
        ({"together": slice_of(0.0), "new_classes": {"zoo": NewClass(8, 0.4)}}, False, "not better", ()),
        ({"frozen": slice_of(-0.2), "new_classes": {"zoo": NewClass(8, 1.0)}}, False, "worse on the frozen", ("b",)),
        ({"frozen": slice_of(None), "fresh": slice_of(None), "together": slice_of(None)}, False, "no test video", ()),
    ],
)
def test_the_rule(parts: dict[str, object], promoted: bool, reason: str, doubted: tuple[str, ...]) -> None:
    verdict = promotion_verdict(found(**parts), RULE)
    assert verdict.promoted == promoted
    assert verdict.doubted == doubted
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError("; ".join(verdict.reasons))


@pytest.mark.parametrize(
    ("together", "reason"),
    [
        (
            slice_of(0.01, 2, 0, 0.5),
            "no significant difference (2 to 0 videos, p = 0.5); promoted because the rule only requires no loss",
        ),
        (slice_of(0.01, 30, 5, 2.2e-5), "surely worse on neither slice; significant difference (30 to 5 videos, p ="),
        (slice_of(0.01, 0, 0, None), "no significant difference (both are right on the same videos)"),
    ],
)
def test_a_promotion_says_what_is_known(together: Slice, reason: str) -> None:
    verdict = promotion_verdict(found(together=together), RULE)
    assert verdict.promoted
    assert reason in "; ".join(verdict.reasons)
    assert ("only requires no loss" in "; ".join(verdict.reasons)) == reason.startswith("no ")


@pytest.mark.parametrize(
    ("wins", "losses", "min_confidence", "promoted"),
    [
        (2, 0, 0.0, True), (2, 0, 0.5, True), (2, 0, 0.51, False), (6, 0, 0.95, True), (5, 0, 0.95, False),
        (0, 6, 0.9, False), (0, 0, 0.01, False),
    ],
)  # fmt: skip
def test_evidence_can_be_asked_for(wins: int, losses: int, min_confidence: float, promoted: bool) -> None:
    """The p-values are those of fair coins: 2 heads of 2 have p = 0.5, 5 of 5 0.0625, 6 of 6 0.03125."""
    p_value = min(1.0, 2 * 0.5 ** (wins + losses))
    rule = replace(RULE, min_confidence=min_confidence)
    verdict = promotion_verdict(found(together=slice_of(0.01, wins, losses, p_value)), rule)
    assert verdict.promoted == promoted
    assert verdict.doubted == ()
    assert ("promotion.min_confidence = " in verdict.reasons[0]) == (not promoted)


def test_evidence_is_not_asked_of_new_classes() -> None:
    """The champion cannot be right on them."""
    rule = replace(RULE, min_confidence=0.99)
    assert promotion_verdict(found(new_classes={"zoo": NewClass(8, 0.9)}), rule).promoted


def test_labels_that_are_not_trusted_neither_help_nor_hurt_on_the_fresh_slice() -> None:
    doubtful = found(crawls={"b": Agreement(100, 0.0)}, fresh=slice_of(-0.5, 1, 40, 1e-9))
    verdict = promotion_verdict(doubtful, RULE)
    assert [reason for reason in verdict.reasons if "fresh" in reason] == []


@given(
    st.floats(-0.1, 0.1),
    st.floats(-0.1, 0.1),
    st.floats(-0.1, 0.1),
    st.floats(0, 1),
    st.floats(0, 0.05),
    st.floats(0, 1),
)
def test_whatever_is_promoted_is_not_worse_and_somewhere_better(
    frozen: float, fresh: float, together: float, kappa: float, min_gain: float, p_value: float
) -> None:
    rule = replace(RULE, min_gain=min_gain)
    seen = found(
        frozen=slice_of(frozen, 2, 9, p_value),
        fresh=slice_of(fresh),
        together=slice_of(together),
        crawls={"b": Agreement(50, kappa)},
    )
    expected = kappa >= 0.45 and frozen >= -0.01 and p_value >= 0.05 and together > min_gain
    assert promotion_verdict(seen, rule).promoted == expected
