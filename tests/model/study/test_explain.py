"""Pictures' numbers against the network's own: scores with other guests at their training mean, and the memory."""

import numpy as np
import pytest
import torch

from nmcl.model.data import Dataset
from nmcl.model.nmcl.nmcl import NMCL
from nmcl.model.study.explain import attention_memory, division, relation
from nmcl.model.trained import Trained, fit
from nmcl.pipeline.errors import ModelError
from tests.model.conftest import CLASSES, quick


@pytest.fixture(scope="module")
def trained(train: Dataset, validation: Dataset) -> Trained:
    return fit("nmcl", train, validation, CLASSES, quick())


def test_scores_are_the_networks(trained: Trained, test: Dataset) -> None:
    found = relation(trained, test.modalities, 7, "sound", "row 7", "park")
    assert found.guests == ["sight", "words", "sight + words"]
    assert found.features == ["0", "1"]
    named = relation(trained, test.modalities, 7, "sound", "row 7", "park", ("Speech", "Violin"))
    assert named.features == ["Speech", "Violin"]
    standard = trained.standardizer.apply(test.modalities)
    x = {name: torch.from_numpy(array[7:8]) for name, array in standard.items()}
    assert isinstance(trained.network, NMCL)
    host = trained.network.nets[1].host  # sound is the second of the sorted names
    nothing = {name: torch.zeros_like(vector) for name, vector in x.items()}
    with torch.inference_mode():
        for row, (sight, words) in enumerate(((x, nothing), (nothing, x), (x, x))):
            weights = host(torch.cat([x["sound"], sight["sight"], words["words"]], dim=1))
            np.testing.assert_allclose(found.scores[row], weights.score[0], atol=1e-6)
        np.testing.assert_allclose(found.consistent, weights.consistent[0], atol=1e-6)
        np.testing.assert_allclose(found.complementary, weights.complementary[0], atol=1e-6)
    assert found.predicted == CLASSES[trained.predict(test.modalities).probability[7].argmax()]


def test_the_division_of_all_rows_is_that_of_each(trained: Trained, test: Dataset) -> None:
    found = division(trained, test.modalities, test.observed)
    assert list(found) == ["sight", "sound", "words"]
    row = int(np.flatnonzero(np.all(list(test.observed.values()), axis=0))[0])
    for host, divided in found.items():
        one = relation(trained, test.modalities, row, host, "", "park")
        assert divided.scores.shape == (len(test.label), len(one.features))
        np.testing.assert_allclose(divided.scores[row], one.scores[-1], atol=1e-6)
        np.testing.assert_allclose(divided.shares[row], [one.consistent.mean(), one.complementary.mean()], atol=1e-6)


def test_the_memory_is_the_heads(trained: Trained) -> None:
    found = attention_memory(trained, "words")
    assert isinstance(trained.network, NMCL)
    memory = trained.network.heads[2].memory().detach()
    np.testing.assert_allclose(found.weights, memory[:, :4], atol=1e-6)
    assert found.classes == CLASSES
    assert found.features == ["0", "1", "2", "3"]
    assert attention_memory(trained, "words", "abcd").features == ["a", "b", "c", "d"]


def test_a_model_without_relations_is_refused(train: Dataset, validation: Dataset) -> None:
    alone = fit("nmcl", train.only(["sight"]), validation.only(["sight"]), CLASSES, quick())
    with pytest.raises(ModelError, match="no relation scores"):
        attention_memory(alone, "sight")
    assert division(alone, {"sight": train.modalities["sight"]}, {"sight": train.observed["sight"]}) == {}
