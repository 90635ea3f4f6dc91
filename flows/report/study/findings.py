"""Interpretation of a study's numbers in words: ranking of the methods, and checks of the model's parts."""

from collections.abc import Iterator, Sequence
from typing import Literal

from nmcl.flows.report.numbers import finite
from nmcl.model.study.results import GatePoint, MethodRow, StudyData
from nmcl.pipeline.text import joined

ALPHA = 0.05
"""Significance level, as in the paper."""
ONE_SIDED = 0.95
"""Gates are stuck if a larger share of them is open, or shut."""
COLLAPSED = 0.95
"""A branch has collapsed if its most frequent prediction takes a larger share of the rows."""
SMALL_NORM = 0.01
"""A consistent part below this share of the norm carries no information."""
SMALL_DIVERGENCE = 1e-3
"""Threshold in nats; a proper divergence minimised by constant log-probabilities ends near it."""
PAPER_TOP_SHARE = 0.1139
"""Micro-F1 of the paper's Early Fusion, and so the share of the most frequent venue if it is constant."""
PAPER_VENUES = 188

Standing = Literal["ahead", "behind", "equal", "untested"]


def reference(data: StudyData) -> MethodRow | None:
    """Return the row of the reference method, which all others are compared with."""
    return next((row for row in data.methods if row.name == data.reference), None)


def standing(row: MethodRow, against: MethodRow | None) -> Standing:
    """Compare a method with the reference, by the p-value of macro-F1 and the two means."""
    points, p_value = _points(row, against), finite(row.verdict_p_value)
    if points is None or p_value is None:
        return "untested"
    if p_value >= ALPHA:
        return "equal"
    return "ahead" if points > 0 else "behind"


def standings(data: StudyData) -> dict[Standing, list[str]]:
    """Group all methods except the reference by standing."""
    against = reference(data)
    found: dict[Standing, list[str]] = {"ahead": [], "behind": [], "equal": [], "untested": []}
    for row in data.methods:
        if row.name != data.reference:
            found[standing(row, against)].append(row.name)
    return found


def verdict(row: MethodRow, against: MethodRow | None) -> str:
    """Return `standing` in words, with the difference of macro-F1 in percentage points."""
    points = _points(row, against)
    if points is None or against is None:
        return "not compared"
    if row.name == against.name:
        return "reference"
    found = standing(row, against)
    signed = f"{points:+.2f} points".replace("-", "\N{MINUS SIGN}")
    if found == "untested":
        return f"not testable ({signed})"
    if found == "equal":
        return f"no significant difference ({signed})"
    return f"{found} by {abs(points):.2f} points"


def _points(row: MethodRow, against: MethodRow | None) -> float | None:
    own = finite(row.macro_f1.mean)
    other = finite(against.macro_f1.mean) if against is not None else None
    return None if own is None or other is None else 100 * (own - other)


def constant_macro_f1(share: float, n_venues: int) -> float:
    """Return macro-F1 of always predicting a venue with share p of the rows: its F1 is 2p / (1 + p), others have 0."""
    return 2 * share / (1 + share) / n_venues


def last_gates(points: Sequence[GatePoint]) -> list[GatePoint]:
    """Return the last epoch of each modality and side, in order of first appearance."""
    last: dict[tuple[str, str], GatePoint] = {}
    for point in sorted(points, key=lambda point: point.epoch):
        last[point.modality, point.side] = point
    return [last[key] for key in dict.fromkeys((point.modality, point.side) for point in points)]


def last_collapse(data: StudyData) -> dict[str, float]:
    """Return the share of rows that each branch's most frequent prediction takes after its last epoch."""
    return {name: shares[max(shares)] for name, shares in data.collapse.items() if shares}


def warnings(data: StudyData) -> Iterator[str]:
    """Yield warnings about the parts of the model after the last epoch."""
    gates = last_gates(data.gates)
    yield from _stuck(gates)
    silent = [_place(p) for p in gates if p.consistent_norm is not None and p.consistent_norm < SMALL_NORM]
    if silent:
        yield (
            f"The consistent part has less than {SMALL_NORM:.0%} of the norm in {joined(silent)}: "
            "the model predicts without it."
        )
    close = dict.fromkeys(
        p.modality for p in gates if p.divergence is not None and abs(p.divergence) < SMALL_DIVERGENCE
    )
    if close:
        yield (
            "The auxiliary predictions of host and guest hardly differ "
            f"(below {SMALL_DIVERGENCE} nats) in {joined(list(close))}. "
            "Predictions that are identical for every row look like this: they agree, but carry no information."
        )
    for branch, share in last_collapse(data).items():
        if share > COLLAPSED:
            yield f"The branch {branch} has collapsed: it predicts the same venue for {share:.1%} of the rows."


def _stuck(gates: Sequence[GatePoint]) -> Iterator[str]:
    for word, meaning in (("open", "consistent"), ("shut", "complementary")):
        places = [_place(point) for point in gates if getattr(point, word) > ONE_SIDED]
        if places:
            extent = "All gates are on one side. " if len(places) == len(gates) else ""
            yield (
                f"{extent}More than {ONE_SIDED:.0%} of the gates are {word} in {joined(places)}: nearly every "
                f"feature is treated as {meaning}, so nothing is separated there."
            )


def _place(point: GatePoint) -> str:
    return f"{point.modality} ({point.side})"
