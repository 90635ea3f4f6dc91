"""The position among the stages, and the estimate of the remaining time against a clock that the test moves."""

import time

import pytest

from nmcl.flows.run.stage_progress import SHARES, StageProgress
from nmcl.flows.run.stages import STAGES

Call = tuple[str, int, int, str]


class Shown:
    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        self.calls.append((stage, done, total, note))

    def of(self, stage: str) -> list[tuple[int, int]]:
        return [(done, total) for name, done, total, _ in self.calls if name == stage]


def test_every_stage_has_a_share() -> None:
    assert list(SHARES) == ["ingest", *STAGES]
    assert sum(SHARES.values()) == 100


def test_a_stage_counts_its_steps_and_ends() -> None:
    shown = Shown()
    with StageProgress().of(shown, "fit", [1.0] * 4) as progress:
        for step in ("read for acoustic", "fit acoustic", "read for textual", "fit textual"):
            progress(step, 1, 2)
            progress(step, 2, 2)
    done = [done for done, total in shown.of("stage 2 of 6: fit") if total == 100]
    assert done == [0, 12, 25, 38, 50, 62, 75, 88, 99, 100]
    assert shown.of("fit acoustic") == [(1, 2), (2, 2)]


def test_long_steps_count_for_more() -> None:
    shown = Shown()
    with StageProgress().of(shown, "fit", [1.0, 8.0, 1.0]) as progress:
        for step in ("read", "fit acoustic", "fit textual", "one more"):
            progress(step, 1, 1)
    done = [done for done, total in shown.of("stage 2 of 6: fit") if total == 100]
    assert done == [0, 10, 90, 99, 99, 100]


def test_a_stage_never_goes_back_and_ends_when_its_steps_do_not() -> None:
    shown = Shown()
    with StageProgress().of(shown, "evaluate", [1.0, 1.0]) as progress:
        for done in (5, 10, 1, 7, 2):  # three trainings under one name, of which two end early
            progress("train", done, 10)
    done = [done for done, _ in shown.of("stage 6 of 6: evaluate")]
    assert done == sorted(done)
    assert done[-1] == 100
    assert shown.of("train")[-1] == (2, 2)


def test_the_estimate_follows_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown, stages = Shown(), StageProgress()
    with stages.of(shown, "ingest"):
        pass
    with stages.of(shown, "fit") as progress:
        now[0] += 270
        progress("fit acoustic", 1, 1)
    with stages.of(shown, "extract") as progress:
        now[0] += 200
        progress("extract", 1, 2)
    notes = [note for *_, note in shown.calls]
    assert notes[0] == "(run: 0 %)"
    assert "(run: 25 %, about 14 min left)" in notes  # 270 s for 25 %, so 810 s for the rest
    assert "(run: 43 %, about 10 min left)" in notes  # 470 s for 43 %


def test_a_slow_start_is_not_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown = Shown()
    with StageProgress().of(shown, "fit") as progress:
        progress("fit acoustic", 0, 100)
        now[0] += 60  # imports, and the first of a hundred files
        progress("fit acoustic", 1, 100)
        assert not any("left" in note for *_, note in shown.calls)
