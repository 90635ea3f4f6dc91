"""TRUMANN: its objective against a direct evaluation, each step against calculus or a generic solver, the model
against a transcription of its prediction."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy.optimize import minimize
from scipy.special import log_softmax

from nmcl.model.base import Shape
from nmcl.model.baselines.tree_guided import (
    EPSILON,
    Moments,
    Penalties,
    Solution,
    Tree,
    node_weights,
    objective,
    step_projection,
    step_space,
    step_tasks,
    sweeps,
)
from nmcl.model.baselines.trumann import Trumann, TrumannSettings, tree_members
from nmcl.model.data import Dataset, Standardizer
from nmcl.model.evaluate import f1
from nmcl.pipeline.progress import silent
from tests.model.conftest import CLASSES

Rows = tuple[list[np.ndarray], np.ndarray]
"""The X^s and Y."""


def problem(
    seed: int, n: int, dims: list[int], n_classes: int, exponents: tuple[int, int] = (-2, 1)
) -> tuple[Rows, Moments, Tree, Penalties]:
    random = np.random.default_rng(seed)
    x = [random.normal(size=(n, dim)) for dim in dims]
    y = np.eye(n_classes)[random.integers(0, n_classes, n)]
    z = np.concatenate([*x, y], axis=1)
    ends = np.cumsum(dims)
    blocks = tuple(slice(int(end - dim), int(end)) for end, dim in zip(ends, dims, strict=True))
    names = tuple(map(str, range(n_classes)))
    members = tree_members((names[:2], names[1:]), names)
    tree = Tree(members, random.uniform(0.2, 1, len(members)))
    penalties = Penalties(*map(float, 10.0 ** random.uniform(*exponents, 3)))
    return (x, y), Moments(z.T @ z, blocks), tree, penalties


def direct(rows: Rows, solution: Solution, tree: Tree, penalties: Penalties) -> float:
    """The objective as printed (eq. 4.4, 4.8 and 4.12), with B itself and a loop over nodes and rows."""
    x, y = rows
    z = np.concatenate([*x, y], axis=1)
    b, w = z @ solution.space, solution.tasks
    value, start = np.linalg.norm(y - b @ w) ** 2, 0
    for block in x:
        a = solution.projection[start : start + block.shape[1]]
        start += block.shape[1]
        value += penalties.space * np.linalg.norm(block @ a - b) ** 2 + penalties.projection * np.linalg.norm(a) ** 2
    norms = 0.0
    for member, weight in zip(tree.members, tree.weights, strict=True):
        for k in range(len(w)):
            norms += weight * np.sqrt(sum(w[k, t] ** 2 for t in range(w.shape[1]) if member[t]) + EPSILON**2)
    return float(value + penalties.tree * norms**2) / 2


shapes = st.tuples(
    st.integers(0, 99), st.integers(1, 30), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(2, 4)
)


@given(shapes, st.integers(1, 6))
@settings(max_examples=40)
def test_every_step_lowers_the_printed_objective(shape: tuple[int, int, list[int], int], width: int) -> None:
    rows, moments, tree, penalties = problem(*shape)
    random = np.random.default_rng(shape[0])
    n_all, n_classes = len(moments.gram), shape[3]
    now = Solution(
        random.normal(size=(n_all - n_classes, width)),
        random.normal(size=(n_all, width)),
        random.normal(size=(width, n_classes)),
    )
    value = direct(rows, now, tree, penalties)
    for _ in range(4):
        for name in ("projection", "space", "tasks"):
            if name == "projection":
                now = replace(now, projection=step_projection(moments, now.space, penalties))
            elif name == "space":
                now = replace(now, space=step_space(moments, now.projection, now.tasks, penalties))
            else:
                now = replace(now, tasks=step_tasks(moments, now.space, now.tasks, tree, penalties))
            assert objective(moments, now, tree, penalties) == pytest.approx(direct(rows, now, tree, penalties))
            lower = direct(rows, now, tree, penalties)
            assert lower <= value * (1 + 1e-9)
            value = lower


@given(shapes)
@settings(max_examples=20)
def test_sweeps_descend_and_say_so(shape: tuple[int, int, list[int], int]) -> None:
    rows, moments, tree, penalties = problem(*shape)
    start = np.random.default_rng(1).uniform(size=(5, shape[3]))
    solution, history = sweeps(moments, tree, penalties, start, max_sweeps=7, tolerance=0.0)
    assert 1 <= len(history) <= 7
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in pairwise(history))
    assert history[-1] == pytest.approx(direct(rows, solution, tree, penalties))


@given(shapes)
@settings(max_examples=30)
def test_extreme_penalties_are_solved_too(shape: tuple[int, int, list[int], int]) -> None:
    _, moments, tree, penalties = problem(*shape, exponents=(-6, 6))
    start = np.random.default_rng(1).uniform(size=(5, shape[3]))
    solution, history = sweeps(moments, tree, penalties, start, max_sweeps=10, tolerance=0.0)
    assert all(np.isfinite(array).all() for array in (solution.projection, solution.space, solution.tasks))
    assert np.isfinite(history).all()


def test_a_loose_tolerance_stops_early() -> None:
    _, moments, tree, penalties = problem(0, 20, [3, 2], 3)
    start = np.ones((4, 3))
    assert len(sweeps(moments, tree, penalties, start, 50, tolerance=1.0)[1]) == 2


def gradient(function: object, x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        moved = [x.copy(), x.copy()]
        moved[0][i] += step
        moved[1][i] -= step
        found[i] = (function(moved[0]) - function(moved[1])) / (2 * step)  # type: ignore[operator]
    return found


def test_steps_of_a_and_b_are_stationary() -> None:
    """By finite differences of the printed objective, B being moved row by row and not as Z C."""
    (x, y), moments, tree, penalties = problem(3, 12, [3, 2], 3)
    random = np.random.default_rng(0)
    tasks, space = random.normal(size=(4, 3)), random.normal(size=(8, 4))
    a = step_projection(moments, space, penalties)

    def of_a(projection: np.ndarray) -> float:
        return direct((x, y), Solution(projection, space, tasks), tree, penalties)

    np.testing.assert_allclose(gradient(of_a, a), 0, atol=1e-4)
    assert np.abs(gradient(of_a, a + 0.1)).max() > 0.01
    b = np.concatenate([*x, y], axis=1) @ step_space(moments, a, tasks, penalties)

    def of_b(rows: np.ndarray) -> float:
        gaps = [np.linalg.norm(block @ part - rows) ** 2 for block, part in zip(x, (a[:3], a[3:]), strict=True)]
        return float(np.linalg.norm(y - rows @ tasks) ** 2 + penalties.space * sum(gaps))

    np.testing.assert_allclose(gradient(of_b, b), 0, atol=1e-4)
    assert np.abs(gradient(of_b, b + 0.1)).max() > 0.01


@pytest.mark.parametrize("strength", [0.01, 0.3])
def test_repeated_steps_of_w_reach_what_a_generic_solver_finds(strength: float) -> None:
    rows, moments, tree, penalties = problem(5, 25, [3, 2], 3)
    penalties = replace(penalties, tree=strength)
    space = np.random.default_rng(2).normal(size=(8, 2))
    projection = np.zeros((5, 2))

    def value(flat: np.ndarray) -> float:
        return direct(rows, Solution(projection, space, flat.reshape(2, 3)), tree, penalties)

    tasks = np.ones((2, 3))
    for _ in range(300):
        tasks = step_tasks(moments, space, tasks, tree, penalties)
    found = minimize(value, np.full(6, 0.1), method="BFGS")
    assert value(tasks.ravel()) <= found.fun * (1 + 1e-7)
    np.testing.assert_allclose(tasks.ravel(), found.x, atol=1e-3)


def test_a_strong_tree_penalty_drops_a_class_s_neighbours_together() -> None:
    """Only the common parent's rows are penalised: for a useless feature both classes' weights vanish."""
    random = np.random.default_rng(0)
    useful = np.repeat(np.eye(3), 50, axis=0) - 1 / 3
    z = np.concatenate([useful, random.normal(size=(150, 1)), np.repeat(np.eye(3), 50, axis=0)], axis=1)
    moments = Moments(z.T @ z, (slice(0, 4),))
    space = np.eye(7, 4)
    tree = Tree(np.ones((1, 3)), np.ones(1))
    tasks = np.ones((4, 3))
    for _ in range(200):
        tasks = step_tasks(moments, space, tasks, tree, Penalties(1.0, 1.0, 5.0))
    assert np.abs(tasks[3]).max() < 1e-4
    assert np.linalg.norm(tasks[:3], axis=1).min() > 0.1


def test_node_weights_are_those_of_the_equations() -> None:
    random = np.random.default_rng(4)
    means = random.normal(size=(5, 3))
    means[2] = np.nan
    members = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]], float)
    known = [0, 1, 3, 4]
    distance = {(i, j): np.linalg.norm(means[i] - means[j]) for i in known for j in known}
    theta = np.median([distance[i, j] for i in known for j in known if i < j])
    similar = np.array([[1.0 if i == j else 0.0 for j in range(5)] for i in range(5)])
    for (i, j), d in distance.items():
        similar[i, j] = np.exp(-((d / theta) ** 2))
    for member, weight in zip(members, node_weights(members, means), strict=True):
        u = member / np.sqrt(member.sum())
        assert weight == pytest.approx(u @ similar @ u / member.sum())
    assert node_weights(members, means)[3] == 1
    np.testing.assert_array_equal(node_weights(np.eye(2), np.full((2, 3), np.nan)), 1)
    np.testing.assert_allclose(node_weights(np.ones((1, 2)), np.zeros((2, 3))), 0.5)


def test_the_tree_has_a_root_the_groups_and_every_class_alone() -> None:
    flat = tree_members((), ("a", "b", "c"))
    np.testing.assert_array_equal(flat, np.concatenate([np.ones((1, 3)), np.eye(3)]))
    groups = (("a", "moon"), ("c", "a"), ("a", "c"), ("moon",), (), ("c", "b", "a"))
    given_tree = tree_members(groups, ("a", "b", "c"))
    np.testing.assert_array_equal(given_tree, [[1, 1, 1], [1, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 1]])


def fitted(train: Dataset, validation: Dataset, choice: TrumannSettings, seed: int = 0) -> tuple[Trumann, Dataset]:
    standardizer = Standardizer.fit(train)
    model = Trumann(Shape(train.dims, CLASSES), choice)
    model.fit(standardizer.standardized(train), standardizer.standardized(validation), seed, silent)
    return model, standardizer.standardized(train)


ONE = TrumannSettings(
    groups=(("beach", "park"), ("gym", "cafe", "moon")), projection_penalties=(10.0,), tree_penalties=(1e-3,), width=8
)


def test_the_model_is_the_source_s_prediction(train: Dataset, validation: Dataset) -> None:
    """Sweeps by the book on explicit B, then argmax of (1/S sum X^s A^s) W plus the intercept of centring."""
    model, rows = fitted(train, validation, ONE)
    x = [array.astype(float) for array in rows.modalities.values()]
    means = [block.mean(axis=0) for block in x]
    centred = [block - mean for block, mean in zip(x, means, strict=True)]
    y = np.eye(4)[rows.label]
    target = y - y.mean(axis=0)
    classes = np.stack([np.concatenate(x, axis=1)[rows.label == k].mean(axis=0) for k in range(4)])
    e = node_weights(model.members, classes)
    w, b, l1, l2, l3 = np.random.default_rng(0).uniform(size=(8, 4)), None, 10.0, 10.0, 1e-3
    inverse = np.linalg.inv
    for _ in range(int((model.objective >= 0).sum())):
        middle = inverse(l1 * len(x) * np.eye(8) + w @ w.T)
        b = target @ w.T @ middle if b is None else b
        a = [inverse(l1 * c.T @ c + l2 * np.eye(c.shape[1])) @ (l1 * c.T @ b) for c in centred]
        b = (target @ w.T + l1 * sum(c @ part for c, part in zip(centred, a, strict=True))) @ middle
        norms = np.array([e * np.sqrt(model.members @ row**2 + EPSILON**2) for row in w])
        q = norms / norms.sum()
        columns = []
        for t in range(4):
            diagonal = [sum(e[v] ** 2 / q[k, v] for v in range(len(e)) if model.members[v, t]) for k in range(8)]
            columns.append(inverse(b.T @ b + l3 * np.diag(diagonal)) @ b.T @ target[:, t])
        w = np.stack(columns, axis=1)
    score = sum(c @ part for c, part in zip(centred, a, strict=True)) @ w / len(x) + y.mean(axis=0)
    features = {name: torch.from_numpy(array) for name, array in rows.modalities.items()}
    found = model(features, {}).log_probability.numpy()
    np.testing.assert_allclose(found, log_softmax(float(model.inverse_temperature) * score, axis=1), atol=2e-3)


def test_the_temperature_is_the_most_likely_one(train: Dataset, validation: Dataset) -> None:
    model, rows = fitted(train, validation, ONE)
    features = {name: torch.from_numpy(array) for name, array in rows.modalities.items()}
    label = torch.from_numpy(rows.label)

    def nats(factor: float) -> float:
        score = factor * model(features, {}).log_probability.double()
        return float(torch.nn.functional.cross_entropy(score, label))

    assert nats(1.0) < min(nats(0.97), nats(1.03))


def test_validation_chooses_the_penalties(train: Dataset, validation: Dataset) -> None:
    """What is best is known from fits with one choice each; the last of the grid's values wins here."""
    wide = replace(ONE, projection_penalties=(1e6, 1.0), tree_penalties=(1e3, 1e-3))
    standardizer = Standardizer.fit(train)
    held_out = standardizer.standardized(validation)
    features = {name: torch.from_numpy(array) for name, array in held_out.modalities.items()}

    def macro(choice: TrumannSettings) -> tuple[float, dict[str, float]]:
        model, _ = fitted(train, validation, choice)
        decided = model(features, {}).log_probability.argmax(dim=1).numpy()
        return f1(held_out.label, decided)[1], model.diagnose({}, {})["penalties"]

    alone = [
        macro(replace(wide, projection_penalties=(projection,), tree_penalties=(tree,)))
        for projection in wide.projection_penalties
        for tree in wide.tree_penalties
    ]
    assert macro(wide) == max(alone, key=lambda found: found[0])
    assert max(alone, key=lambda found: found[0])[0] > alone[0][0] + 0.1


def test_diagnostics(train: Dataset, validation: Dataset) -> None:
    given_tree = fitted(train, validation, ONE)[0].diagnose({}, {})
    assert (given_tree["tree"], given_tree["n_nodes"]) == ("given", 7)
    history = given_tree["objective"]
    assert 1 < len(history) <= 10
    assert history == sorted(history, reverse=True)
    flat = fitted(train, validation, replace(ONE, groups=(), max_sweeps=3))[0]
    assert flat.diagnose({}, {})["n_nodes"] == 5
    assert flat.diagnose({}, {})["tree"] == "flat"
    assert flat.objective.shape == (3,)
    json.dumps(given_tree, allow_nan=False)


def test_it_can_be_built_without_memory_and_its_settings_pass_through_json() -> None:
    with torch.device("meta"):
        model = Trumann(Shape({"": 2, "a.b": 3}, CLASSES), ONE)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    adapter = TypeAdapter(TrumannSettings)
    assert adapter.validate_json(adapter.dump_json(ONE)) == ONE


def test_it_learns_real_digits(shared: Path) -> None:
    with np.load(shared / "features/mfeat/mfeat.npz") as file:
        label = file["label"].astype(np.int64)
        views = {name: file[name] for name in ("fou", "kar", "zer")}
    order = np.random.default_rng(0).permutation(len(label))
    parts = (order[:980], order[980:1400])
    train, validation = (Dataset({name: x[part] for name, x in views.items()}, {}, label[part]) for part in parts)
    standardizer = Standardizer.fit(train)
    train, validation = standardizer.standardized(train), standardizer.standardized(validation)
    model = Trumann(Shape(train.dims, tuple("0123456789")), TrumannSettings())
    model.fit(train, validation, 0, silent)
    features = {name: torch.from_numpy(array) for name, array in validation.modalities.items()}
    decided = model(features, {}).log_probability.argmax(dim=1).numpy()
    assert f1(validation.label, decided)[1] > 0.93
