"""Two commands at once on one store: one works, the other says so, and nothing is mixed up."""

from pathlib import Path

import pytest

from tests.faults.processes import Watched
from tests.faults.stores import differences
from tests.faults.world import World
from tests.forms import LONG, in_both_forms

pytestmark = in_both_forms


@pytest.mark.parametrize(
    "stage", ["fit", "extract", "complete", "evaluate", "retrain", "predict"] if LONG else ["extract"]
)
def test_one_works_and_the_other_says_so(stage: str, world: World, tmp_path: Path) -> None:
    folder, command = world.before(stage, tmp_path / "job"), world.command(stage)
    pair = [Watched(command.at(folder), folder, world.folder, name=name) for name in ("one", "other")]
    codes = [one.end() for one in pair]
    said = "".join(one.said for one in pair)
    assert sorted(codes) in ([0, 2], [0, 0]), said  # the second may come when the first is done
    if 2 in codes:
        assert "Another nmcl command" in pair[codes.index(2)].said
    assert "Traceback" not in said
    assert differences(folder, world.after(stage)) == []
