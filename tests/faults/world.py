"""A small job in seven parts: crawls, and stores in which everything before a stage is made.

The first crawl has what a real one has: files that are none, a file without sound, one whose sound only the ffmpeg
program is asked about, videos without words. Everything is so small that a stage takes seconds.
"""

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from nmcl.flows.cli.main import app
from tests.media import shades, tone, write_video

ROOT = Path(__file__).resolve().parents[2]
NMCL = str(Path(sys.executable).parent / "nmcl")
VENUES = {"Beach": (30, "sand sea sun wave"), "Slope": (140, "snow ski ice lift")}
STAGES = ("ingest", "fit", "extract", "complete", "train", "evaluate", "retrain", "predict")
WITHOUT_SERVER = STAGES[:6]
"""Their commands start no Prefect server."""
SETTINGS = [
    "features.visual.extractor=efficientnet_lite0",
    "features.words.extractor=none",
    "features.visual.key_frames=2",
    "ingest.part_size=4",
    "split.min_venue_videos=6",
    "media.workers=2",
    "features.acoustic.max_frames=500",
    "features.acoustic.autoencoder.layers=[32,16]",
    "features.acoustic.autoencoder.epochs=2",
    "features.acoustic.autoencoder.fine_tune_epochs=1",
    "features.acoustic.autoencoder.min_steps=20",
    "features.textual.dim=16",
    "features.textual.min_words=20",
    "completion.method=ridge",
    "model.name=nmcl",
    "model.hidden=16",
    "model.relation_hidden=4",
    "model.train.max_epochs=40",
    "drift.stop=false",
]
"""Of every store here."""


@dataclass(frozen=True)
class Command:
    """What is typed for a stage."""

    words: tuple[str, ...]
    """Without `nmcl`; STORE and RESULT stand for paths."""

    def at(self, folder: Path) -> list[str]:
        """The words for the store `out` in a folder, whose results go beside it."""
        places = {"STORE": str(folder / "out"), "RESULT": str(folder / "venues.parquet")}
        return [places.get(word, word) for word in self.words]


@dataclass(frozen=True)
class World:
    """Crawls, and a folder for each stage with the store `out` as it is before the stage."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    """That each undisturbed stage took here."""
    sets: tuple[str, ...] = ()
    """Settings besides the usual ones."""

    @property
    def crawl(self) -> Path:
        """The one that a store begins with."""
        return self.folder / "monday"

    @property
    def later(self) -> Path:
        """The one of `nmcl retrain`."""
        return self.folder / "tuesday"

    @property
    def unlabelled(self) -> Path:
        """The one of `nmcl predict`."""
        return self.folder / "wednesday"

    def command(self, stage: str) -> Command:
        """The command that does one stage, or `run`."""
        sets = tuple(f"--set={assignment}" for assignment in (*SETTINGS, *self.sets))
        match stage:
            case "ingest" | "run":
                return Command((stage, str(self.crawl), "--out", "STORE", *sets))
            case "retrain":
                return Command((stage, str(self.later), "--out", "STORE"))
            case "predict":
                return Command((stage, str(self.unlabelled), "--model", "STORE", "--out", "RESULT"))
            case _:
                return Command((stage, "--out", "STORE"))

    def before(self, stage: str, into: Path) -> Path:
        """A copy of the folder as it is before a stage, to be worked on."""
        source = self.folder / "before" / ("ingest" if stage == "run" else stage)
        shutil.copytree(source, into, symlinks=True)
        return into

    def after(self, stage: str) -> Path:
        """The folder as an undisturbed command leaves it."""
        return self.folder / "after" / ("evaluate" if stage == "run" else stage)


def make_world(folder: Path, stages: tuple[str, ...] = STAGES, sets: tuple[str, ...] = ()) -> World:
    """Make the crawls and, by undisturbed commands in this process, the stores before and after each stage."""
    world = World(folder, sets=sets)
    write_crawl(world.crawl, 24, first=0)
    write_crawl(world.later, 16, first=24)
    write_crawl(world.unlabelled, 8, first=40, labelled=False)
    job = folder / "job"
    job.mkdir()
    for stage in STAGES:
        shutil.copytree(job, folder / "before" / stage, symlinks=True)
        if stage not in stages:
            break
        start = time.monotonic()
        (do_here if stage in WITHOUT_SERVER else partial(do_apart, home=folder / "home"))(world.command(stage).at(job))
        world.seconds[stage] = time.monotonic() - start
        shutil.copytree(job, folder / "after" / stage, symlinks=True)
        if stage == "retrain":  # both this and `predict` begin with a finished run
            shutil.rmtree(job)
            shutil.copytree(folder / "after" / "evaluate", job, symlinks=True)
    return world


def do_here(words: list[str]) -> None:
    """A command in this process, which must succeed."""
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (words, done.output, done.stderr, done.exception)


def do_apart(words: list[str], home: Path) -> None:
    """A command as a user types it, which must succeed."""
    done = subprocess.run([NMCL, *words], env=environment(home), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)


def write_crawl(folder: Path, n_videos: int, first: int, labelled: bool = True) -> None:
    """Clips of two venues by turns, three seconds each, and what is wrong with real ones."""
    folder.mkdir(parents=True)
    rows = []
    for i in range(first, first + n_videos):
        venue = [*VENUES][i % 2]
        level, words = VENUES[venue]
        frames = moving(shades([level + i, level + i + 60], 24, (96, 128)), seed=i)
        write_video(folder / f"{i}.mp4", frames, fps=16, sound=tone(300 + 400 * (i % 2) + 7 * i, 3) if i % 5 else None)
        text = " ".join(np.random.default_rng(i).permutation(words.split())) if i % 4 else ""
        rows.append({"path": f"{i}.mp4", "description": text, "venue": venue if labelled else ""})
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / f"deaf-{first}.avi").write_bytes(without_decodable_sound(folder / f"{first + 1}.mp4", folder))
    extra = [{"path": name, "description": "ice", "venue": ""} for name in ("broken.mp4", f"deaf-{first}.avi")]
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([*rows[:5], *extra, *rows[5:]])


def moving(frames: np.ndarray, seed: int) -> np.ndarray:
    """The frames with some grain, so that decoding takes a while."""
    grain = np.random.default_rng(seed).integers(0, 24, frames.shape, np.uint8)
    return frames // 2 + grain


def without_decodable_sound(clip: Path, scratch: Path) -> bytes:
    """A video beside whose picture is a soundtrack of which every packet is damaged: ffmpeg has the last word on it."""
    import av

    path = scratch / "scratch.avi"
    with av.open(str(clip)) as source, av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=16)
        picture.height, picture.width, picture.pix_fmt = 96, 128, "yuv420p"
        sound = container.add_stream("mp3", rate=22050, layout="mono")
        for frame in source.decode(video=0):
            container.mux(picture.encode(frame.reformat(format="yuv420p")))
        container.mux(picture.encode(None))
        block = av.AudioFrame.from_ndarray(tone(300, 3)[None], format="s16p", layout="mono")
        block.sample_rate = 22_050
        for packet in [*sound.encode(block), *sound.encode(None)]:
            damaged = av.Packet(bytes(packet.size))
            damaged.stream, damaged.pts, damaged.dts, damaged.time_base = (
                sound,
                packet.pts,
                packet.dts,
                packet.time_base,
            )
            container.mux(damaged)
    data = path.read_bytes()
    path.unlink()
    return data


def environment(home: Path) -> dict[str, str]:
    """Of commands whose Prefect database, if they start a server, and temporary files are in a folder of their own."""
    (home / "tmp").mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "NMCL_"))}
    own = {
        "PREFECT_HOME": str(home / "prefect"),
        "TMPDIR": str(home / "tmp"),
        "COLUMNS": "200",
        "PYTHONPATH": str(ROOT),
    }
    return kept | own | {"OMP_NUM_THREADS": "1"}


def files_of(folder: Path) -> Iterator[Path]:
    """All files and links below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or path.is_file():
            yield path
