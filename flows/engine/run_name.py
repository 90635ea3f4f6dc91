"""Names of flow runs. It loads no network, as `nmcl.flows.engine.sweep` is to start fast."""

from pathlib import Path

from prefect import runtime

from nmcl.flows import console
from nmcl.pipeline.escape import visible


def run_name() -> str:
    """Return the name of the current flow run: that of its crawl, or watched folder, and of its store."""
    given = runtime.flow_run.parameters
    names = [Path(str(given[key])).name for key in ("crawl", "folder", "out") if given.get(key)]
    return visible(" into ".join(names), console.SHORT) or "default store"
