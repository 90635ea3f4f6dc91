"""Files of a store that a disk has spoilt: `nmcl verify` names them, `--repair` and the next command mend them."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.disks import Disk
from tests.faults.stores import differences
from tests.faults.world import World
from tests.forms import LONG, in_both_forms

pytestmark = in_both_forms


def flipped(path: Path) -> None:
    """One bit is another."""
    data = bytearray(path.read_bytes())
    data[random.Random(path.name).randrange(len(data))] ^= 1 << 3
    path.write_bytes(data)


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def swapped(path: Path) -> None:
    """It is another part's."""
    parts = sorted(path.parent.glob(f"*{path.suffix}"))
    other = next(part for part in parts if part.read_bytes() != path.read_bytes())
    shutil.copyfile(other, path)


DAMAGES: list[Callable[[Path], None]] = [flipped, shortened, emptied, swapped]
PARTS = [
    "features/visual-*/part-*.parquet",
    "features/acoustic-*/part-*.parquet",
    "features/textual-*/part-*.parquet",
    "completed/all-*/part-*.parquet",
    "failures/media-*/part-*.parquet",
]


@pytest.mark.parametrize("damage", DAMAGES if LONG else [flipped], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("pattern", PARTS if LONG else PARTS[:1])
def test_a_spoilt_part_is_found_and_made_again(
    pattern: str,
    damage: Callable[[Path], None],
    world: World,
    disk: Disk,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    folder = shutil.copytree(world.after("complete"), tmp_path / "job", symlinks=True)
    out = str(folder / "out")
    assert disk.run(["verify", "--out", out], folder) == 0, disk.said
    path = sorted((folder / "out").glob(pattern))[1]
    damage(path)
    record_property("fault", f"rot: {damage.__name__} part of {path.parent.name.split('-')[0]}")
    assert disk.run(["verify", "--out", out], folder) == 6, disk.said
    assert path.name in disk.said
    assert disk.run(["verify", "--out", out, "--repair"], folder) == 0, disk.said
    assert disk.run(["complete", "--out", out], folder) == 0, disk.said
    assert differences(folder, world.after("complete")) == []
    assert disk.run(["verify", "--out", out], folder) == 0, disk.said


def test_a_source_that_is_another_is_named(world: World, disk: Disk, tmp_path: Path) -> None:
    crawl, out = shutil.copytree(world.unlabelled, tmp_path / "crawl"), str(tmp_path / "out")
    assert disk.run(["ingest", str(crawl), "--out", out], tmp_path) == 0, disk.said
    clip = min(crawl.glob("*.mp4"))
    flipped(clip)
    assert disk.run(["verify", "--out", out], tmp_path) == 6
    assert clip.name in disk.said
