"""Progress of a whole run: which of its stages is at work, and how long all of them may take."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nmcl.pipeline.progress import Progress, finishing

SHARES = {"ingest": 1, "fit": 24, "extract": 36, "complete": 6, "train": 26, "evaluate": 7}
"""Percentage of the time of a run that each stage takes, roughly, on some hundred clips. For the estimate only."""
ESTIMATED_AFTER_S, ESTIMATED_AFTER_PERCENT = 5.0, 5.0
"""Work of a run before its first estimate: the shares above are rough, and a stage starts slowly."""
_ALMOST = 0.99
"""Only the end of a stage is shown as 100 %."""


class StageProgress:
    """Shows `stage 3 of 6` with an estimate of the time that all remaining stages take."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        """Time and percentage of the run at the first call."""

    @contextmanager
    def of(self, progress: Progress, stage: str, steps: Sequence[float] = (1.0,)) -> Iterator[Progress]:
        """Yield the progress callback for the work of one stage; all its steps are shown as finished at its end.

        Args:
            stage: One of SHARES.
            steps: About how long each step takes that the stage reports, one after the other, in any unit. More
                steps may follow.
        """
        names = list(SHARES)
        title = f"stage {names.index(stage) + 1} of {len(names)}: {stage}"
        before = sum(SHARES[name] for name in names[: names.index(stage)])
        left, passed = [*steps], 0.0
        current, share, shown = "", 0.0, 0.0

        def show(done: float) -> None:
            progress(title, round(100 * done), 100, self._estimate(before + SHARES[stage] * done))

        with finishing(progress) as tracked:

            def of_step(stage: str, done: int, total: int, note: str = "") -> None:
                nonlocal current, share, passed, left, shown
                tracked(stage, done, total, note)
                now = done / total if total else 1.0
                if current and (stage != current or now < share):
                    passed += left.pop(0)
                    left = left or [passed / len(steps)]
                current, share = stage, now
                shown = max(shown, min(_ALMOST, (passed + now * left[0]) / (passed + sum(left))))
                show(shown)

            show(0.0)
            yield of_step
        show(1.0)

    def _estimate(self, percentage: float) -> str:
        """Return the percentage of the run, and how long the rest may take once that can be estimated."""
        now, text = time.monotonic(), f"(run: {int(percentage)} %)"
        first, at_first = self._first = self._first or (now, percentage)
        gained = percentage - at_first
        if percentage >= 100 or gained < ESTIMATED_AFTER_PERCENT or now - first < ESTIMATED_AFTER_S:
            return text
        minutes = (now - first) * (100 - percentage) / gained / 60
        left = f"about {minutes:.0f} min" if minutes >= 1 else "less than a minute"
        return f"(run: {int(percentage)} %, {left} left)"
