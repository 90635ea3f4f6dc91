"""The stopwatch, against a clock that is moved by hand."""

from collections.abc import Iterator

import pytest

from nmcl.pipeline import stopwatch
from nmcl.pipeline.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])
    return now


def test_waiting_is_counted_and_using_is_not(clock: list[float]) -> None:
    def slow() -> Iterator[int]:
        for i in range(3):
            clock[0] += 2
            yield i
        clock[0] += 1

    watch = Stopwatch()
    for i in watch.each("waiting", slow()):
        with watch.on("using"):
            clock[0] += 10 * i
    assert watch.seconds == {"waiting": 7, "using": 30}


def test_a_block_that_raises_is_counted(clock: list[float]) -> None:
    def failing() -> Iterator[int]:
        clock[0] += 5
        raise KeyError
        yield

    watch = Stopwatch()
    with pytest.raises(KeyError):
        next(watch.each("work", failing()))
    assert watch.seconds == {"work": 5}
