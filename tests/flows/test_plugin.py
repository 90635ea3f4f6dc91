"""Short names of deployments, on Prefect's own command line."""

import pytest

from flows.plugin import full_name, position


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
