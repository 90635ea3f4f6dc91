"""Temporary folders: gone with their command, and those of killed ones with the next."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nmcl.pipeline import scratch as module
from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.scratch import scratch, sweep

HOLDER = (
    "import sys, time\nfrom pathlib import Path\nfrom nmcl.pipeline.scratch import scratch\n"
    "with scratch('videos', Path(sys.argv[1])) as folder:\n"
    "    (folder / 'a').write_text('a')\n    print(folder, flush=True)\n    time.sleep(600)\n"
)


def holder(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that works in a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(parent)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_gone_after_the_block(tmp_path: Path) -> None:
    with scratch("videos", tmp_path) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("a")
        assert folder.parent == tmp_path
    with pytest.raises(KeyError), scratch("videos", tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_living_process_keeps_its_folder_and_a_killed_one_does_not(tmp_path: Path) -> None:
    process, folder = holder(tmp_path)
    try:
        sweep(tmp_path)
        assert (folder / "a").exists()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        sweep(tmp_path)
        assert not folder.exists()
    finally:
        process.kill()
        process.communicate()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / ".owner").write_text("")
    parent = tmp_path / "tmp"
    parent.mkdir()
    (parent / "nmcl-file").write_text("a")
    (parent / "nmcl-link").symlink_to(outside)
    (parent / "other").mkdir()
    (parent / "nmcl-new").mkdir()  # perhaps of an earlier version at work
    sweep(parent)
    assert sorted(path.name for path in parent.iterdir()) == ["nmcl-file", "nmcl-link", "nmcl-new", "other"]
    assert (outside / ".owner").exists()


def test_old_folders_of_earlier_versions_are_swept(tmp_path: Path) -> None:
    old = tmp_path / "nmcl-videos-abc"
    old.mkdir()
    long_ago = time.time() - 10 * 86_400
    os.utime(old, (long_ago, long_ago))
    sweep(tmp_path)
    assert not old.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_folders_of_other_users_stay(tmp_path: Path) -> None:
    theirs = tmp_path / "nmcl-videos-abc"
    theirs.mkdir()
    (theirs / ".owner").write_text("")
    os.chown(theirs, 12_345, 12_345)
    sweep(tmp_path)
    assert theirs.exists()


def test_no_room_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"A temporary folder in .* cannot be made"),
        scratch("videos", tmp_path / "no"),
    ):
        pass
    assert module.PREFIX == "nmcl-"


def test_a_folder_that_is_just_being_made_stays(tmp_path: Path) -> None:
    new = tmp_path / ".nmcl-new-a"
    new.mkdir()
    (new / ".owner").write_text("")  # made, and not locked yet
    sweep(tmp_path)
    assert new.exists()
    os.utime(new, (time.time() - 100_000,) * 2)
    sweep(tmp_path)
    assert not new.exists()
