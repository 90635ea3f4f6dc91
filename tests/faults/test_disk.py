"""A disk that is full or fails at the n-th write, for every n: an error without a trace, and nothing is lost by it."""

import errno
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.disks import Disk
from tests.faults.stores import differences, digest_of
from tests.faults.world import WITHOUT_SERVER, World
from tests.forms import LONG, in_both_forms

pytestmark = in_both_forms
SHORT_FORM = ("ingest", "extract")
"""Stages of which one write fails, of each kind of failure."""


@pytest.mark.parametrize("stage", WITHOUT_SERVER if LONG else SHORT_FORM)
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_every_write_may_fail(
    stage: str,
    error: int,
    disk: Disk,
    world_of_two_parts: World,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """A full disk stays full, a broken one fails once."""
    world = world_of_two_parts
    folder, command = world.before(stage, tmp_path / "job"), world.command(stage)
    assert disk.run(command.at(folder), folder) == 0, disk.said
    assert differences(folder, world.after(stage)) == []
    n_calls = disk.calls
    assert n_calls > 5
    every = range(1, n_calls + 1)
    bad: list[tuple[object, ...]] = []
    completed: set[str] = set()
    for n in every if LONG else random.Random(f"{stage} {error}").sample(every, 1):
        shutil.rmtree(folder)
        world.before(stage, folder)
        code = disk.run(command.at(folder), folder, n, error, forever=error == errno.ENOSPC)
        said = disk.said
        record_property("fault", f"{errno.errorcode[error]}: {stage}")
        if code == 0 and differences(folder, world.after(stage)) == []:
            continue  # such as making a folder that is there
        if code != 2 or "Traceback" in said or (error == errno.ENOSPC and str(folder) not in said):
            bad.append((n, code, said))
            continue
        state = digest_of(folder)
        if state in completed:  # the same command has completed the same bytes before
            continue
        again = disk.run(command.at(folder), folder)
        if again or (left := differences(folder, world.after(stage))):
            bad.append((n, again, disk.said, left))
        completed.add(state)
    assert bad == []
