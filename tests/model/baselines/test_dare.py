"""DARE: its three terms against slow transcriptions, the draw of partners against its probabilities, and the file of
outside sounds."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from nmcl.model.base import Features, Mask, Shape
from nmcl.model.baselines import dare
from nmcl.model.baselines.dare import (
    Dare,
    DareLite,
    DareLiteSettings,
    DareSettings,
    affinity,
    median_distance,
    partners,
    similarity,
)
from nmcl.model.baselines.tagged_sounds import read_tagged_sounds
from nmcl.model.data import Dataset, Standardizer
from nmcl.model.evaluate import f1
from nmcl.model.train import TrainSettings
from nmcl.pipeline.errors import ModelError, StoreError
from nmcl.pipeline.progress import silent
from tests.model.conftest import CLASSES

SHAPE = Shape({"a": 3, "b": 2}, tuple("uvw"))
QUICK = TrainSettings(max_epochs=12, device="cpu", learning_rate=3e-3)
SMALL = DareLiteSettings(n_concepts=5, hidden=16, train=QUICK)


def rows(n: int = 6, seed: int = 0, shape: Shape = SHAPE) -> tuple[Features, Mask]:
    random = torch.Generator().manual_seed(seed)
    features = {name: torch.randn(n, dim, generator=random) for name, dim in shape.dims.items()}
    return features, {name: torch.ones(n, dtype=torch.bool) for name in shape.dims}


def standardized(*parts: Dataset) -> list[Dataset]:
    standardizer = Standardizer.fit(parts[0])
    return [standardizer.standardized(part) for part in parts]


def decided(model: DareLite, part: Dataset) -> np.ndarray:
    features = {name: torch.from_numpy(array) for name, array in part.modalities.items()}
    with torch.no_grad():
        return np.asarray(model(features, {}).log_probability.exp().numpy())


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_the_decision_and_the_losses_are_those_of_the_equations() -> None:
    """Four rows, and so many partners that every allowed pair is drawn."""
    torch.manual_seed(0)
    model = DareLite(SHAPE, replace(SMALL, dropout=0.0, n_partners=4, similarity_weight=0.7, cross_entropy_weight=0.3))
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64))
    features, observed = rows(4)
    features = {name: tensor.double() for name, tensor in features.items()}
    label = [0, 2, 0, 2]
    value = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    concepts, squares, nats = [], 0.0, 0.0
    probability = model(features, observed).log_probability.exp().detach().numpy()
    for n in range(4):
        parts = [
            value[f"maps.{i}.weight"] @ features[name][n].numpy() + value[f"maps.{i}.bias"]
            for i, name in enumerate("ab")
        ]
        concepts.append(np.concatenate(parts))
        hidden = np.maximum(value["hidden.weight"] @ concepts[-1] + value["hidden.bias"], 0)
        logits = value["venues.weight"] @ hidden + value["venues.bias"]
        expected = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(probability[n], expected, atol=1e-12)
        squares += 0.5 * sum((float(k == label[n]) - expected[k]) ** 2 for k in range(3))
        nats -= math.log(expected[label[n]])
    pairs = [
        log_sigmoid((1 if label[i] == label[j] else -1) * float(concepts[i] @ concepts[j]) / math.sqrt(10))
        for i in range(4)
        for j in range(4)
        if i != j
    ]
    expected_loss = squares / 4 + 0.3 * nats / 4 - 0.7 * sum(pairs) / len(pairs)
    found = model.loss(features, observed, torch.tensor(label))
    assert float(found.detach()) == pytest.approx(expected_loss, abs=1e-9)


def test_affinity_is_that_of_the_equation() -> None:
    features, _ = rows(5)
    spread = torch.tensor([2.0, 0.5])
    found = affinity(list(features.values()), spread)
    for i in range(5):
        for j in range(5):
            terms = [
                math.exp(-(float((x[i] - x[j]).norm()) ** 2) / float(delta) ** 2)
                for x, delta in zip(features.values(), spread, strict=True)
            ]
            assert float(found[i, j]) == pytest.approx(sum(terms) / 2, abs=1e-5)


def test_median_distance() -> None:
    assert float(median_distance(torch.tensor([[0.0], [1.0], [3.0]]))) == 2.0
    assert float(median_distance(torch.zeros(5, 2))) == 1.0
    assert float(median_distance(torch.zeros(1, 2))) == 1.0


def test_the_distances_of_many_rows_are_those_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dare, "SPREAD_ROWS", 2)
    found = {float(median_distance(torch.tensor([[0.0], [1.0], [3.0]]))) for _ in range(50)}
    assert found == {1.0, 2.0, 3.0}


def test_partners_are_drawn_with_the_kernel_s_probability() -> None:
    torch.manual_seed(0)
    kernel = torch.tensor([0.5, 0.1, 0.3, 0.2, 0.4])
    allowed = torch.tensor([True, True, False, True, True])
    n = 20_000
    columns, drawn = partners(kernel.expand(n, 5), allowed.expand(n, 5), 2)
    assert bool(drawn.all())
    weight = (kernel * allowed).double()
    first = weight / weight.sum()
    share = torch.bincount(columns[:, 0], minlength=5) / n
    torch.testing.assert_close(share.double(), first, atol=0.015, rtol=0)
    # Of two drawn without replacement: p_j + sum_i p_i p_j / (1 - p_i).
    both = torch.stack(
        [first[j] + sum(first[i] * first[j] / (1 - first[i]) for i in range(5) if i != j) for j in range(5)]
    )
    torch.testing.assert_close(torch.bincount(columns.ravel(), minlength=5).double() / n, both, atol=0.015, rtol=0)


def test_only_allowed_partners_are_drawn() -> None:
    allowed = torch.tensor([[False, True, False], [False, False, False], [True, True, False]])
    columns, drawn = partners(torch.zeros(3, 3), allowed, 9)  # a kernel of zeros, as of rows far apart
    assert [sorted(c[d].tolist()) for c, d in zip(columns, drawn, strict=True)] == [[1], [], [0, 1]]


@pytest.mark.parametrize("label", [[0], [0, 1], [1, 1]])
def test_a_row_without_partners_is_no_problem(label: list[int]) -> None:
    concepts = torch.ones(len(label), 4, requires_grad=True)
    found = similarity(concepts, torch.ones(len(label), len(label)), torch.tensor(label), 3)
    found.backward()  # type: ignore[no-untyped-call]
    expected = {(0,): 0.0, (0, 1): -log_sigmoid(-2.0), (1, 1): -log_sigmoid(2.0)}[tuple(label)]
    assert float(found.detach()) == pytest.approx(expected, abs=1e-6)
    assert bool(torch.isfinite(concepts.grad).all())


def test_similarity_draws_one_class_together_and_others_apart() -> None:
    torch.manual_seed(0)
    label = torch.arange(40) % 4
    concepts = torch.randn(40, 8, requires_grad=True)
    optimizer = torch.optim.Adam([concepts], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        similarity(concepts, torch.ones(40, 40), label, 5).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    product = (concepts @ concepts.T).detach()
    same = label[:, None] == label
    assert float(product[same].min()) > 0 > float(product[~same].max())


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    model = DareLite(SHAPE, SMALL)
    model.loss(*rows(32), torch.arange(32) % 3).backward()  # type: ignore[no-untyped-call]
    silent_ones = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent_ones == []


def test_the_spread_is_that_of_the_training_rows(train: Dataset, validation: Dataset) -> None:
    seen, held_out = standardized(train, validation)
    model = DareLite(Shape(train.dims, CLASSES), replace(SMALL, train=replace(QUICK, max_epochs=1)))
    model.fit(seen, held_out, 0, silent)
    for found, array in zip(model.spread, seen.modalities.values(), strict=True):
        distance = [np.linalg.norm(a - b) for i, a in enumerate(array) for b in array[:i]]
        assert float(found) == pytest.approx(float(np.median(distance)), rel=1e-3)


def test_any_modalities_and_no_memory() -> None:
    for dims in ({"": 2}, {"": 2, "a.b": 1, "forward": 3, "loss": 1}):
        shape = Shape(dims, tuple("ab"))
        assert DareLite(shape, SMALL)(*rows(5, shape=shape)).log_probability.shape == (5, 2)
        with torch.device("meta"):
            state = Dare(shape, DareSettings()).state_dict()
        assert {tensor.dtype for tensor in state.values()} == {torch.float32}
        assert state["maps.0.weight"].shape == (313, 2)


def sounds(folder: Path, **arrays: np.ndarray) -> str:
    path = folder / "sounds.npz"
    np.savez(path, **arrays)
    return str(path)


def outside(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Sounds at another level than the world's, and two tags that are linear in them."""
    random = np.random.default_rng(7)
    tags = random.integers(0, 2, (n, 2)).astype(np.float32)
    return 100 + 7 * (tags + 0.1 * random.normal(size=(n, 2))), tags


def test_outside_sounds_teach_the_concepts(train: Dataset, validation: Dataset, tmp_path: Path) -> None:
    features, tags = outside()
    tags = np.concatenate([tags, np.zeros((200, 3), np.float32)], axis=1)
    path = sounds(tmp_path, sound=features, tags=tags)
    # A window over all epochs keeps the last one, in which the concepts have been learned.
    long = TrainSettings(max_epochs=60, window=60, device="cpu", weight_decay=0.0, learning_rate=1e-2)
    settings = DareSettings(n_concepts=5, hidden=64, sounds=path, similarity_weight=0.1, concept_weight=3.0, train=long)
    torch.manual_seed(0)
    seen, held_out = standardized(train, validation)
    model = Dare(Shape(train.dims, CLASSES), settings)
    history = model.fit(seen, held_out, 0, silent)
    assert len(history) > 0
    heard = torch.from_numpy(((features - features.mean(axis=0)) / features.std(axis=0)).astype(np.float32))
    with torch.no_grad():
        found = model.maps[1](heard).numpy()
    assert ((found > 0.5) == (tags > 0.5)).all(axis=1).mean() > 0.9  # chance is 0.25
    assert f1(held_out.label, decided(model, held_out).argmax(axis=1))[1] > 0.4
    Path(path).unlink()
    again = Dare(Shape(train.dims, CLASSES), settings)
    again.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(decided(again.eval(), held_out), decided(model, held_out))


def test_the_concept_term_is_that_of_the_equation() -> None:
    torch.manual_seed(0)
    model = Dare(SHAPE, DareSettings(n_concepts=2, hidden=4, dropout=0.0, similarity_weight=0.0, concept_weight=0.5))
    features, observed = rows(3)
    label = torch.tensor([0, 1, 2])
    with pytest.raises(ModelError, match="call fit"):
        model.loss(features, observed, label)
    without = float(DareLite.loss(model, features, observed, label).detach())
    heard, tags = torch.randn(1, 2), torch.tensor([[1.0, 0.0]])
    model._outside = model.maps[1], heard, tags
    miss: Tensor = model.maps[1].weight @ heard[0] + model.maps[1].bias - tags[0]
    expected = without + 0.5 * float((miss**2).sum().detach())
    assert float(model.loss(features, observed, label).detach()) == pytest.approx(expected, rel=1e-5)


def test_dare_without_sounds_points_to_dare_lite(train: Dataset, validation: Dataset) -> None:
    with pytest.raises(ModelError, match="dare_lite"):
        Dare(Shape(train.dims, CLASSES), DareSettings()).fit(train, validation, 0, silent)


def test_labels_stand_for_one_concept_each(tmp_path: Path) -> None:
    path = Path(sounds(tmp_path, sound=np.array([[1, 2], [3, 2], [5, 2]]), label=np.array([2, 0, 2])))
    found = read_tagged_sounds(path, {"sight": 3, "sound": 2}, 4)
    assert found.modality == "sound"
    np.testing.assert_array_equal(found.tags, [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_allclose(found.features, [[-math.sqrt(1.5), 0], [0, 0], [math.sqrt(1.5), 0]], atol=1e-6)


X, TAGS = np.ones((3, 2)), np.eye(3, 4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"sound": X}, "expected two arrays"),
        ({"tags": TAGS}, "expected two arrays"),
        ({"sound": X, "tags": TAGS, "label": np.zeros(3, int)}, "expected two arrays"),
        ({"sound": X, "sight": X, "tags": TAGS}, "expected two arrays"),
        ({"smell": X, "tags": TAGS}, "expected two arrays"),
        ({"sound": X[:, :1], "tags": TAGS}, r"expected numbers of shape \(N', 2\)"),
        ({"sound": X[0], "tags": TAGS}, r"expected numbers of shape \(N', 2\)"),
        ({"sound": X[:0], "tags": TAGS[:0]}, "N' >= 1"),
        ({"sound": X.astype(str), "tags": TAGS}, "expected numbers"),
        ({"sound": X + np.nan, "tags": TAGS}, "not finite"),
        ({"sound": X, "tags": TAGS[:, :3]}, r"shape \(3, 4\).*set n_concepts, now 4"),
        ({"sound": X, "tags": TAGS[:2]}, r"shape \(3, 4\)"),
        ({"sound": X, "tags": 2 * TAGS}, "0 to 1"),
        ({"sound": X, "tags": TAGS + np.nan}, "0 to 1"),
        ({"sound": X, "label": np.array([0, 1, 4])}, "3 integers of 0 to 3"),
        ({"sound": X, "label": np.array([0, 1, -1])}, "3 integers of 0 to 3"),
        ({"sound": X, "label": np.array([0.0, 1, 2])}, "3 integers of 0 to 3"),
        ({"sound": X, "label": np.array([[0], [1], [2]])}, "3 integers of 0 to 3"),
        ({"sound": X.astype(object), "tags": TAGS}, "cannot be read"),
    ],
)
def test_sounds_that_do_not_fit_are_refused(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    with pytest.raises((ModelError, StoreError), match=message):
        read_tagged_sounds(Path(sounds(tmp_path, **arrays)), {"sight": 2, "sound": 2}, 4)


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    whole = Path(sounds(tmp_path, sound=X, tags=TAGS)).read_bytes()
    np.save(tmp_path / "single.npy", X)
    contents = {"none.npz": None, "text.npz": b"sounds", "empty.npz": b"", "cut.npz": whole[: len(whole) // 2]}
    for name, content in contents.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError, match=r"cannot be read|no file"):
            read_tagged_sounds(tmp_path / name, {"sound": 2}, 4)
    with pytest.raises(StoreError, match="cannot be read"):
        read_tagged_sounds(tmp_path / "single.npy", {"sound": 2}, 4)


def test_settings_pass_through_json() -> None:
    for choice in (SMALL, DareSettings(sounds="sounds.npz", n_concepts=7)):
        adapter = TypeAdapter(type(choice))
        assert adapter.validate_json(adapter.dump_json(choice)) == choice
