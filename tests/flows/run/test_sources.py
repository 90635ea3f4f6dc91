"""What a deployment works on when its run names neither a crawl nor a store."""

from pathlib import Path

import pytest

from nmcl.flows.run.sources import SAMPLE_SETTINGS, crawls_of, is_sample, settings_of, store_of
from nmcl.pipeline.errors import CrawlError
from nmcl.pipeline.progress import silent
from nmcl.pipeline.storage.store import Store


def test_without_a_crawl_and_a_store_it_is_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store.create(store_of(None, None))
    assert is_sample(store)
    assert settings_of(store, None) == SAMPLE_SETTINGS
    assert settings_of(store, {"visual": {"backbone": "resnet50"}}) == {
        "features": SAMPLE_SETTINGS["features"] | {"visual": {"extractor": "resnet50"}}
    }


def test_a_store_of_ones_own_comes_before_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store.create(store_of("videos", None))
    assert not is_sample(store)
    assert store_of(None, None) == "out"
    assert settings_of(store, None) == {}
    with pytest.raises(CrawlError, match="still exists"):
        crawls_of(None, store, silent)


def test_what_is_named_is_taken(tmp_path: Path) -> None:
    store = Store.create(store_of(None, str(tmp_path / "mine")))
    assert store.root == str(tmp_path / "mine")
    assert crawls_of("videos", store, silent) == ["videos"]
