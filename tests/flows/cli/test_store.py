"""Commands that change the champion, on a store of an early version."""

import json
from pathlib import Path

import pytest

from nmcl.pipeline.storage.runs import champion
from nmcl.pipeline.storage.store import Store
from tests.flows.commands import nmcl_here
from tests.flows.run.earlier import unpacked


def test_promote_and_rollback_say_what_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = unpacked(tmp_path)

    def changed(*words: str) -> dict[str, str]:
        code, printed, _ = nmcl_here(*words, "--out", store.url, "--json", capsys=capsys, monkeypatch=monkeypatch)
        assert code == 0
        found: dict[str, str] = json.loads(printed)
        best = champion(Store.open(store.url))
        assert best is not None
        assert found["champion"] == best.folder
        return found

    first = champion(store)
    assert first is not None
    other = changed("promote", "logistic")
    assert other["before"] == first.folder != other["champion"]
    assert changed("promote", "logistic") == {"champion": other["champion"], "before": other["champion"]}
    assert changed("rollback") == {"champion": first.folder, "before": other["champion"]}
