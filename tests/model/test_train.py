"""The loop: determinism, the best epoch is kept, and the options do what they say."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from nmcl.model.base import Features, Mask, Output, Shape
from nmcl.model.data import Dataset
from nmcl.model.nmcl.nmcl import NMCL
from nmcl.model.train import Network, TrainSettings, multiplying, predict_batches, train_network
from nmcl.pipeline.errors import ModelError
from nmcl.pipeline.progress import silent
from tests.model.conftest import CLASSES, quick

SETTINGS = TrainSettings(max_epochs=6, patience=2, window=1, device="cpu")
CPU = torch.device("cpu")


class Scripted(Network):
    """Says class 1 for as many of ten rows as its script has for the epoch; a counter is its only weight."""

    def __init__(self, script: list[int]) -> None:
        super().__init__()
        self.script = script
        self.epoch = torch.nn.Parameter(torch.zeros(()))
        self.steps = 0
        self.sizes: list[int] = []

    def loss(self, features: Features, observed: Mask, label: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(label))
        return 0.0 * self.epoch

    def train(self, mode: bool = True) -> "Scripted":
        if mode and self.epoch.requires_grad:
            with torch.no_grad():
                self.epoch += 1
        return super().train(mode)

    def forward(self, features: Features, observed: Mask) -> Output:
        hits = self.script[int(self.epoch.detach()) - 1]
        score = torch.full((len(features["a"]), 2), -1.0)
        score[:, 0] = torch.where(torch.arange(len(score)) < hits, -2.0, 2.0)
        return Output(torch.log_softmax(score, dim=1))


def ones(n: int = 10) -> Dataset:
    return Dataset({"a": np.ones((n, 1))}, {}, np.ones(n, int))


def test_the_best_epoch_is_kept_and_patience_ends_it() -> None:
    network = Scripted([3, 8, 5, 5, 9, 9])
    history = train_network(network, SETTINGS, ones(), ones(), silent)
    assert [epoch.number for epoch in history] == [1, 2, 3, 4]
    assert history[1].validation.micro_f1 == 0.8
    assert float(network.epoch.detach()) == 2.0


def test_a_tie_goes_to_the_lower_validation_loss() -> None:
    network = Scripted([5, 5, 10, 10, 10, 10])
    history = train_network(network, SETTINGS, ones(), ones(), silent)
    assert float(network.epoch.detach()) == 3.0
    assert history[2].validation_loss == history[3].validation_loss


def test_one_lucky_epoch_does_not_win_over_a_good_window() -> None:
    lucky = replace(SETTINGS, window=3, patience=9)
    for script in ([9, 2, 6, 7, 7, 8], [2, 9, 2, 7, 7, 8]):
        network = Scripted(script)
        train_network(network, lucky, ones(), ones(), silent)
        assert float(network.epoch.detach()) == 6.0


def test_small_data_are_cut_into_more_batches() -> None:
    network = Scripted([5] * 6)
    settings = replace(SETTINGS, max_epochs=1, min_steps=5, batch_size=256)
    train_network(network, settings, ones(10), ones(), silent)
    assert network.sizes == [2] * 5


@pytest.mark.parametrize(("n_rows", "sizes"), [(235, [59, 59, 59, 58]), (3, [1, 1, 1]), (1050, [256] * 4 + [26])])
def test_no_batch_of_small_data_is_a_rest_of_a_few_rows(n_rows: int, sizes: list[int]) -> None:
    network = Scripted([5] * 6)
    train_network(network, replace(SETTINGS, max_epochs=1, batch_size=256), ones(n_rows), ones(), silent)
    assert network.sizes == sizes


def test_earlier_versions_had_a_rest() -> None:
    network = Scripted([5] * 6)
    train_network(network, replace(SETTINGS, max_epochs=1, even_batches=False), ones(235), ones(), silent)
    assert network.sizes == [58, 58, 58, 58, 3]


@dataclass(frozen=True)
class Report:
    stage: str
    done: int
    total: int


def test_progress_is_reported_each_epoch(train: Dataset, validation: Dataset) -> None:
    reports: list[Report] = []
    network = NMCL(Shape(train.dims, CLASSES), quick())
    history = network.fit(
        train, validation, 0, lambda stage, done, total, note="": reports.append(Report(stage, done, total))
    )
    assert [t for t in reports if t.stage == "train"] == [Report("train", epoch.number, 8) for epoch in history]


def test_a_loss_that_is_not_finite_stops_with_advice(train: Dataset, validation: Dataset) -> None:
    network = NMCL(Shape(train.dims, CLASSES), quick())
    with torch.no_grad():
        network.heads[0].hidden.weight.fill_(torch.inf)
    with pytest.raises(ModelError, match="learning rate"):
        network.fit(train, validation, 0, silent)


@pytest.mark.parametrize("changes", [{"schedule": "constant"}, {"schedule": "cosine"}, {"matmul": "medium"}])
def test_options_train(changes: dict[str, object], train: Dataset, validation: Dataset) -> None:
    base = TrainSettings(max_epochs=20, device="cpu", learning_rate=1e-2, weight_decay=0.1)
    settings = replace(base, **changes)  # type: ignore[arg-type]
    torch.manual_seed(0)
    history = NMCL(Shape(train.dims, CLASSES), quick(train=settings)).fit(train, validation, 0, silent)
    assert max(epoch.validation.micro_f1 for epoch in history) > 0.5
    assert history[-1].loss < history[0].loss


def test_products_are_as_asked_in_training_and_exact_outside_of_it() -> None:
    used: list[str] = []

    class Watching(Scripted):
        def loss(self, features: Features, observed: Mask, label: torch.Tensor) -> torch.Tensor:
            used.append(torch.get_float32_matmul_precision())
            return super().loss(features, observed, label)

        def forward(self, features: Features, observed: Mask) -> Output:
            used.append(torch.get_float32_matmul_precision())
            return super().forward(features, observed)

    settings = replace(SETTINGS, max_epochs=1, min_steps=1, matmul="medium")
    train_network(Watching([1]), settings, ones(), ones(), silent)
    assert used == ["medium", "highest"]
    with pytest.raises(ModelError), multiplying("medium"):
        raise ModelError("in the middle")
    assert torch.get_float32_matmul_precision() == "highest"


def outputs(network: NMCL, rows: Dataset) -> Iterator[torch.Tensor]:
    for output in predict_batches(network, rows, CPU):
        yield output.log_probability


def test_decisions_do_not_depend_on_the_batch(train: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    network = NMCL(Shape(train.dims, CLASSES), quick())
    whole = torch.cat(list(outputs(network, train)))
    monkeypatch.setattr("model.train.DECIDE_ROWS", 7)
    torch.testing.assert_close(torch.cat(list(outputs(network, train))), whole, rtol=1e-5, atol=1e-5)


def test_cuda_is_asked_for_only_where_it_is(train: Dataset, validation: Dataset) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    network = NMCL(Shape(train.dims, CLASSES), quick(train=TrainSettings(device="cuda")))
    with pytest.raises(ModelError, match="CUDA"):
        network.fit(train, validation, 0, silent)
