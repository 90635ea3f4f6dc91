"""Every kind of process is killed in every stage; the same command then leaves what an undisturbed one leaves.

The victim is a real process, killed by SIGKILL when the store or the command's own lines show that it is at work.
"""

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.faults.processes import Kind, Watched
from tests.faults.stores import differences
from tests.faults.world import STAGES, Command, World, files_of
from tests.forms import LONG, in_both_forms

pytestmark = in_both_forms
ENGINE = ("--engine", "processes", "--workers", "2")
SURVIVED: tuple[Kind, ...] = ("decoder", "idle decoder", "new decoder", "ffmpeg", "engine worker")
"""Processes without which a command goes on."""
DECODING = ("fit", "extract", "retrain", "predict")


@dataclass(frozen=True)
class Kill:
    """Which process is killed, and when."""

    kind: Kind
    stage: str
    after: float = 0.0
    """Share of the stage's files that are written by then; for a kill `at_random`, the share of its time."""
    at_random: bool = False

    def __str__(self) -> str:
        return f"{self.kind} in {self.stage} at {self.after:.0%} of its {'time' if self.at_random else 'files'}"


SHORT_FORM = [
    Kill("main", "extract", 0.5),
    Kill("decoder", "extract", 0.2),
    Kill("idle decoder", "extract", 0.2),
    Kill("new decoder", "fit"),
    Kill("ffmpeg", "extract"),
    Kill("server", "evaluate", 0.1),
]


def long_form() -> list[Kill]:
    """Every kind in every stage that has it, at several moments, and the main process at random ones besides."""
    seeded = random.Random(21)
    kills = [Kill("main", stage, after) for stage in STAGES for after in (0.0, 0.3, 0.6, 0.9)]
    kills += [Kill("main", stage, seeded.random(), at_random=True) for stage in (*STAGES, "run", "run")]
    for stage in DECODING:
        moments = (0.0,) if stage == "fit" else (0.0, 0.5)
        kills += [Kill("decoder", stage, after) for after in moments]
        kills += [Kill("idle decoder", stage, after) for after in moments]
        kills += [Kill("new decoder", stage), Kill("ffmpeg", stage)]
    for stage in ("extract", "complete", "retrain", "predict"):
        kills += [Kill("engine worker", stage, after) for after in (0.1, 0.5)]
    kills += [Kill("server", stage, 0.1) for stage in STAGES if stage != "predict"]
    kills += [Kill("server", "run", seeded.random(), at_random=True) for _ in range(2)]
    return kills


@pytest.mark.parametrize("kill", long_form() if LONG else SHORT_FORM, ids=lambda kill: str(kill).replace(" ", "-"))
def test_the_same_bytes_after_a_kill(
    kill: Kill, world: World, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    command, expected = _command(kill, world), _expected(kill, world, tmp_path)
    # The time of a stage was measured once. A command that is faster now may end before a share of it is over.
    for share in (kill.after, kill.after / 2, kill.after / 4) if kill.at_random else (kill.after,):
        shutil.rmtree(tmp_path / "job", ignore_errors=True)
        folder = world.before(kill.stage, tmp_path / "job")
        watched = Watched(command.at(folder), folder, world.folder)
        killed = watched.kill_when(kill.kind, _ready(replace(kill, after=share), watched, world, folder, expected))
        code = watched.end()
        if killed:
            break
    assert killed, f"ended with {code} before the moment came: {watched.said}"
    record_property("fault", f"SIGKILL: {kill.kind} in {kill.stage}")
    assert "Traceback" not in watched.said
    if kill.kind in SURVIVED:
        assert code == 0, watched.said
        assert differences(folder, expected) == []
        if not LONG:
            return
    else:
        assert code in ((-9,) if kill.kind == "main" else (0, 2)), watched.said
    again = Watched(command.at(folder), folder, world.folder)
    assert again.end() == 0, again.said
    assert "Traceback" not in again.said
    assert differences(folder, expected) == []
    assert left_in(tmp_path / "home" / "tmp") == []


def left_in(temporary: Path) -> list[str]:
    """What commands left where temporary files go."""
    return sorted(path.name for path in temporary.iterdir() if path.name.startswith("nmcl"))


def _command(kill: Kill, world: World) -> Command:
    """The stage's own; a server is there only in flows, which do one stage where all before it are done."""
    if kill.kind == "server" and kill.stage in STAGES[:6]:
        return world.command("run")
    words = world.command(kill.stage).words
    return Command(words + ENGINE if kill.kind == "engine worker" else words)


def _expected(kill: Kill, world: World, tmp_path: Path) -> Path:
    if kill.kind == "engine worker":  # which engine it was is in the store's settings
        folder = world.before(kill.stage, tmp_path / "undisturbed")
        undisturbed = Watched(_command(kill, world).at(folder), folder, world.folder)
        assert undisturbed.end() == 0, undisturbed.said
        return folder
    return world.after("run" if _command(kill, world) == world.command("run") else kill.stage)


def _ready(kill: Kill, watched: Watched, world: World, folder: Path, expected: Path) -> Callable[[], bool]:
    """Whether the moment has come."""
    if kill.kind == "new decoder":
        return lambda: True
    if kill.at_random:
        wait_s = 0.8 * kill.after * world.seconds["evaluate" if kill.stage == "run" else kill.stage]
        began: list[float] = []

        def late_enough() -> bool:
            if not began and watched.holds(folder / "out" / ".lock"):
                began.append(time.monotonic())
            return bool(began) and time.monotonic() > began[0] + wait_s

        return late_enough
    before = n_files(folder)
    wanted = before + kill.after * (n_files(world.after(kill.stage)) - before)
    if kill.after > 0:
        return lambda: n_files(folder) >= wanted
    return lambda: watched.has_said(FIRST_LINE[kill.stage])


FIRST_LINE = {
    "ingest": "hash files",
    "fit": "read for acoustic",
    "extract": "extract",
    "complete": "complet",
    "train": "train",
    "evaluate": "train",
    "retrain": "extract",
    "predict": "extract",
}
"""How a stage's first line of progress begins."""


def n_files(folder: Path) -> int:
    """Of a store, what is only being written included."""
    return sum(1 for _ in files_of(folder))
