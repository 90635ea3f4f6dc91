"""Benchmark of the prediction of one clip by a new process, against the import of the libraries that it needs."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from nmcl.extractors.visual import VisualSettings
from nmcl.flows.bench.material import make_crawl, settings_with, source_of
from nmcl.flows.feature_settings import FeatureChoice
from nmcl.flows.run import runs, stages
from nmcl.flows.run.stages import Context
from nmcl.flows.settings import Settings
from nmcl.pipeline.bench.result import Result
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.scratch import scratch
from nmcl.pipeline.storage.store import Store

COMMAND = "from nmcl.flows.cli.main import main; main()"
LIBRARIES = "import numpy, pyarrow.parquet, scipy.linalg, torch, torchvision, cv2, av, gensim.models.doc2vec"
"""What a prediction with the paper's three feature sets loads, and nothing of nmcl."""


@dataclass(frozen=True)
class Size:
    """Size of the benchmark."""

    videos: int = 24
    """Clips of the crawl that the model is trained on."""
    repeats: int = 3


FULL = Size(videos=96, repeats=9)


def bench_predict(crawl: Path | None, size: Size | None = None, progress: Progress = silent) -> Result:
    """Measure processor seconds of `nmcl predict` on one clip, from the start of its process to its end.

    The model is the default one, with EfficientNet-Lite0, trained on a few clips: what is learned does not affect the
    cost. Every prediction gets a clip that the model's store does not know.
    """
    size = size or Size()
    quick = settings_with(FeatureChoice("efficientnet_lite0", VisualSettings()))
    settings = replace(
        quick,
        completion=replace(quick.completion, method="ridge"),
        split=replace(quick.split, min_venue_videos=4),
    )
    with scratch("bench") as folder:
        source, origin = source_of(crawl, folder / "sample", progress)
        made = make_crawl(source, size.videos, folder / "crawl")
        out = _trained(folder, settings)
        (clip, *_) = sorted(path for path in (folder / "crawl").iterdir() if path.suffix != ".csv")
        predicted, imported = [], []
        for number in range(size.repeats):
            progress("bench predict", number, size.repeats)
            one = folder / f"clip-{number}"
            one.mkdir()
            shutil.copy(clip, one / clip.name)
            with (one / clip.name).open("ab") as file:
                file.write(b"%d" % number)  # other bytes, the same video
            words = ["predict", str(one), "--model", str(out), "--out", str(folder / f"{number}.csv")]
            predicted.append(cpu_seconds([sys.executable, "-c", COMMAND, *words]))
            imported.append(cpu_seconds([sys.executable, "-c", LIBRARIES]))
    progress("bench predict", size.repeats, size.repeats)
    figures = {"predict_cpu_s": median(predicted), "import_cpu_s": median(imported)}
    notes = [
        f"{made}; {origin}",
        "processor seconds of the command and its decoding processes, one thread, without a Prefect server: on a quiet "
        "machine about the seconds until it ends; median of the repeats",
        f"import_cpu_s: {LIBRARIES}",
    ]
    return Result(figures, {"vs_imports": figures["predict_cpu_s"] / figures["import_cpu_s"]}, notes)


def _trained(folder: Path, settings: Settings) -> Path:
    """Train on the crawl, half of whose clips get one label and half another. Returns the store's folder."""
    manifest = folder / "crawl" / "manifest.csv"
    with manifest.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    with manifest.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([[*header, "venue"], *([*row, "ab"[i % 2]] for i, row in enumerate(rows))])
    context = Context(Store.create(folder / "out"), settings)
    stages.ingest(context, folder / "crawl")
    runs.up_to(context, "evaluate")
    return folder / "out"


def cpu_seconds(command: Sequence[str]) -> float:
    """Run a command on one thread, and return its user and system seconds, with those of its children."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = process.stderr.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {process.returncode}: {said}")
    return usage.ru_utime + usage.ru_stime
