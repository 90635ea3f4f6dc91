"""Texts of a crawl are made like everything else: after a kill or a failed write, the same command completes them."""

import errno
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nmcl.extractors.wordllama import is_installed
from tests.faults.disks import Disk
from tests.faults.processes import Watched
from tests.faults.stores import differences
from tests.faults.world import do_here
from tests.forms import LONG, in_both_forms

pytestmark = [*in_both_forms, pytest.mark.skipif(not is_installed(), reason="wordllama is not installed")]
SETTINGS = [
    *(f"--set=features.{name}.extractor=none" for name in ("visual", "acoustic")),
    *(f"--set=features.{name}.extractor=wordllama" for name in ("textual", "named")),
    "--set=features.textual.text=subtitles",
    "--set=features.named.text=title",
    "--set=ingest.part_size=2",
]
CUE = "00:{:02}:{:02}.000 --> 00:{:02}:{:02}.900\nwave {} of the sea\n\n"


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A crawl `clips` of texts, which nothing decodes, and stores `before` and `after` their extraction."""
    folder = tmp_path_factory.mktemp("texts")
    crawl = folder / "clips"
    crawl.mkdir()
    for i in range(8):
        (crawl / f"{i}.mp4").write_bytes(bytes([i]))
        cues = (CUE.format(s // 60 % 60, s % 60, s // 60 % 60, s % 60, i * s) for s in range(20_000 if i % 2 else 5))
        (crawl / f"{i}.en.vtt").write_text("WEBVTT\n\n" + "".join(cues))
    rows = [f"{i}.mp4,words of {i},title {i}" for i in range(8)]
    (crawl / "manifest.csv").write_text("\n".join(["path,description,title", *rows]))
    out = folder / "before" / "out"
    do_here(["ingest", str(crawl), "--out", str(out), *SETTINGS])
    shutil.copytree(folder / "before", folder / "after", symlinks=True)
    do_here(["extract", "--out", str(folder / "after" / "out")])
    return folder


@pytest.mark.parametrize("n_parts", range(1, 8) if LONG else [2])
def test_the_same_bytes_after_a_kill(
    n_parts: int, texts: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    folder = shutil.copytree(texts / "before", tmp_path / "job", symlinks=True)
    command = ["extract", "--out", str(folder / "out")]
    watched = Watched(command, folder, texts)
    digests = folder / "out" / "metadata" / "texts"  # each is written before its part
    killed = watched.kill_when("main", lambda: len(list(digests.glob("*/*.sha256"))) >= n_parts)
    assert watched.end() == -9, watched.said
    assert killed
    assert not list((folder / "out").glob("features/*/*"))
    record_property("fault", "SIGKILL: main in texts")
    again = Watched(command, folder, texts)
    assert again.end() == 0, again.said
    assert differences(folder, texts / "after") == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_every_write_may_fail(
    error: int, disk: Disk, texts: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    folder = shutil.copytree(texts / "before", tmp_path / "job", symlinks=True)
    command = ["extract", "--out", str(folder / "out")]
    assert disk.run(command, folder) == 0, disk.said
    assert differences(folder, texts / "after") == []
    every = range(1, disk.calls + 1)  # hundreds, of a few kinds: the stages of test_disk.py have all of theirs tried
    for n in random.Random(error).sample(every, min(disk.calls, 100 if LONG else 2)):
        shutil.rmtree(folder)
        shutil.copytree(texts / "before", folder, symlinks=True)
        code = disk.run(command, folder, n, error, forever=error == errno.ENOSPC)
        record_property("fault", f"{errno.errorcode[error]}: texts")
        assert "Traceback" not in disk.said
        if code:
            assert code == 2, (n, disk.said)
            assert disk.run(command, folder) == 0, (n, disk.said)
        assert differences(folder, texts / "after") == [], n
