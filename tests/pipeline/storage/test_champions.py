from pathlib import Path

import pytest

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.storage.champions import (
    champion,
    history,
    predecessor,
    promote,
)
from nmcl.pipeline.storage.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "out")


def crown(store: Store, name: str, how: str = "promote") -> None:
    promote(store, f"runs/{name}", how, f"because of {name}", {"videos": 1}, {"macro_f1": 0.5})  # type: ignore[arg-type]


def rollback(store: Store) -> str | None:
    run = predecessor(history(store))
    if run:
        crown(store, run.removeprefix("runs/"), "rollback")
    return run


def test_history_tells_who_when_why_and_the_link_follows(store: Store) -> None:
    assert champion(store) is None
    crown(store, "a", "first")
    crown(store, "b", "retrain")
    first, second = history(store)
    assert (first.run, first.before, first.how) == ("runs/a", None, "first")
    assert (second.run, second.before, second.why) == ("runs/b", "runs/a", "because of b")
    assert second.who
    assert second.when >= first.when
    assert second.data == {"videos": 1}
    assert second.metrics == {"macro_f1": 0.5}
    assert champion(store) == "runs/b"
    assert store.leads("champion", "runs/b")


def test_promoting_the_champion_again_writes_nothing(store: Store) -> None:
    crown(store, "a")
    before = store.read("champions.json")
    crown(store, "a", "retrain")
    assert store.read("champions.json") == before


def test_rollbacks_go_back_step_by_step(store: Store) -> None:
    for name in "abc":
        crown(store, name)
    assert [rollback(store), rollback(store), rollback(store)] == ["runs/b", "runs/a", None]
    crown(store, "d")
    assert rollback(store) == "runs/a"
    assert [entry.how for entry in history(store)] == [*["promote"] * 3, *["rollback"] * 2, "promote", "rollback"]


def test_a_run_that_comes_back_may_be_rolled_back_again(store: Store) -> None:
    crown(store, "a")
    crown(store, "b")
    rollback(store)
    crown(store, "b")
    assert rollback(store) == "runs/a"


def test_a_link_that_a_kill_left_behind_is_set_right(store: Store) -> None:
    crown(store, "a")
    crown(store, "b")
    store.point("champion", "runs/a")  # killed after the history was written
    assert champion(store) == "runs/b"
    crown(store, "b")
    assert store.leads("champion", "runs/b")


def test_a_damaged_history(store: Store) -> None:
    store.write_json("champions.json", {"history": [{"run": "runs/a"}]})
    with pytest.raises(StoreError, match="damaged"):
        champion(store)
