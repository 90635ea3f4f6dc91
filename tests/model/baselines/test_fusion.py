"""The networks fused early or late: what they decide and their losses against slow transcriptions, and what holds for
all of them."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from nmcl.model.base import Features, Mask, Shape
from nmcl.model.baselines.early_attention import EarlyAttention, EarlyAttentionSettings
from nmcl.model.baselines.early_fusion import EarlyFusion, EarlyFusionSettings
from nmcl.model.baselines.late_attention import LateAttention, LateAttentionSettings
from nmcl.model.baselines.late_fusion import LateFusion, LateFusionSettings, depths
from nmcl.model.baselines.mlp import MLP, MLPSettings
from nmcl.model.baselines.tokens import Tokens, TokensSettings
from nmcl.model.data import Dataset, Standardizer
from nmcl.model.evaluate import f1
from nmcl.model.train import Network, TrainSettings
from nmcl.pipeline.progress import silent
from tests.model.conftest import CLASSES

Build = Callable[[Shape, Any], Network]
NETWORKS: list[tuple[Build, Any]] = [
    (EarlyFusion, EarlyFusionSettings(hidden=16)),
    (LateFusion, LateFusionSettings(hidden=16)),
    (EarlyAttention, EarlyAttentionSettings(hidden=16)),
    (LateAttention, LateAttentionSettings(hidden=16)),
    (MLP, MLPSettings(hidden=16)),
    (Tokens, TokensSettings(hidden=16)),
]
every_network = pytest.mark.parametrize(("build", "settings"), NETWORKS, ids=lambda x: getattr(x, "__name__", ""))
SHAPES = [
    Shape({"": 3}, tuple("ab")),
    Shape({"": 2, "a.b": 1, "forward": 3, "loss": 1, "train": 2}, tuple("abc")),
]


def rows(shape: Shape, n: int = 6, seed: int = 0) -> tuple[Features, Mask]:
    random = torch.Generator().manual_seed(seed)
    features = {name: torch.randn(n, dim, generator=random) for name, dim in shape.dims.items()}
    return features, {name: torch.ones(n, dtype=torch.bool) for name in shape.dims}


def disturbed(build: Build, shape: Shape, settings: Any) -> Network:
    """In double precision, with no number left at its start."""
    torch.manual_seed(0)
    network = build(shape, settings).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64))
    return network


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(logits) / np.exp(logits).sum())


def layered(state: dict[str, np.ndarray], prefix: str, x: np.ndarray) -> np.ndarray:
    """Linear layers in the order of their numbers with ReLU between, of one row, and the softmax of the last."""
    numbers = sorted(int(name[len(prefix) :].split(".")[0]) for name in state if name.startswith(prefix))
    names = [f"{prefix}{number}" for number in dict.fromkeys(numbers)]
    for name in names:
        x = state[f"{name}.weight"] @ x + state[f"{name}.bias"]
        x = softmax(x) if name == names[-1] else np.maximum(x, 0)
    return x


@pytest.mark.parametrize("shape", SHAPES, ids=["one", "five"])
def test_early_fusion_is_three_layers(shape: Shape) -> None:
    network = disturbed(EarlyFusion, shape, EarlyFusionSettings(hidden=4)).eval()
    features, observed = rows(shape)
    features = {name: value.double() for name, value in features.items()}
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    assert len(state) == 6
    label = torch.tensor([0, 1, 0, 1, 1, 0])
    found = network(features, observed).log_probability.detach().exp().numpy()
    nats = []
    for n in range(6):
        expected = layered(state, "classifier.", np.concatenate([features[name][n] for name in shape.dims]))
        np.testing.assert_allclose(found[n], expected, atol=1e-12)
        nats.append(-np.log(expected[label[n]]))
    assert float(network.loss(features, observed, label).detach()) == pytest.approx(np.mean(nats), abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=["one", "five"])
def test_late_fusion_is_the_mean_of_networks_that_learn_alone(shape: Shape) -> None:
    network = disturbed(LateFusion, shape, LateFusionSettings(hidden=4)).eval()
    features, observed = rows(shape)
    features = {name: value.double() for name, value in features.items()}
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    label = torch.tensor([0, 1, 0, 1, 1, 0])
    found = network(features, observed)
    assert list(found.per_modality) == list(shape.dims)
    nats = []
    for n in range(6):
        alone = [layered(state, f"classifiers.{i}.", features[name][n].numpy()) for i, name in enumerate(shape.dims)]
        for name, expected in zip(shape.dims, alone, strict=True):
            np.testing.assert_allclose(found.per_modality[name][n].detach().exp().numpy(), expected, atol=1e-12)
            nats.append(-np.log(expected[label[n]]))
        np.testing.assert_allclose(found.log_probability[n].detach().exp(), np.mean(alone, axis=0), atol=1e-12)
    assert float(network.loss(features, observed, label).detach()) == pytest.approx(np.mean(nats), abs=1e-9)


def test_depth_follows_the_rank_of_the_width() -> None:
    assert depths({"acoustic": 200, "textual": 100, "visual": 2048}) == [2, 1, 3]
    assert depths({"a": 9}) == [1]
    assert depths({"a": 5, "b": 5, "c": 2, "d": 7, "e": 9}) == [2, 3, 1, 3, 3]
    state = LateFusion(Shape({"acoustic": 2, "textual": 1, "visual": 3}, CLASSES), LateFusionSettings()).state_dict()
    weights = [name.split(".")[1] for name in state if name.endswith("weight")]
    assert [weights.count(branch) for branch in "012"] == [3, 2, 4]  # with the prediction layer


@pytest.mark.parametrize("shape", SHAPES, ids=["one", "five"])
def test_attention_is_fused_like_the_rest(shape: Shape) -> None:
    """The attention itself is tested in its own file; here what it is put on, and how the branches are averaged."""
    features, observed = rows(shape)
    early = EarlyAttention(shape, EarlyAttentionSettings(hidden=4)).eval()
    side_by_side = torch.cat([features[name] for name in shape.dims], dim=1)
    expected = torch.softmax(early.classifier(side_by_side), dim=1)
    torch.testing.assert_close(early(features, observed).log_probability.exp(), expected)
    assert [tuple(layer.weight.shape) for layer in early.classifier.hidden] == [(4, side_by_side.shape[1]), (4, 4)]
    late = LateAttention(shape, LateAttentionSettings(hidden=4)).eval()
    found = late(features, observed)
    alone = [
        torch.softmax(classifier(features[name]), dim=1)
        for classifier, name in zip(late.classifiers, shape.dims, strict=True)
    ]
    torch.testing.assert_close(found.log_probability.exp(), torch.stack(alone).mean(dim=0))
    assert list(found.per_modality) == list(shape.dims)
    torch.testing.assert_close(torch.stack([*found.per_modality.values()]).exp(), torch.stack(alone))


def test_mlp_is_linear_norm_relu_twice() -> None:
    shape = SHAPES[1]
    network = disturbed(MLP, shape, MLPSettings(hidden=6, dropout=0.0, label_smoothing=0.2))
    features, observed = rows(shape)
    features = {name: value.double() for name, value in features.items()}
    state = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    label = np.array([0, 1, 2, 1, 1, 0])
    x = np.concatenate([features[name].numpy() for name in shape.dims], axis=1)
    for linear, norm, width in (("0", "1", 6), ("4", "5", 3)):
        x = x @ state[f"classifier.{linear}.weight"].T + state[f"classifier.{linear}.bias"]
        assert x.shape == (6, width)
        x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
        x = np.maximum(x * state[f"classifier.{norm}.weight"] + state[f"classifier.{norm}.bias"], 0)
    logits = x @ state["classifier.8.weight"].T + state["classifier.8.bias"]
    log_probability = np.log([softmax(row) for row in logits])
    target = 0.8 * np.eye(3)[label] + 0.2 / 3
    found = float(network.loss(features, observed, torch.from_numpy(label)).detach())
    assert found == pytest.approx(-(target * log_probability).sum(axis=1).mean(), abs=1e-9)


@every_network
@pytest.mark.parametrize("shape", SHAPES, ids=["one", "five"])
def test_any_modalities_under_any_name(build: Build, settings: Any, shape: Shape) -> None:
    network = build(shape, settings)
    features, observed = rows(shape)
    with torch.no_grad():
        found = network.eval()(features, observed)
    for log_probability in (found.log_probability, *found.per_modality.values()):
        assert log_probability.shape == (6, shape.n_classes)
        torch.testing.assert_close(log_probability.exp().sum(dim=1), torch.ones(6))
    with torch.device("meta"):
        state = build(shape, settings).state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in network.state_dict().items()
    }


@every_network
def test_every_parameter_learns(build: Build, settings: Any) -> None:
    torch.manual_seed(0)
    network = build(SHAPES[1], settings)
    network.loss(*rows(SHAPES[1], 40), torch.arange(40) % 3).backward()  # type: ignore[no-untyped-call]
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []


@every_network
def test_dropout_reaches_the_loss_and_not_the_decision(build: Build, settings: Any) -> None:
    def losses(dropout: float) -> set[float]:
        quiet = {"modality_dropout": 0.0} if hasattr(settings, "modality_dropout") else {}
        torch.manual_seed(0)
        network = build(SHAPES[1], replace(settings, dropout=dropout, **quiet))
        features, observed = rows(SHAPES[1])
        found = {float(network.loss(features, observed, torch.arange(6) % 3).detach()) for _ in range(3)}
        decided = [network.eval()(features, observed).log_probability for _ in range(2)]
        torch.testing.assert_close(decided[0], decided[1], rtol=0, atol=0)
        return found

    assert len(losses(0.5)) == 3
    assert len(losses(0.0)) == 1


@every_network
def test_it_learns_and_repeats_itself(build: Build, settings: Any, train: Dataset, validation: Dataset) -> None:
    """Also with a last batch of a single row: 161 rows in batches of 40."""
    index = np.r_[np.arange(160), 0]
    longer = Dataset({name: x[index] for name, x in train.modalities.items()}, {}, train.label[index])
    standardizer = Standardizer.fit(longer)
    seen, held_out = standardizer.standardized(longer), standardizer.standardized(validation)
    brief = TrainSettings(max_epochs=15, learning_rate=1e-2, weight_decay=0.1, device="cpu")
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        network = build(Shape(longer.dims, CLASSES), replace(settings, hidden=32, train=brief))
        history = network.fit(seen, held_out, 3, silent)
        assert all(np.isfinite(epoch.validation_loss) for epoch in history)
        features = {name: torch.from_numpy(x) for name, x in held_out.modalities.items()}
        observed = {name: torch.from_numpy(mask) for name, mask in held_out.observed.items()}
        with torch.no_grad():
            found.append(network(features, observed).log_probability)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert f1(held_out.label, found[0].argmax(dim=1).numpy())[1] > 0.5  # chance is 0.25


@every_network
def test_settings_pass_through_json_and_are_checked(build: Build, settings: Any) -> None:
    adapter = TypeAdapter(type(settings))
    assert adapter.validate_json(adapter.dump_json(settings)) == settings
    for wrong in ({"dropout": 1.0}, {"hidden": 0}, {"train": {"learning_rate": 0}}):
        with pytest.raises(ValidationError):
            adapter.validate_python(wrong)


def test_every_network_differs_from_every_other() -> None:
    features, observed = rows(SHAPES[1])
    decided = []
    for build, settings in NETWORKS:
        torch.manual_seed(0)
        decided.append(build(SHAPES[1], settings).eval()(features, observed).log_probability)
    for one, other in itertools.combinations(decided, 2):
        assert not torch.allclose(one, other, atol=1e-3)
