"""Short names of deployments, on Prefect's own command line."""

from pathlib import Path

import pytest

from nmcl.flows.engine.plugin import full_name, missing_crawl, position


@pytest.mark.parametrize(
    ("line", "at"),
    [
        ("deployment run extract-features", 3),
        ("deployment run --watch extract-features", 4),
        ("deployment run --param crawl=retrain retrain --watch", 5),
        ("deployment run --flow-run-name retrain train-nmcl", 5),
        ("deployments inspect retrain", 3),
        ("deployment run extract-features/local", 3),
        ("deployment run sweep --param folder=crawls", 3),
        ("deployment run other", None),
        ("deployment delete retrain", None),
        ("flow-run ls", None),
        ("", None),
    ],
)
def test_where_a_deployment_is_named(line: str, at: int | None) -> None:
    assert position(["prefect", *line.split()]) == at


def test_full_names() -> None:
    assert full_name("extract-features") == full_name("extract-features/local") == "extract-features/local"


def test_a_crawl_that_is_not_there_is_said_before_there_is_a_run(tmp_path: Path) -> None:
    def said(crawl: str) -> str | None:
        return missing_crawl(["prefect", "deployment", "run", "retrain", "--param", f"crawl={crawl}"])

    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    assert said(f"{tmp_path}/videos") is None
    assert said(f'"{tmp_path}/videos"') is None
    assert "There is no folder" in (said(f"{tmp_path}/vidoes") or "")
    assert said("7") is None  # which is no text, as Prefect says
    assert said("s3://bucket/crawl") is None  # only the worker may have the keys
