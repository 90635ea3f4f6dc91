"""A step replayed on a GPU is the eager one; rows kept there are the rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nmcl.model.base import Shape
from nmcl.model.batches import Batches
from nmcl.model.data import Dataset
from nmcl.model.nmcl.nmcl import NMCL, NMCLSettings
from nmcl.model.step import EAGER_STEPS, RecordedStep, Step
from nmcl.model.train import TrainSettings, train_network
from nmcl.pipeline.progress import silent
from tests.model.conftest import CLASSES, quick

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = [pytest.param("cpu"), pytest.param("cuda", marks=needs_cuda)]
ROWS = np.array([3, 0, 7, 7])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kept_share", [0.0, 0.5])
def test_batches_are_the_rows_asked_for(
    device: str, kept_share: float, train: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmcl.model.batches.KEPT_SHARE", kept_share)
    features, observed, label = Batches(train, torch.device(device))[ROWS]
    assert label.device.type == device
    np.testing.assert_array_equal(label.cpu(), train.label[ROWS])
    assert list(features) == list(observed) == list(train.modalities)
    for name, array in train.modalities.items():
        np.testing.assert_array_equal(features[name].cpu(), array[ROWS])
        np.testing.assert_array_equal(observed[name].cpu(), train.observed[name][ROWS])


def plain_step(network: NMCL) -> Step:
    rate = torch.tensor(1e-2, device="cuda")
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, fused=True, capturable=True)
    return Step(network.loss, list(network.parameters()), optimizer, 5.0)


def without_chance(rank: int | None) -> NMCLSettings:
    return replace(quick(), dropout=0.0, input_dropout=0.0, modality_dropout=0.0, attention_rank=rank)


@needs_cuda
@pytest.mark.parametrize("rank", [None, 2])
def test_a_replayed_step_learns_what_an_eager_one_does(rank: int | None, train: Dataset) -> None:
    batches = Batches(train, torch.device("cuda"))
    sizes = [8] * (EAGER_STEPS + 3) + [5, 8, 8]
    order = [np.random.default_rng(i).choice(len(train), size) for i, size in enumerate(sizes)]
    found = []
    for recorded in (False, True):
        torch.manual_seed(0)
        network = NMCL(Shape(train.dims, CLASSES), without_chance(rank)).cuda().train()
        step = plain_step(network)
        if recorded:
            step = RecordedStep(step, 8)
        losses = [step(*batches[rows]).item() for rows in order]
        found.append((torch.tensor(losses), [p.detach().cpu() for p in network.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert len(set(found[1][0].tolist())) == len(sizes)


@needs_cuda
def test_training_on_a_gpu_repeats_itself_and_falls_with_the_rate(train: Dataset, validation: Dataset) -> None:
    settings = TrainSettings(max_epochs=8, device="cuda", learning_rate=1e-2, weight_decay=0.1)
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        network = NMCL(Shape(train.dims, CLASSES), quick())
        history = train_network(network, settings, train, validation, silent)
        found.append([epoch.loss for epoch in history])
    assert found[0] == found[1]
    assert found[0][-1] < found[0][0]


@needs_cuda
def test_the_rate_of_an_epoch_reaches_a_recorded_step(train: Dataset) -> None:
    network = NMCL(Shape(train.dims, CLASSES), quick()).cuda().train()
    step = RecordedStep(plain_step(network), 8)
    batches = Batches(train, torch.device("cuda"))
    for _ in range(EAGER_STEPS + 1):
        step(*batches[np.arange(8)])
    for group in step.optimizer.param_groups:
        group["lr"].zero_()
    before = [p.detach().clone() for p in network.parameters()]
    step(*batches[np.arange(8)])
    for parameter, was in zip(network.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.detach(), was, rtol=0, atol=0)
