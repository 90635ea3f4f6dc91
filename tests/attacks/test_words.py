"""Manifests, sidecars, names and arguments that are more than words."""

import gzip
import html.parser
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.attacks.media import good_videos
from tests.attacks.test_media import CONTROLS
from tests.attacks.watching import DOCUMENTED, Trap
from tests.faults.disks import Disk
from tests.faults.world import SETTINGS
from tests.forms import LONG, in_both_forms

pytestmark = in_both_forms
IN_PAGES = ("markup", "html")
"""What `make test` also follows into reports."""
SETS = [f"--set={assignment}" for assignment in [*SETTINGS, "split.min_venue_videos=2"]]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips") / "crawl"
    folder.mkdir()
    good_videos(folder)
    return folder


def check(disk: Disk, code: int, caught: Trap, *places: Path) -> None:
    """It ended as documented, with words for a terminal, and did what nobody wants."""
    assert code in DOCUMENTED, disk.said
    assert code != 1, disk.said
    assert "Traceback" not in disk.said
    assert not [character for character in CONTROLS if chr(character) in disk.said]
    assert len(disk.said) < 20_000
    caught.check(*places)


Row = tuple[str, str, str, str]
"""Path, id, text and label."""


def paths(*names: str) -> list[Row]:
    """Rows of some paths."""
    return [(name, f"id {i}", "snow", "Beach") for i, name in enumerate(names)]


def manifest_rows(trap: Trap) -> dict[str, list[Row]]:
    """Rows of a manifest by what they try."""
    secret = str(trap.folder / "secret.mp4")
    ids = ("../../x", "/etc/x", "a/b", "..", "x" * 5000, "\x1b[31mx", "a\nb", "=1+1")
    return {
        "traversal": paths("../../trap/secret.mp4", secret, f"file://{secret}", "~/.profile"),
        "remote": paths(f"{trap.url}/a.mp4", f"tcp://127.0.0.1:{trap.port}", "s3://a/b.mp4"),
        "odd paths": paths("a\\..\\b.mp4", "x" * 5000, "good-0.mp4/../..", "con", "-i", "."),
        "ids": [(f"good-{i}.mp4", name, "snow", "Beach") for i, name in enumerate(ids)],
        "markup": [
            ("good-0.mp4", "[link=http://x]y[/link]", f"[link={trap.url}]x[/link] [bold]", "[/]"),
            ("good-1.mp4", "[/red]", "[red", "[/not-open]"),
        ],
        "html": [("good-0.mp4", "<b>", f"<img src={trap.url}/x onerror=alert(1)>", "<script>alert(1)</script>")],
        "markdown": [
            ("good-0.mp4", f"![x]({trap.url}/x)", f"![x]({trap.url}/x)", f"[x]({trap.url})"),
            ("good-1.mp4", "`", "x", "|a|b|\n|-|-|"),
        ],
        "escapes": [("good-0.mp4", "\x1b[31mx", "\x1b]8;;http://x\x07y\x1b]8;;\x07", "\x1b[2J\x9b31m\x07Beach")],
        "formulas": [
            ("good-0.mp4", "=cmd|' /C calc'!A0", "@SUM(1)", f'=HYPERLINK("{trap.url}")'),
            ("good-1.mp4", "-1+1", "+1", "-2"),
        ],
        "directions": [
            ("good-0.mp4", "\u202egnp.4pm", "\u2066x", "Bea\u202ech"),
            ("good-1.mp4", "n\ufeff", "\u0000", "Slope"),
        ],
    }


@pytest.mark.parametrize("name", [*manifest_rows(Trap(Path("/x"), 1))])
def test_rows_of_a_manifest(name: str, clips: Path, caught: Trap, disk: Disk, tmp_path: Path) -> None:
    """Beside good rows of two venues: what is not usable is rejected, and harms nothing."""
    crawl, out = shutil.copytree(clips, tmp_path / "crawl"), tmp_path / "out"
    evil = manifest_rows(caught)[name]
    good: list[Row] = [(f"good-{i}.mp4", f"good {i}", "snow ski", ("Beach", "Slope")[i % 2]) for i in range(8)]
    rows = [*(row for row in good if row[0] not in {path for path, *_ in evil}), *evil]
    columns = dict(zip(("path", "id", "text", "label"), zip(*rows, strict=True), strict=True))
    pyarrow.csv.write_csv(pa.table({column: [*cells] for column, cells in columns.items()}), crawl / "manifest.csv")
    code = disk.run(["ingest", str(crawl), "--out", str(out), *SETS, "--set=ingest.max_rejected_share=1"], tmp_path)
    check(disk, code, caught, out)
    if code == 0 and (LONG or name in IN_PAGES):
        check(disk, disk.run(["evaluate", "--out", str(out)], tmp_path), caught, out)
        check(disk, disk.run(["runs", "--out", str(out)], tmp_path), caught, out)
        for page in out.glob("runs/*/*.html"):
            assert_harmless(page.read_text(), caught)
    assert {path.name for path in tmp_path.iterdir()} <= {"crawl", "out"}


class Tags(html.parser.HTMLParser):
    """The tags and addresses of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attributes:
            if name in ("src", "href", "action", "data", "poster", "xlink:href"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


def assert_harmless(page: str, caught: Trap) -> None:
    """A page runs nothing and fetches nothing from elsewhere."""
    tags = Tags()
    tags.feed(page)
    assert tags.handlers == []
    assert not [a for a in tags.addresses if str(caught.port) in a or a.lower().startswith(("javascript", "http"))]
    assert "<script>alert" not in page


def write_gzip(path: Path, _: Trap) -> None:
    path.with_name("manifest.csv").write_bytes(gzip.compress(b"path,label\n" + b"good-0.mp4,Beach\n" * 2_000_000))


def write_zip(path: Path, _: Trap) -> None:
    with zipfile.ZipFile(path.with_name("manifest.csv"), "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("manifest.csv", b"path,label\n" + b"good-0.mp4,Beach\n" * 2_000_000)


def write_deep_jsonl(path: Path, _: Trap) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    path.with_name("manifest.jsonl").write_text(f'{{"path": "good-0.mp4", "label": "Beach", "x": {deep}}}\n')


def write_deep_sidecar(path: Path, _: Trap) -> None:
    deep = '{"a":' * 200_000 + "1" + "}" * 200_000
    path.with_name("good-0.info.json").write_text(f'{{"id": "a", "description": "x", "x": {deep}}}')


def write_large_sidecar(path: Path, _: Trap) -> None:
    path.with_name("good-0.info.json").write_text(json.dumps({"id": "a", "description": "snow " * 4_000_000}))


def write_large_number(path: Path, _: Trap) -> None:
    path.with_name("good-0.info.json").write_text('{"id": ' + "9" * 100_000 + ', "description": 1e999}')


def write_large_cell(path: Path, _: Trap) -> None:
    path.with_name("manifest.csv").write_text('path,label,text\ngood-0.mp4,Beach,"' + "snow " * 4_000_000 + '"\n')


def write_many_columns(path: Path, _: Trap) -> None:
    path.with_name("manifest.csv").write_text(",".join(["path", "label", *(f"c{i}" for i in range(100_000))]) + "\n")


def write_unclosed_quote(path: Path, _: Trap) -> None:
    path.with_name("manifest.csv").write_text('path,label\ngood-0.mp4,"Beach\n' + "good-1.mp4,Slope\n" * 100_000)


def write_row_bomb(path: Path, _: Trap) -> None:
    """Twenty million rows in some kilobytes."""
    name = pa.array(["good-0.mp4"]).dictionary_encode()
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000_000, np.int32)), name.dictionary)
    pq.write_table(pa.table({"path": column, "label": column}), path.with_name("manifest.parquet"), compression="zstd")


def write_pickled_type(path: Path, trap: Trap) -> None:
    """An extension type whose metadata is a pickle, which early PyArrow loads."""
    evil = b"cposix\nsystem\n(S'touch " + str(trap.ran).encode() + b"'\ntR."
    metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": evil}
    fields = [pa.field("path", pa.string(), metadata=metadata), pa.field("label", pa.string())]
    table = pa.table([["good-0.mp4"], ["Beach"]], schema=pa.schema(fields, metadata={"pandas": evil}))
    pq.write_table(table, path.with_name("manifest.parquet"))


def write_truncated_parquet(path: Path, trap: Trap) -> None:
    write_pickled_type(path, trap)
    manifest = path.with_name("manifest.parquet")
    data = manifest.read_bytes()
    manifest.write_bytes(data[: len(data) // 2] + data[-8:])


def make_fifo(path: Path, _: Trap) -> None:
    os.mkfifo(path.with_name("manifest.csv"))


def make_fifo_of_jsonl(path: Path, _: Trap) -> None:
    os.mkfifo(path.with_name("manifest.jsonl"))


def make_folder(path: Path, _: Trap) -> None:
    path.with_name("manifest.csv").mkdir()


def make_link(path: Path, trap: Trap) -> None:
    path.with_name("manifest.csv").symlink_to(trap.folder / "secret.txt")


def make_loop(path: Path, _: Trap) -> None:
    path.with_name("manifest.csv").symlink_to("manifest.csv")


def make_link_to_device(path: Path, _: Trap) -> None:
    path.with_name("manifest.csv").symlink_to("/dev/zero")


MANIFESTS: list[Callable[[Path, Trap], None]] = [
    write_gzip, write_zip, write_deep_jsonl, write_deep_sidecar, write_large_sidecar, write_large_number,
    write_large_cell, write_many_columns, write_unclosed_quote, write_row_bomb, write_pickled_type,
    write_truncated_parquet, make_fifo, make_fifo_of_jsonl, make_folder, make_link, make_loop, make_link_to_device,
]  # fmt: skip


@pytest.mark.parametrize("write", MANIFESTS, ids=lambda write: write.__name__)
def test_files_beside_the_videos(
    write: Callable[[Path, Trap], None], clips: Path, caught: Trap, disk: Disk, tmp_path: Path
) -> None:
    crawl, out = shutil.copytree(clips, tmp_path / "crawl"), tmp_path / "out"
    write(crawl / "x", caught)
    code = disk.run(["ingest", str(crawl), "--out", str(out), *SETS, "--set=ingest.max_rejected_share=1"], tmp_path)
    check(disk, code, caught, out)


NAMES_OF_CRAWLS = [
    "[red]x[/blue]",
    "=1+1",
    "<script>alert(1)</script>",
    "a\nb",
    "\x1b[31mred",
    "..x",
    "%2e%2e",
    "-rf",
    "~",
    "x" * 200,
]


@pytest.mark.parametrize("name", NAMES_OF_CRAWLS, ids=range(len(NAMES_OF_CRAWLS)))
def test_names_of_crawls(name: str, clips: Path, caught: Trap, disk: Disk, tmp_path: Path) -> None:
    crawl, out = shutil.copytree(clips, tmp_path / "crawls" / name), tmp_path / "out"
    code = disk.run(["ingest", str(crawl), "--out", str(out), *SETS], tmp_path)
    check(disk, code, caught, out)
    assert {path.name for path in tmp_path.iterdir()} <= {"crawls", "out"}


RUNS = [
    *("../../x", "/etc", "runs/../..", "champion/..", "latest/../../..", ".", ".."),
    *("[/]", "\x1b[31m", "*", "x" * 9999),
]


@pytest.mark.parametrize("run", RUNS, ids=range(len(RUNS)))
def test_names_of_runs(run: str, finished: Path, caught: Trap, disk: Disk, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "out", symlinks=True)
    history = (out / "champions.json").read_bytes()
    code = disk.run(["promote", run, "--out", str(out)], tmp_path)
    check(disk, code, caught, out)
    assert code == 2
    assert (out / "champions.json").read_bytes() == history
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
