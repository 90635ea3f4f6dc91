"""Which runs are set to Crashed when a server is started anew; with a real server in `test_deployments.py`."""

import subprocess
import sys
from typing import Any

import pytest

from flows import stranded


class Server:
    """Answers as a server with some active runs and one worker would."""

    def __init__(self, *runs: str, worker: str = "old") -> None:
        self.runs, self.worker = runs, worker
        self.crashed: list[str] = []

    def __call__(self, url: str, body: Any) -> Any:
        if url.endswith("/workers/filter"):
            return [{"name": self.worker, "status": "ONLINE"}]
        if url.endswith("/set_state"):
            self.crashed.append(url.split("/")[-2])
            return {}
        if "parent_flow_run_id" in body["flow_runs"]:
            return [{"id": f"within-{run}"} for run in body["flow_runs"]["parent_flow_run_id"]["any_"]]
        assert body["work_pools"] == {"name": {"any_": ["pool"]}}
        return [{"id": run} for run in self.runs]


@pytest.mark.parametrize(("worker", "crashed"), [("old", ["one", "within-one"]), ("another", [])])
def test_runs_are_left_to_a_worker_that_lives(worker: str, crashed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stranded, "ask", server := Server("one", worker=worker))
    assert stranded.mark_stranded("api", "pool", "old") == len(crashed) // 2
    assert server.crashed == crashed


def test_a_run_whose_process_lives_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stranded, "ask", server := Server("alive", "gone"))
    waits = [sys.executable, "-c", "input()"]
    with subprocess.Popen(waits, stdin=subprocess.PIPE, env={"PREFECT__FLOW_RUN_ID": "alive"}) as process:
        assert stranded.mark_stranded("api", "pool", "old") == 1
        process.communicate(b"\n")
    assert server.crashed == ["gone", "within-gone"]
