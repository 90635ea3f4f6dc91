"""Comparison of champion and challenger on the same videos, and the rule that decides about promotion.

**Which labels are trusted.** The champion's own test videos were labelled before the new crawl, no model was trained on
them, and the champion was chosen under these labels. They are trusted: a challenger that is worse on them is rejected,
whatever its other results. Videos whose label has changed since are left out, as it is unknown which of the two is
right. A new crawl's labels have no such record, and the challenger's training and validation videos contain them too: a
challenger that fitted a systematic labelling mistake wins on test videos with the same mistake. So the fresh slice can
confirm a challenger, but never outweigh the frozen test set. It also counts only if its labels agree far better than
random with the champion, which was not trained on them (Cohen's kappa), relative to the champion's kappa on trusted
labels. Otherwise the labels are wrong or the places look new; this needs a person, a score cannot decide it.

**The rule.** The challenger is promoted if

1. labels: on every new crawl with at least `judged_rows` labelled videos, the champion's kappa is at least
   `min_agreement` of its kappa on its own test videos;
2. not worse on the frozen test set: its macro-F1 is at most `max_loss` below the champion's, and McNemar's exact test
   does not find (p < `alpha`) that the champion is right more often;
3. not worse on the fresh slice: McNemar's test does not find it there either;
4. better: on the videos of both slices together its macro-F1 is more than `min_gain` above the champion's, or it
   recognises a class that the champion does not know, with a recall of at least `min_recall` on that class's test
   videos. With `min_confidence`, the gain also needs evidence: the challenger is right more often on these videos, and
   1 - p of McNemar's test is at least that.

With few test videos, 4 alone would choose randomly between equal models; 2 makes that choice harmless. The reasons of
a verdict say whether the difference is significant. Raise `min_gain` or `min_confidence` for a stricter rule. Scores
are those of videos of the classes that both models know, and each decides among those.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval

from nmcl.model.evaluate import f1, macro_f1
from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.storage.run_files import Agreement, Comparison, Slice, Verdict


@dataclass(frozen=True)
class PromotionSettings:
    """Frozen thresholds of the promotion rule; see the module docstring."""

    max_loss: Annotated[float, Interval(ge=0, le=1), Reference(0.01)] = 0.01
    """Largest accepted loss of macro-F1 on the champion's test videos."""
    min_gain: Annotated[float, Interval(ge=0, le=1), Reference(0.0)] = 0.0
    """Gain of macro-F1 on both test sets together that must be exceeded."""
    alpha: Annotated[float, Interval(ge=0, le=1), Reference(0.05)] = 0.05
    """Significance level of McNemar's test."""
    min_agreement: Annotated[float, Interval(ge=0, le=1), Reference(0.5)] = 0.5
    """Smallest ratio of kappa on a new crawl to kappa on the champion's test videos; 0 trusts any labels."""
    judged_rows: Annotated[int, Ge(1), Reference(10)] = 10
    """Smallest number of labelled videos for which a crawl is judged; smaller crawls are trusted, as their effect is
    small."""
    min_recall: Annotated[float, Interval(ge=0, le=1), Reference(0.5)] = 0.5
    """Smallest recall of a class that only the challenger knows."""
    min_confidence: Annotated[float, Interval(ge=0, lt=1), Reference(0.0)] = 0.0
    """Evidence that a gain of macro-F1 needs: the smallest 1 - p of McNemar's test in favour of the challenger on both
    test sets together, such as 0.95; 0 asks for none."""


def compare(label: np.ndarray, champion: np.ndarray, challenger: np.ndarray) -> Slice:
    """Compare the predictions of both models with the labels; all are class indices of shape (N,)."""
    if len(label) == 0:
        return Slice(0, {}, {}, None, None, 0, 0, None)
    from nmcl.model.statistics import bootstrap, mcnemar_test

    right, right_too = challenger == label, champion == label
    names = ("micro_f1", "macro_f1")
    scores = [dict(zip(names, f1(label, decided), strict=True)) for decided in (champion, challenger)]
    return Slice(
        n_rows=len(label),
        champion=scores[0],
        challenger=scores[1],
        gain=scores[1]["macro_f1"] - scores[0]["macro_f1"],
        interval=bootstrap(macro_f1, label, challenger, champion),
        wins=int((right & ~right_too).sum()),
        losses=int((right_too & ~right).sum()),
        p_value=mcnemar_test(right, right_too),
    )


def agreement(label: np.ndarray, decided: np.ndarray) -> Agreement:
    """Return Cohen's kappa of labels and the champion's predictions, both class indices of shape (N,).

    With a single label kappa is 0 for any predictions but perfect ones, where it is 0 / 0: the share of equal
    predictions is used instead.
    """
    if len(label) == 0:
        return Agreement(0, None)
    if (label == label[0]).all():
        return Agreement(len(label), float(np.mean(decided == label)))
    from sklearn.metrics import cohen_kappa_score

    return Agreement(len(label), float(cohen_kappa_score(label, decided)))


def promotion_verdict(found: Comparison, settings: PromotionSettings) -> Verdict:
    """Apply the promotion rule to a comparison."""
    doubted = {name: reason for name, a in found.crawls.items() if (reason := _mistrust(name, a, found, settings))}
    worse = [*_worse("frozen test set", found.frozen, settings, settings.max_loss)]
    worse += _worse("fresh slice", found.fresh, settings, None) if not doubted else []
    if doubted or worse:
        names = tuple(doubted) if doubted else tuple(found.crawls)
        return Verdict(False, (*doubted.values(), *worse), names)
    better = [*_better(found, settings)]
    if better:
        return Verdict(True, tuple(better), ())
    gain = found.together.gain
    if gain is not None and gain > settings.min_gain:
        return Verdict(False, (_unproven(found.together, settings),), ())
    found_gain = "there is no test video to compare on" if gain is None else f"macro-F1 {gain:+.3f} on all test videos"
    return Verdict(False, (f"not better: {found_gain}, expected more than {settings.min_gain:+.3f}",), ())


def _mistrust(name: str, seen: Agreement, found: Comparison, settings: PromotionSettings) -> str | None:
    if seen.kappa is None or found.trusted.kappa is None or seen.n_rows < settings.judged_rows:
        return None
    least = settings.min_agreement * found.trusted.kappa
    if seen.kappa >= least:
        return None
    return (
        f"the labels of {name} cannot be trusted: the champion agrees with them with kappa {seen.kappa:.2f}, "
        f"with those of its own test videos with {found.trusted.kappa:.2f}; expected at least {least:.2f}"
    )


def _worse(where: str, seen: Slice, settings: PromotionSettings, max_loss: float | None) -> list[str]:
    if seen.gain is None or seen.p_value is None:
        return []
    found = []
    if max_loss is not None and seen.gain < -max_loss:
        found.append(f"worse on the {where}: macro-F1 {seen.gain:+.3f}, expected at least {-max_loss:+.3f}")
    if seen.losses > seen.wins and seen.p_value < settings.alpha:
        found.append(f"surely worse on the {where}: {seen.losses} losses, {seen.wins} wins, p = {seen.p_value:.2g}")
    return found


def _better(found: Comparison, settings: PromotionSettings) -> list[str]:
    together, gain = found.together, found.together.gain
    reasons = []
    if gain is not None and gain > settings.min_gain and _is_proven(together, settings):
        n = f"{together.n_rows:,}"
        reasons.append(f"better: macro-F1 {gain:+.3f} on {n} test videos, and surely worse on neither slice")
        reasons.append(_evidence(together, settings.alpha))
        if settings.min_confidence == 0 and not _is_significant(together, settings.alpha):
            reasons.append("promoted because the rule only requires no loss")
    for name, new in found.new_classes.items():
        if new.recall is not None and new.recall >= settings.min_recall:
            reasons.append(f"recognizes {name}, a new venue: {new.recall:.0%} of its {new.n_rows:,} test videos")
    return reasons


def _is_proven(seen: Slice, settings: PromotionSettings) -> bool:
    if settings.min_confidence == 0:
        return True
    return seen.wins > seen.losses and seen.p_value is not None and 1 - seen.p_value >= settings.min_confidence


def _unproven(seen: Slice, settings: PromotionSettings) -> str:
    return (
        f"better by macro-F1 {seen.gain:+.3f}, but without the evidence that promotion.min_confidence = "
        f"{settings.min_confidence:g} asks for: {_evidence(seen, settings.alpha)}"
    )


def _is_significant(seen: Slice, alpha: float) -> bool:
    return seen.p_value is not None and seen.p_value < alpha


def _evidence(seen: Slice, alpha: float) -> str:
    """Return a phrase about McNemar's test: wins of the challenger to wins of the champion, and p."""
    if not seen.wins + seen.losses:
        return "no significant difference (both are right on the same videos)"
    p_value = "" if seen.p_value is None else f", p = {seen.p_value:.2g}"
    name = "significant" if _is_significant(seen, alpha) else "no significant"
    return f"{name} difference ({seen.wins:,} to {seen.losses:,} videos{p_value})"
