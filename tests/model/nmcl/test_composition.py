"""Each way to put parts together, against the sentence that describes it, row by row."""

import numpy as np
import pytest
import torch

from nmcl.model.base import Shape
from nmcl.model.nmcl.composition import COMPOSITIONS, CompositionKind
from nmcl.model.nmcl.cooperative import Components
from nmcl.model.nmcl.nmcl import NMCL, NMCLSettings

DIMS = {"a": 2, "b": 3, "c": 1}
HIDDEN = 4


def parts(n_rows: int = 5) -> list[Components]:
    """Parts of random numbers; weights and auxiliary predictions play no role here."""
    torch.manual_seed(0)
    found = []
    for n_host in DIMS.values():
        n_guest = sum(DIMS.values()) - n_host
        sides = [torch.randn(n_rows, n_host), torch.randn(n_rows, n_guest)]
        others = [torch.randn(n_rows, n_host), torch.randn(n_rows, n_guest)]
        found.append(Components((sides[0], sides[1]), (others[0], others[1]), None, None))  # type: ignore[arg-type]
    return found


def composed(kind: CompositionKind) -> tuple[list[np.ndarray], dict[str, np.ndarray], list[str | None]]:
    torch.manual_seed(1)
    composition = COMPOSITIONS[kind](DIMS, HIDDEN, dropout=0.5).eval()
    with torch.inference_mode():
        vectors = composition(parts())
    assert [vector.shape[1] for vector in vectors] == composition.widths
    values = {name: tensor.numpy() for name, tensor in composition.state_dict().items()}
    return [vector.numpy() for vector in vectors], values, composition.hosts


def enhanced(weight: np.ndarray, bias: np.ndarray, consistent: list[np.ndarray]) -> np.ndarray:
    rows = [np.maximum(weight @ row + bias, 0) for row in np.concatenate(consistent, axis=1)]
    return np.array(rows)


def numbers(components: Components) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(alpha_h, alpha_g), (beta_h, beta_g)."""
    return [x.numpy() for x in components.complementary], [x.numpy() for x in components.consistent]


@pytest.mark.parametrize("kind", ["cooperative", "variant_1", "variant_2"])
def test_one_vector_per_host(kind: CompositionKind) -> None:
    found, values, hosts = composed(kind)
    assert hosts == ["a", "b", "c"]
    for m, (vector, part) in enumerate(zip(found, parts(), strict=True)):
        alpha, beta = numbers(part)
        if kind == "variant_1":
            expected = [alpha[0], beta[0], alpha[1]]
        else:
            own = enhanced(values[f"layers.{m}.weight"], values[f"layers.{m}.bias"], beta)
            expected = [own] if kind == "variant_2" else [alpha[0], own, alpha[1]]
        np.testing.assert_allclose(vector, np.concatenate(expected, axis=1), atol=1e-6)


def test_variant_3_shares_one_enhanced_part() -> None:
    found, values, hosts = composed("variant_3")
    assert hosts == [None, "a", "b", "c"]
    own = [numbers(part) for part in parts()]
    shared = enhanced(values["layer.weight"], values["layer.bias"], [beta[0] for _, beta in own])
    for vector, expected in zip(found, [shared, *(alpha[0] for alpha, _ in own)], strict=True):
        np.testing.assert_allclose(vector, expected, atol=1e-6)


def test_variant_4_has_two_parts_that_add_up_to_the_scored_hosts() -> None:
    found, values, hosts = composed("variant_4")
    assert hosts == [None, None]
    assert values == {}
    own = [numbers(part) for part in parts()]
    np.testing.assert_array_equal(found[0], np.concatenate([alpha[0] for alpha, _ in own], axis=1))
    np.testing.assert_array_equal(found[1], np.concatenate([beta[0] for _, beta in own], axis=1))


@pytest.mark.parametrize("kind", list(COMPOSITIONS))
@pytest.mark.parametrize("names", ["a", "ab", "abcd"])
def test_every_composition_decides_with_any_number_of_modalities(kind: CompositionKind, names: str) -> None:
    shape = Shape({name: 2 + i for i, name in enumerate(names)}, ("x", "y", "z"))
    torch.manual_seed(0)
    network = NMCL(shape, NMCLSettings(composition=kind, hidden=6, missing="masked"))
    features = {name: torch.randn(9, dim) for name, dim in shape.dims.items()}
    observed = {name: torch.rand(9) > 0.4 for name in shape.dims}
    network.loss(features, observed, torch.arange(9) % 3).backward()  # type: ignore[no-untyped-call]
    probability = network.eval()(features, observed).log_probability.exp()
    torch.testing.assert_close(probability.sum(dim=1), torch.ones(9))
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
