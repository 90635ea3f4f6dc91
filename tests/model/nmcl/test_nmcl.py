"""The assembled model: the whole of eq. 2 to 20 against a transcription, missing modalities, one modality."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nmcl.model.base import Features, Mask, Shape
from nmcl.model.nmcl.nmcl import DEVIATIONS, NMCL, PAPER, NMCLSettings, as_printed
from tests.model import reference

SHAPE = Shape({"a": 3, "b": 2, "c": 4}, tuple("abcde"))
SMALL = replace(NMCLSettings(), hidden=6, relation_hidden=None, modality_dropout=0.0)


def rows(n: int = 4, shape: Shape = SHAPE, seed: int = 0) -> tuple[Features, Mask]:
    random = torch.Generator().manual_seed(seed)
    features = {name: torch.randn(n, dim, generator=random) for name, dim in shape.dims.items()}
    return features, {name: torch.ones(n, dtype=torch.bool) for name in shape.dims}


def network(settings: NMCLSettings, shape: Shape = SHAPE, seed: int = 0) -> NMCL:
    torch.manual_seed(seed)
    return NMCL(shape, settings)


def transcription(value: dict[str, np.ndarray], x: list[np.ndarray]) -> tuple[list[np.ndarray], float]:
    """The branches' distributions and eq. 14 of one row, as the paper prints them (one linear layer per
    score)."""
    branches, disagreement = [], 0.0
    for m, host in enumerate(x):
        guest = np.concatenate([other for i, other in enumerate(x) if i != m])
        joint, net = np.concatenate([host, guest]), f"nets.{m}."
        alpha, beta, auxiliary = [], [], []
        for side, vector in (("host", host), ("guest", guest)):
            logits = value[f"{net}{side}.outer.weight"] @ joint + value[f"{net}{side}.outer.bias"]
            gamma, delta = reference.paper_weights(logits, float(value[f"{net}{side}.raw_threshold"]))
            alpha.append(vector * delta)
            beta.append(vector * gamma)
            matrix = value[f"{net}{side}_classifier.weight"], value[f"{net}{side}_classifier.bias"]
            auxiliary.append(reference.softmax(matrix[0] @ beta[-1] + matrix[1]))
        layer = f"composition.layers.{m}."
        enhanced = value[f"{layer}weight"] @ np.concatenate(beta) + value[f"{layer}bias"]
        augmented = np.concatenate([alpha[0], np.maximum(enhanced, 0), alpha[1]])
        logits = reference.head_logits(
            augmented[None],
            1 + value[f"heads.{m}.memory_offset"],
            value[f"heads.{m}.hidden.weight"],
            value[f"heads.{m}.hidden.bias"],
            value["class_vectors.0.weight"],
            value["class_vectors.0.bias"],
        )
        branches.append(reference.softmax(logits[0]))
        disagreement += reference.paper_divergence(auxiliary[0], auxiliary[1])
    return branches, disagreement


def test_the_paper_model_is_the_paper() -> None:
    model = network(replace(PAPER, hidden=6, dropout=0.0, input_dropout=0.0)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64))
    features, observed = rows()
    features = {name: tensor.double() for name, tensor in features.items()}
    label = torch.tensor([0, 4, 2, 2])
    value = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    output, loss, total = model(features, observed), model.loss(features, observed, label), 0.0
    for n in range(4):
        branches, disagreement = transcription(value, [features[name][n].numpy() for name in SHAPE.dims])
        for name, branch in zip(SHAPE.dims, branches, strict=True):
            np.testing.assert_allclose(output.per_modality[name][n].exp().detach(), branch, atol=1e-10)
        mixture = sum(branches) / 3
        np.testing.assert_allclose(output.log_probability[n].exp().detach(), mixture, atol=1e-10)
        total += -np.log(mixture[label[n]]) + disagreement
    assert float(loss.detach()) == pytest.approx(total / 4, abs=1e-6)  # shares are float32


@pytest.mark.parametrize("gate", ["sigmoid", "softmax_scaled", "paper"])
@pytest.mark.parametrize("rank", [None, 2])
def test_every_parameter_learns(gate: str, rank: int | None) -> None:
    settings = replace(SMALL, gate=gate, attention_rank=rank, consistency_weight=0.1, auxiliary_weight=0.1)
    model = network(settings)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.loss(*rows(32), torch.arange(32) % 5).backward()  # type: ignore[no-untyped-call]
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_any_number_of_modalities() -> None:
    for names in ("a", "ab", "abcd"):
        shape = Shape({name: 2 + i for i, name in enumerate(names)}, tuple("abc"))
        output = network(SMALL, shape).eval()(*rows(5, shape))
        torch.testing.assert_close(output.log_probability.exp().sum(dim=1), torch.ones(5))
        assert list(output.per_modality) == list(names)


def test_a_modality_may_be_called_anything() -> None:
    shape = Shape({"": 2, "a.b": 1, "forward": 3}, tuple("ab"))
    assert list(network(SMALL, shape)(*rows(2, shape)).per_modality) == ["", "a.b", "forward"]


def test_a_masked_modality_has_no_influence() -> None:
    model = network(replace(SMALL, missing="masked")).eval()
    features, observed = rows()
    observed["b"][:2] = False
    other = {**features, "b": features["b"].clone()}
    other["b"][:2] += 7.0
    first, second = model(features, observed), model(other, observed)
    torch.testing.assert_close(first.log_probability, second.log_probability)
    left = torch.stack([first.per_modality["a"], first.per_modality["c"]]).exp().mean(dim=0)
    torch.testing.assert_close(first.log_probability[:2].exp(), left[:2])


def test_a_completed_modality_is_trusted() -> None:
    model = network(replace(SMALL, missing="completed")).eval()
    features, observed = rows()
    whole = model(features, observed).log_probability
    torch.testing.assert_close(model(features, {name: ~mask for name, mask in observed.items()}).log_probability, whole)


def test_a_row_without_any_modality_still_gets_a_decision() -> None:
    model = network(replace(SMALL, missing="masked")).eval()
    features, observed = rows()
    nothing = {name: ~mask for name, mask in observed.items()}
    probability = model(features, nothing).log_probability.exp()
    torch.testing.assert_close(probability.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(probability[0], probability[1])


def test_modality_dropout_never_drops_all_and_only_in_training() -> None:
    model = network(replace(SMALL, modality_dropout=0.9, dropout=0.0, input_dropout=0.0))
    features, observed = rows(200)
    observed["a"][:100] = False
    dropped, mask = model._drop_modalities(features, observed)
    left = torch.stack(list(mask.values()), dim=1)
    assert bool(left.any(dim=1).all())
    assert 0 < float(left.float().mean()) < 0.8
    assert bool((dropped["b"][~mask["b"]] == 0).all())
    torch.testing.assert_close(dropped["b"][mask["b"]], features["b"][mask["b"]])
    torch.testing.assert_close(model(features, observed).log_probability, model(features, observed).log_probability)


def test_diagnostics_are_shares_and_norms() -> None:
    found = network(SMALL).eval().diagnose(*rows(64))["gates"]
    assert list(found) == ["a", "b", "c"]
    for host in found.values():
        assert host["divergence"] >= 0
        for side in (host["host"], host["guest"]):
            assert side["open"] + side["shut"] + side["undecided"] == pytest.approx(1.0)
            assert side["consistent_norm"] ** 2 + side["complementary_norm"] ** 2 == pytest.approx(1.0, abs=1e-5)
            assert 0 <= side["mean_gamma"] <= 1


def test_all_departures_undone_are_the_paper() -> None:
    undone = NMCLSettings()
    for deviation, names in DEVIATIONS.items():
        alone = as_printed(deviation)
        assert {n for n in names if getattr(alone, n) != getattr(NMCLSettings(), n)} == set(names)
        undone = replace(undone, **{name: getattr(alone, name) for name in names})
    assert undone == PAPER
