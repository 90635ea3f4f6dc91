"""The benchmark of a prediction measures real processes, and the imports of a prediction are few."""

import subprocess
import sys
from pathlib import Path

import pytest

from nmcl.flows.bench.predict import Size, bench_predict, cpu_seconds

IMPORTS = """
import sys
import torch
import nmcl.flows.cli.main, nmcl.flows.cli.summary, nmcl.flows.run.predict, nmcl.flows.run.workers
import nmcl.flows.service.server
from nmcl.model.base import Shape
from nmcl.model.registry import method
entry = method("nmcl_stacked")
with torch.device("meta"):
    entry.build(Shape({"acoustic": 3, "visual": 4}, ("a", "b")), entry.settings)
heavy = ("matplotlib", "pandas", "sympy", "sklearn", "prefect", "scipy.optimize", "torch._dynamo", "gensim")
print([name for name in heavy if name in sys.modules])
"""


def test_a_model_is_loaded_without_heavy_packages_that_it_does_not_need() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_seconds_are_those_of_the_processor() -> None:
    busy = "import time; end = time.process_time() + 1\nwhile time.process_time() < end: pass"
    assert 1 <= cpu_seconds([sys.executable, "-c", busy]) < 3
    assert cpu_seconds([sys.executable, "-c", "import time; time.sleep(1)"]) < 0.9
    with pytest.raises(RuntimeError, match="no such thing"):
        cpu_seconds([sys.executable, "-c", "raise SystemExit('no such thing')"])


@pytest.mark.long
def test_a_prediction_is_measured(small_crawl: Path) -> None:
    found = bench_predict(small_crawl, Size(videos=12, repeats=1))
    assert found.figures["predict_cpu_s"] > found.figures["import_cpu_s"] > 0
    assert found.ratios["vs_imports"] == pytest.approx(found.figures["predict_cpu_s"] / found.figures["import_cpu_s"])
