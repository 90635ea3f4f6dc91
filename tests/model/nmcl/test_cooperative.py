"""The gates against formulae worked by hand and slow transcriptions; the cooperative net against eq. 9 to
12."""

import numpy as np
import pytest
import torch

from nmcl.model.nmcl.cooperative import (
    ComplementKind,
    CooperativeNet,
    GateKind,
    Relation,
    RelationSettings,
    divide,
    scores,
)
from tests.model import reference

PLAIN = RelationSettings(gate="sigmoid", complement="exclusive", hidden=None, gain=1.0)


@pytest.mark.parametrize(
    ("kind", "complement", "formula", "threshold"),
    [
        ("paper", "remainder", reference.paper_weights, 0.2),
        ("softmax_scaled", "exclusive", reference.scaled_weights, 1.0),
        ("sigmoid", "exclusive", reference.sigmoid_weights, 0.5),
    ],
)
def test_weights_follow_the_equations(
    kind: GateKind, complement: ComplementKind, formula: object, threshold: float
) -> None:
    logits = np.random.default_rng(0).normal(size=(7, 5)) * 2
    found = divide(scores(torch.from_numpy(logits), kind), torch.tensor(threshold), kind, complement)
    for n, row in enumerate(logits):
        gamma, delta = formula(row, threshold)  # type: ignore[operator]
        np.testing.assert_allclose(found.consistent[n], gamma, atol=1e-7)
        np.testing.assert_allclose(found.complementary[n], delta, atol=1e-7)


def test_weights_by_hand() -> None:
    even = torch.zeros(1, 4, dtype=torch.float64)
    at = torch.tensor
    paper = divide(scores(even, "paper"), at(0.25), "paper", "remainder")
    assert paper.consistent[0, 0] == pytest.approx(0.25 / 2)  # s = 1/4, gate = sigmoid(0)
    assert paper.complementary[0, 0] == pytest.approx(1 - 0.125)
    scaled = divide(scores(even, "softmax_scaled"), at(1.0), "softmax_scaled", "exclusive")
    assert scaled.consistent[0, 0] == pytest.approx(0.5)  # s = 1
    assert scaled.complementary[0, 0] == pytest.approx(0.0)
    sigmoid = divide(scores(even, "sigmoid"), at(0.5), "sigmoid", "exclusive")
    assert sigmoid.consistent[0, 0] == pytest.approx(0.25)
    assert sigmoid.complementary[0, 0] == pytest.approx(0.25)


def test_exclusive_weights_are_never_both_large() -> None:
    score = torch.linspace(0, 1, 101)[None]
    weights = divide(score, torch.tensor(0.5), "sigmoid", "exclusive")
    assert float(torch.minimum(weights.consistent, weights.complementary).max()) <= 0.25
    assert weights.consistent[0, -1] > 0.99
    assert weights.complementary[0, 0] > 0.99


def test_the_paper_gate_is_degenerate_with_many_features() -> None:
    torch.manual_seed(0)
    relation = Relation(512, 612, "paper", "remainder")
    with torch.inference_mode():
        weights = relation(torch.randn(32, 612))
    assert float(weights.consistent.mean()) < 0.005
    assert float(weights.complementary.mean()) > 0.995


@pytest.mark.parametrize("kind", ["sigmoid", "softmax_scaled", "paper"])
@pytest.mark.parametrize("hidden", [None, 3])
def test_the_threshold_and_scores_learn(kind: GateKind, hidden: int | None) -> None:
    torch.manual_seed(0)
    relation = Relation(4, 6, kind, "exclusive", hidden)
    relation(torch.randn(5, 6)).consistent.sum().backward()
    for parameter in relation.parameters():
        assert parameter.grad is not None
        assert float(parameter.grad.abs().sum()) > 0


def test_the_sigmoid_threshold_starts_at_one_half_and_stays_within_0_and_1() -> None:
    relation = Relation(4, 6, "sigmoid", "exclusive")
    assert float(relation.threshold.detach()) == pytest.approx(0.5)
    with torch.no_grad():
        relation.raw_threshold.fill_(50.0)
    assert 0.0 <= float(relation.threshold.detach()) <= 1.0


def test_components_follow_equations_9_and_12() -> None:
    torch.manual_seed(0)
    net = CooperativeNet(3, 5, n_classes=4, dropout=0.5, relation=PLAIN).double().eval()
    host, guest = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    with torch.inference_mode():
        found = net(host, guest)
    value = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    for n in range(7):
        h, g = host[n].numpy(), guest[n].numpy()
        joint = np.concatenate([h, g])
        sides = []
        for side in ("host", "guest"):
            logits = value[f"{side}.outer.weight"] @ joint + value[f"{side}.outer.bias"]
            sides.append(reference.sigmoid_weights(logits, reference.sigmoid(value[f"{side}.raw_threshold"])))
        (gamma_h, delta_h), (gamma_g, delta_g) = sides
        beta_h, beta_g = h * gamma_h, g * gamma_g
        for part, expected in (
            (found.consistent, (beta_h, beta_g)),
            (found.complementary, (h * delta_h, g * delta_g)),
        ):
            for side, vector in zip(part, expected, strict=True):
                np.testing.assert_allclose(side[n], vector, atol=1e-12)
        for side, beta, auxiliary in zip(("host", "guest"), (beta_h, beta_g), found.auxiliary, strict=True):
            logits = value[f"{side}_classifier.weight"] @ beta + value[f"{side}_classifier.bias"]
            np.testing.assert_allclose(auxiliary[n].exp(), reference.softmax(logits), atol=1e-12)
