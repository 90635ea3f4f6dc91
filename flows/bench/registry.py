"""Registry of all benchmarks by name, run at the sizes of the paper or at smaller ones."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nmcl.flows import console
from nmcl.flows.bench import decode, extract, predict, scale
from nmcl.flows.bench.decode import bench_decode
from nmcl.flows.bench.extract import bench_extract
from nmcl.flows.bench.predict import bench_predict
from nmcl.flows.bench.scale import bench_scale
from nmcl.model.bench import train
from nmcl.model.bench.head import bench_head
from nmcl.model.bench.train import bench_train
from nmcl.pipeline.bench import complete
from nmcl.pipeline.bench.complete import bench_complete
from nmcl.pipeline.bench.result import Result
from nmcl.pipeline.errors import SettingsError
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.storage.files import write_whole


@dataclass(frozen=True)
class Request:
    """Options of a benchmark run."""

    crawl: Path | None = None
    """Real videos for the benchmarks that read files; None: the rendered sample."""
    full: bool = False
    """Use the sizes of the paper, which take hours in total."""
    progress: Progress = silent


BENCHES: dict[str, Callable[[Request], Result]] = {
    "extract": lambda r: bench_extract(r.crawl, extract.FULL if r.full else extract.Size(), r.progress),
    "decode": lambda r: bench_decode(r.crawl, decode.FULL if r.full else decode.Size(), r.progress),
    "complete": lambda r: bench_complete(complete.FULL if r.full else complete.Size(), r.progress),
    "head": lambda r: bench_head(progress=r.progress),
    "train": lambda r: bench_train(steps=train.FULL if r.full else train.Steps(), progress=r.progress),
    "predict": lambda r: bench_predict(r.crawl, predict.FULL if r.full else predict.Size(), r.progress),
    "scale": lambda r: bench_scale(r.crawl, scale.FULL if r.full else scale.Size(), r.progress),
}


def run_benches(name: str, request: Request, json_file: Path | None = None) -> dict[str, Result]:
    """Run one benchmark, or `all`. Prints each result as soon as it is available, and writes `json_file`.

    Raises:
        SettingsError: If there is no benchmark of this name, or the file cannot be written.
    """
    if name not in (*BENCHES, "all"):
        raise SettingsError(f"There is no benchmark {name!r}; expected one of {', '.join(BENCHES)}, all.")
    results: dict[str, Result] = {}
    for bench in BENCHES if name == "all" else [name]:
        results[bench] = BENCHES[bench](request)
        show(bench, results[bench])
        if json_file is not None:
            trees = {done: result.to_json() for done, result in results.items()}
            tree = trees if name == "all" else trees[name]
            write_whole(json_file, f"{json.dumps(tree, indent=1)}\n".encode())
    return results


def show(name: str, result: Result) -> None:
    """Print the figures, ratios and notes of a result."""
    rows = [*result.figures.items(), *result.ratios.items()]
    console.table(f"bench {name}", ("", "value"), [(key, _number(value)) for key, value in rows])
    for note in result.notes:
        console.say(f"Note: {note}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
