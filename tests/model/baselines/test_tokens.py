"""Tokens: the decision against a slow transcription, and what becomes of absent modalities."""

import math

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from nmcl.model.base import Features, Mask, Shape
from nmcl.model.baselines.tokens import N_HEADS, Tokens, TokensSettings
from nmcl.model.data import Dataset, Standardizer
from nmcl.model.train import TrainSettings
from nmcl.pipeline.progress import silent
from tests.model.conftest import CLASSES

SHAPE = Shape({"a": 3, "b": 2, "c": 1}, tuple("uvwx"))
MASKED = TokensSettings(hidden=8, missing="masked")
State = dict[str, np.ndarray]


def disturbed(settings: TokensSettings = MASKED, shape: Shape = SHAPE) -> Tokens:
    torch.manual_seed(0)
    network = Tokens(shape, settings).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return network


def rows(n: int = 8, shape: Shape = SHAPE) -> tuple[Features, Mask]:
    """All patterns of absence, if there are eight rows."""
    random = torch.Generator().manual_seed(0)
    features = {name: torch.randn(n, dim, generator=random) for name, dim in shape.dims.items()}
    return features, {name: (torch.arange(n) >> i) % 2 == 0 for i, name in enumerate(shape.dims)}


def normalised(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.asarray((x - x.mean()) / np.sqrt(x.var() + 1e-5) * weight + bias)


def attended(state: State, prefix: str, tokens: list[np.ndarray]) -> list[np.ndarray]:
    """Multi-head self-attention, head by head and token by token."""
    weight, bias = state[f"{prefix}in_proj_weight"], state[f"{prefix}in_proj_bias"]
    width = len(tokens[0])
    size = width // N_HEADS
    queries, keys, values = (
        [weight[i * width : (i + 1) * width] @ t + bias[i * width : (i + 1) * width] for t in tokens] for i in range(3)
    )
    found = []
    for query in queries:
        heads = []
        for h in range(N_HEADS):
            part = slice(h * size, (h + 1) * size)
            power = np.exp([query[part] @ key[part] / math.sqrt(size) for key in keys])
            heads.append(sum(p * value[part] for p, value in zip(power / power.sum(), values, strict=True)))
        found.append(state[f"{prefix}out_proj.weight"] @ np.concatenate(heads) + state[f"{prefix}out_proj.bias"])
    return found


def transcribed(state: State, vectors: dict[int, np.ndarray], n_layers: int = 2) -> np.ndarray:
    """Probabilities of one row, from its modalities by position; those that are absent are not there at all."""
    tokens = [state["kinds"][0]]
    for i, x in vectors.items():
        tokens.append(state[f"maps.{i}.weight"] @ x + state[f"maps.{i}.bias"] + state["kinds"][1 + i])
    for layer in range(n_layers):
        at = f"encoder.layers.{layer}."
        ready = [normalised(t, state[f"{at}norm1.weight"], state[f"{at}norm1.bias"]) for t in tokens]
        tokens = [t + more for t, more in zip(tokens, attended(state, f"{at}self_attn.", ready), strict=True)]
        for j, token in enumerate(tokens):
            hidden = normalised(token, state[f"{at}norm2.weight"], state[f"{at}norm2.bias"])
            hidden = state[f"{at}linear1.weight"] @ hidden + state[f"{at}linear1.bias"]
            hidden = np.array([0.5 * x * (1 + math.erf(x / math.sqrt(2))) for x in hidden])
            tokens[j] = token + state[f"{at}linear2.weight"] @ hidden + state[f"{at}linear2.bias"]
    decided = normalised(tokens[0], state["encoder.norm.weight"], state["encoder.norm.bias"])
    powers = np.exp(state["head.weight"] @ decided + state["head.bias"])
    return np.asarray(powers / powers.sum())


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("missing", ["masked", "completed"])
def test_the_decision_is_that_of_the_transcription(missing: str, gradients: bool) -> None:
    """Torch has two ways to compute it, one for each of whether gradients are asked for."""
    network = disturbed(TypeAdapter(TokensSettings).validate_python({"hidden": 8, "missing": missing}))
    features, observed = rows()
    with torch.set_grad_enabled(gradients):
        found = network(features, observed).log_probability.exp().detach().numpy()
    state = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}
    for n in range(8):
        present = {
            i: features[name][n].double().numpy()
            for i, name in enumerate(SHAPE.dims)
            if missing == "completed" or observed[name][n]
        }
        np.testing.assert_allclose(found[n], transcribed(state, present), atol=1e-5)


def test_what_an_absent_modality_holds_is_never_looked_at() -> None:
    network = disturbed()
    features, observed = rows()
    moved = {name: torch.where(observed[name][:, None], x, x + 100) for name, x in features.items()}
    decided = network(features, observed).log_probability
    torch.testing.assert_close(network(moved, observed).log_probability, decided)
    trusting = disturbed(TokensSettings(hidden=8))
    everything = {name: torch.ones(8, dtype=torch.bool) for name in observed}
    torch.testing.assert_close(
        trusting(features, observed).log_probability, trusting(features, everything).log_probability
    )
    assert not torch.allclose(trusting(moved, observed).log_probability, trusting(features, observed).log_probability)


def test_modality_dropout_leaves_tokens_out_and_never_all() -> None:
    """With so much of it that each row keeps all of its tokens or loses them one by one."""
    torch.manual_seed(0)
    network = disturbed(TokensSettings(hidden=8, dropout=0.0, modality_dropout=0.6, missing="masked")).train()
    n = 4000
    features = {name: torch.randn(1, dim).expand(n, dim) for name, dim in SHAPE.dims.items()}
    observed = {"a": torch.ones(n, dtype=torch.bool), "b": torch.ones(n, dtype=torch.bool)}
    observed["c"] = torch.zeros(n, dtype=torch.bool)
    seen: list[torch.Tensor] = []
    network.encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(~kwargs["src_key_padding_mask"]), with_kwargs=True
    )
    network.loss(features, observed, torch.zeros(n, dtype=torch.int64))
    (present,) = seen
    assert bool(present[:, 0].all())
    assert not bool(present[:, 3].any())
    assert bool(present[:, 1:].any(dim=1).all())
    both, only_a, only_b = (
        float((present[:, 1:3] == torch.tensor(pattern)).all(dim=1).float().mean())
        for pattern in ([True, True], [True, False], [False, True])
    )
    # Kept both: 0.4 * 0.4; lost both, so given back both: 0.6 * 0.6.
    assert both == pytest.approx(0.52, abs=0.03)
    assert only_a == pytest.approx(0.24, abs=0.03)
    assert only_b == pytest.approx(0.24, abs=0.03)


def test_it_decides_from_what_is_left(train: Dataset, validation: Dataset) -> None:
    """Trained with modalities left out, it knows from sight alone which half a video belongs to."""
    standardizer = Standardizer.fit(train)
    seen, held_out = standardizer.standardized(train), standardizer.standardized(validation)
    brief = TrainSettings(max_epochs=15, learning_rate=5e-3, weight_decay=0.1, device="cpu")
    torch.manual_seed(0)
    settings = TokensSettings(hidden=16, missing="masked", modality_dropout=0.4, train=brief)
    network = Tokens(Shape(train.dims, CLASSES), settings)
    network.fit(seen, held_out, 0, silent)
    features = {name: torch.from_numpy(x) for name, x in held_out.modalities.items()}
    only_sight = {name: torch.full((len(held_out),), name == "sight") for name in features}
    with torch.no_grad():
        predicted = network(features, only_sight).log_probability.argmax(dim=1).numpy()
    assert (predicted // 2 == held_out.label // 2).mean() > 0.8  # chance is 0.5


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    for wrong in ({"hidden": N_HEADS + 1}, {"missing": "guessed"}, {"n_layers": 0}, {"modality_dropout": 1.0}):
        with pytest.raises(ValidationError):
            TypeAdapter(TokensSettings).validate_python(wrong)
