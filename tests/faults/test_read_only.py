"""A store that cannot be written to: commands that only read go on, the others say so."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stores import contents
from tests.faults.world import NMCL, World, environment, files_of
from tests.forms import LONG, in_both_forms

pytestmark = in_both_forms

READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@pytest.fixture
def locked_out(world: World, tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A finished store that nobody may write to, and the words before a command for which that holds."""
    folder = shutil.copytree(world.after("evaluate"), tmp_path / "job", symlinks=True)
    if os.geteuid():
        for path in [folder, *folder.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)
        yield folder, []
        for path in [folder, *folder.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o200)
        return
    apart = ["unshare", "--mount", "sh", "-c", READ_ONLY, str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("root may not mount here, and may write to everything else")
    yield folder, apart


SHORT_FORM: list[tuple[list[str], int]] = [
    (["runs", "--out", "STORE"], 0),
    (["extract", "--out", "STORE", "--set", "features.visual.key_frames=3"], 2),
]
LONG_FORM: list[tuple[list[str], int]] = [
    *SHORT_FORM,
    (["errors", "--out", "STORE"], 0),
    (["verify", "--out", "STORE"], 0),
    (["status", "--out", "STORE"], 0),
    (["du", "--out", "STORE"], 0),
    (["gc", "--out", "STORE", "--dry-run"], 0),
    (["gc", "--out", "STORE"], 2),
    (["evaluate", "--out", "STORE"], 2),
    (["ingest", "CRAWL", "--out", "STORE"], 2),
    (["retry", "--out", "STORE"], 2),
    (["promote", "latest", "--out", "STORE"], 2),
    (["rollback", "--out", "STORE"], 2),
]


@pytest.mark.parametrize(("words", "code"), LONG_FORM if LONG else SHORT_FORM)
def test_a_sentence_instead_of_a_trace(
    words: list[str], code: int, locked_out: tuple[Path, list[str]], world: World, tmp_path: Path
) -> None:
    folder, apart = locked_out
    before = contents(folder)
    places = {"STORE": str(folder / "out"), "CRAWL": str(world.crawl)}
    typed = [*apart, NMCL, *(places.get(word, word) for word in words)]
    done = subprocess.run(typed, env=environment(tmp_path / "home"), capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code:
        assert str(folder) in done.stderr
        assert "ead-only" in done.stderr or "ermission" in done.stderr
    assert contents(folder) == before
    assert [*files_of(folder / "out" / ".tmp")] == []


def test_predictions_from_what_is_there(locked_out: tuple[Path, list[str]], world: World, tmp_path: Path) -> None:
    """A store that holds all that is needed need not be written to."""
    folder, apart = locked_out
    if not apart:
        pytest.skip("the store cannot be made writable for the first prediction")
    tables = []
    for before in ([], apart):
        out = tmp_path / f"{len(before)}.csv"
        typed = [*before, NMCL, "predict", str(world.crawl), "--model", str(folder / "out"), "--out", str(out)]
        done = subprocess.run(typed, env=environment(tmp_path / "home"), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        tables.append(out.read_bytes())
    assert tables[0] == tables[1]
