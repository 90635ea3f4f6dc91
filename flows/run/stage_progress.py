"""Progress of a whole run: which of its stages is at work, and how long all of them may take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from nmcl.pipeline.progress import Progress, finishing

SHARES = {"ingest": 2, "fit": 25, "extract": 40, "complete": 10, "train": 18, "evaluate": 5}
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
    def of(self, progress: Progress, stage: str, n_steps: int = 1) -> Iterator[Progress]:
        """Yield the progress callback for the work of one stage; all its steps are shown as finished at its end.

        Args:
            stage: One of SHARES.
            n_steps: About how many steps the stage reports, one after the other.
        """
        names = list(SHARES)
        title = f"stage {names.index(stage) + 1} of {len(names)}: {stage}"
        before = sum(SHARES[name] for name in names[: names.index(stage)])
        current, share, n_done, shown = "", 0.0, 0, 0.0

        def show(done: float) -> None:
            progress(title, round(100 * done), 100, self._estimate(before + SHARES[stage] * done))

        with finishing(progress) as tracked:

            def of_step(stage: str, done: int, total: int, note: str = "") -> None:
                nonlocal current, share, n_done, shown
                tracked(stage, done, total, note)
                now = done / total if total else 1.0
                if current and (stage != current or now < share):
                    n_done += 1
                current, share = stage, now
                shown = max(shown, min(_ALMOST, (n_done + now) / max(n_steps, n_done + 1)))
                show(shown)

            show(0.0)
            yield of_step
        show(1.0)

    def _estimate(self, percentage: float) -> str:
        """Return the percentage of the run, and how long the rest may take once that can be estimated."""
        now, text = time.monotonic(), f"(run: {percentage:.0f} %)"
        first, at_first = self._first = self._first or (now, percentage)
        gained = percentage - at_first
        if percentage >= 100 or gained < ESTIMATED_AFTER_PERCENT or now - first < ESTIMATED_AFTER_S:
            return text
        minutes = (now - first) * (100 - percentage) / gained / 60
        left = f"about {minutes:.0f} min" if minutes >= 1 else "less than a minute"
        return f"(run: {percentage:.0f} %, {left} left)"
