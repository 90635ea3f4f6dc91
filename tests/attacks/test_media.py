"""A crawl full of files that want to read others, call somebody, run something or fill the memory."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.attacks.media import fill
from tests.attacks.watching import Traced, Trap, traced
from tests.faults.world import SETTINGS
from tests.forms import LONG, in_both_forms

pytestmark = in_both_forms
CONTROLS = [*range(9), *range(11, 32), 127, *range(128, 160)]
STEPS = (
    [["ingest", "CRAWL", "--out", "STORE", "SETS"], ["complete", "--out", "STORE"]]
    if not LONG
    else [
        ["run", "CRAWL", "--out", "STORE", "SETS"],
        ["predict", "CRAWL", "--model", "STORE", "--out", "VENUES"],
        ["reproduce", "--store", "STORE", "--out", "STUDY", "--methods", "logistic,majority", "--seeds", "1",
         "--skip", "modalities,completion,absence"],
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Attacked:
    """What became of it."""

    folder: Path
    names: dict[str, list[str]]
    commands: list[Traced]

    def rows(self, kind: str) -> dict[str, dict[str, Any]]:
        """All rows of artifacts such as `features/visual`, by video."""
        parts = [p for f in (self.folder / "out").glob(f"{kind}-*") if f.is_dir() for p in f.glob("part-*.parquet")]
        return {str(row["video_id"]): row for part in parts for row in pq.read_table(part).to_pylist()}


@pytest.fixture(scope="module")
def attacked(caught: Trap, tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    folder = tmp_path_factory.mktemp("attacked")
    names = fill(folder / "crawl", caught)
    with (folder / "crawl" / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "path", "description", "venue"])
        listed = sorted(
            path.name
            for path in (folder / "crawl").iterdir()
            if path.suffix in (".mp4", ".mov", ".avi", ".mkv", ".webm", ".wmv")
        )
        for i, name in enumerate(listed):
            writer.writerow([name, name, "snow ski ice lift", ("Beach", "Slope")[i % 2]])
    sets = [f"--set={assignment}" for assignment in [*SETTINGS, "split.min_venue_videos=4", "media.timeout_s=20"]]
    places = {
        "CRAWL": [str(folder / "crawl")],
        "STORE": [str(folder / "out")],
        "VENUES": [str(folder / "venues.csv")],
        "STUDY": [str(folder / "study")],
        "SETS": [*sets, "--set=ingest.max_rejected_share=1", "--set=media.max_failed_share=1"],
    }
    (folder / "home").mkdir()
    steps = [[part for word in words for part in places.get(word, [word])] for words in STEPS]
    return Attacked(folder, names, [traced(step, folder / "home") for step in steps])


def test_commands_end_well(attacked: Attacked) -> None:
    for command in attacked.commands:
        assert command.code == 0, command.said
        assert "Traceback" not in command.said


def test_nothing_outside_is_read_or_called_or_run(attacked: Attacked, caught: Trap) -> None:
    caught.check(attacked.folder / "out", *attacked.folder.glob("venues*"), *attacked.folder.glob("study"))
    for command in attacked.commands:
        assert caught.folder.name not in {Path(path).parent.name for path in command.opened}
        assert not {"/etc/issue", "/dev/zero", "/proc/self/mem"} & {*command.opened}
        assert not [call for call in command.called if f"htons({caught.port})" in call]
        if not LONG:
            assert command.called == []
        programs = {Path(program).name.split("-")[0].rstrip(".0123456789") for program in command.executed}
        # Python's `platform` runs `file` on the interpreter, where that is installed; reports name the clone's commit.
        assert programs <= {"nmcl", "python", "ffmpeg", "env", "uname", "ldconfig", "gcc", "sh", "file", "git"}
        assert not [program for program in command.executed if str(attacked.folder) in program]


def test_what_is_no_video_has_no_vector(attacked: Attacked) -> None:
    vectors = {modality: attacked.rows(f"features/{modality}") for modality in ("visual", "acoustic")}
    for kind in ("playlist", "script", "reference"):
        for name in attacked.names[kind]:
            for modality, rows in vectors.items():
                own = [None, rows["good-0.mp4"]["vector"]] if kind == "reference" else [None]  # its own media are that
                assert rows[name]["vector"] in own, (modality, name)


def test_good_videos_beside_them_are_read(attacked: Attacked) -> None:
    rows = attacked.rows("features/visual")
    for name in (*attacked.names["good"], "hard-link.mp4", "attachment.mkv"):
        assert rows[name]["vector"] is not None, name


def test_the_terminal_is_left_alone(attacked: Attacked) -> None:
    for command in attacked.commands:
        assert not [character for character in CONTROLS if chr(character) in command.said]
