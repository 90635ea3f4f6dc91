"""Commands that are asked to end: by Ctrl-C, a shutdown, a closed terminal. They do, and leave no process behind."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.faults.processes import Watched
from tests.faults.stores import differences
from tests.faults.test_kills import FIRST_LINE, left_in
from tests.faults.world import World
from tests.forms import LONG, in_both_forms

pytestmark = in_both_forms
SHORT_FORM = [(signal.SIGTERM, "extract"), (signal.SIGINT, "train")]
LONG_FORM = [
    (number, stage)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for stage in ("ingest", "fit", "extract", "complete", "train", "evaluate", "retrain", "predict")
]


@pytest.mark.parametrize(("number", "stage"), LONG_FORM if LONG else SHORT_FORM)
def test_it_ends_at_once_and_goes_on_when_called_again(
    number: signal.Signals, stage: str, world: World, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    folder, command = world.before(stage, tmp_path / "job"), world.command(stage)
    watched = Watched(command.at(folder), folder, world.folder)
    sent = watched.kill_when("main", lambda: watched.has_said(FIRST_LINE[stage]), number)
    code = watched.end()
    assert sent, watched.said
    record_property("fault", f"{number.name}: {stage}")
    assert "Traceback" not in watched.said
    assert code in (130, -number, 128 + number), watched.said
    again = Watched(command.at(folder), folder, world.folder)
    assert again.end() == 0, again.said
    assert differences(folder, world.after(stage)) == []
    assert left_in(tmp_path / "home" / "tmp") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL] if LONG else [signal.SIGTERM])
def test_a_study_leaves_no_process_computing(number: signal.Signals, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    label = np.arange(400) % 4
    modalities = {name: random.normal(label[:, None], 3, (400, 40)) for name in ("visual", "acoustic")}
    np.savez(tmp_path / "features.npz", label=label, **modalities)  # type: ignore[arg-type]
    folder = tmp_path / "job"
    folder.mkdir()
    words = ["reproduce", "--features", str(tmp_path / "features.npz"), "--out", str(folder / "study"), "--jobs", "2"]
    watched = Watched(words, folder, tmp_path)
    began = time.monotonic()
    sent = watched.kill_when("main", lambda: len(watched.family) > 2 and time.monotonic() > began + 12, number)
    assert watched.end() != 0, watched.said
    assert sent
