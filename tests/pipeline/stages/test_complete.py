"""Loading of vectors where there is nothing to load."""

from pathlib import Path

import pytest

from nmcl.pipeline.errors import StoreError
from nmcl.pipeline.stages.complete import load_completed, load_features
from nmcl.pipeline.storage.artifacts import Artifact
from nmcl.pipeline.storage.catalogue import Catalogue
from nmcl.pipeline.storage.store import Store


def test_an_empty_catalogue_has_no_vectors(tmp_path: Path) -> None:
    store, artifact = Store.create(tmp_path / "out"), Artifact("completed/all", {})
    assert load_features(store, Catalogue(()), artifact).shape == (0, 0)
    with pytest.raises(StoreError, match="has no video"):
        load_completed(store, Catalogue(()), artifact)
