"""Regression of each missing block on the observed blocks: one ridge per missingness pattern and target.

A ridge is fitted from second moments, or from the rows where these are fewer than the columns. Its shrinkage is chosen
by generalised cross-validation.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import scipy.linalg

from nmcl.pipeline.completion.base import Blocks, CompletionSettings, Pattern
from nmcl.pipeline.completion.filling import check_training, fill_in, fitted_state, present
from nmcl.pipeline.completion.scaling import Scaling, fit_scaling
from nmcl.pipeline.completion.table import walk
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import State

SHRINKAGES = np.logspace(5, -5, 41)
"""Penalties per row tried by cross-validation, in working units; the largest comes first and wins ties."""
MOST_FREEDOM = 0.9
"""Maximum degrees of freedom as a share of the distinct rows: a ridge that goes through almost all of them tells
cross-validation nothing."""
DISTINCT = 1e-10
"""Smallest eigenvalue, relative to the largest, of a direction in which rows differ."""


@dataclass(frozen=True)
class Solver:
    """Ridges from d columns to t others for any shrinkage, by an eigendecomposition of rank r.

    W = basis @ (target / (values + n * shrinkage))
    """

    n: int
    """Number of rows."""
    mean: np.ndarray
    """Means of all columns, shape (d + t,)."""
    values: np.ndarray
    """Eigenvalues of the centred products of the d columns, shape (r,), not negative."""
    basis: np.ndarray
    """Shape (d, r)."""
    target: np.ndarray
    """Shape (r, t)."""
    power: np.ndarray
    """Sum over targets of the squared products with each unit eigenvector, shape (r,)."""
    squares: float
    """Sum of the squares of the centred targets."""
    n_distinct: int
    """Number of rows that are no combination of others; all of them where only their moments are known."""

    def shrinkage(self) -> float:
        """Return the shrinkage of the least n RSS / (n - freedom)^2, all targets together."""
        errors = []
        for shrinkage in SHRINKAGES:
            kept = self.values + self.n * shrinkage
            residual = max(self.squares - float(self.power @ (2 / kept - self.values / kept**2)), 0.0)
            freedom = 1 + float(np.sum(self.values / kept))
            allowed = freedom < MOST_FREEDOM * self.n_distinct
            errors.append(self.n * residual / (self.n - freedom) ** 2 if allowed else np.inf)
        return float(SHRINKAGES[int(np.argmin(errors))])

    def line(self, shrinkage: float) -> "Line":
        """Return the ridge of a shrinkage."""
        d = len(self.basis)
        weights = self.basis @ (self.target / (self.values + self.n * shrinkage)[:, None])
        return Line(weights.astype(np.float32), (self.mean[d:] - self.mean[:d] @ weights).astype(np.float32))


class Support(Protocol):
    """Rows that a ridge is fitted to."""

    def __add__(self, other: "Support") -> "Support":
        """Return the rows of both."""

    @property
    def moments(self) -> "Moments":
        """Moments of the rows."""

    def of(self, columns: np.ndarray) -> "Support":
        """Return the rows of some columns."""

    def solver(self, d: int) -> Solver:
        """Return the ridges from the first d columns to the others."""


@dataclass(frozen=True)
class Moments:
    """Counts, sums and products of n rows of d columns, float64: `n`, (d,), (d, d)."""

    n: int
    total: np.ndarray
    products: np.ndarray

    @property
    def moments(self) -> "Moments":
        return self

    def __add__(self, other: Support) -> "Moments":
        added = other.moments
        return Moments(self.n + added.n, self.total + added.total, self.products + added.products)

    def of(self, columns: np.ndarray) -> "Moments":
        return Moments(self.n, self.total[columns], self.products[np.ix_(columns, columns)])

    def solver(self, d: int) -> Solver:
        mean = self.total / self.n
        centred = self.products - self.n * np.outer(mean, mean)
        values, vectors = scipy.linalg.eigh(centred[:d, :d])
        turned = vectors.T @ centred[:d, d:]
        power = np.einsum("ij,ij->i", turned, turned)
        squares = float(np.trace(centred[d:, d:]))
        return Solver(self.n, mean, np.maximum(values, 0), vectors, turned, power, squares, self.n)


@dataclass(frozen=True)
class FewRows:
    """Rows themselves, float32.

    With n rows and d > n columns the dual form of ridge regression (Saunders, Gammerman and Vovk 1998) takes n^2 d
    operations instead of d^3, and the rows less memory than their moments.
    """

    rows: np.ndarray
    """Shape (n, number of columns)."""

    @property
    def moments(self) -> Moments:
        rows = self.rows
        return Moments(len(rows), rows.sum(axis=0, dtype=np.float64), (rows.T @ rows).astype(np.float64))

    def __add__(self, other: Support) -> Support:
        if isinstance(other, FewRows):
            return support(np.concatenate([self.rows, other.rows]))
        return self.moments + other

    def of(self, columns: np.ndarray) -> "FewRows":
        return FewRows(self.rows[:, columns])

    def solver(self, d: int) -> Solver:
        if len(self.rows) >= d:
            return self.moments.solver(d)
        mean = self.rows.mean(axis=0, dtype=np.float64)
        x, y = np.split(self.rows - mean, [d], axis=1)
        values, left = scipy.linalg.eigh(x @ x.T)
        values, target = np.maximum(values, 0), left.T @ y
        power = values * np.einsum("ij,ij->i", target, target)
        n_distinct = 1 + int(np.sum(values > DISTINCT * values[-1]))
        return Solver(len(x), mean, values, x.T @ left, target, power, float(np.square(y).sum()), n_distinct)


def support(rows: np.ndarray) -> Support:
    """Return rows (n, d), float32 or float64, or their moments where that is less."""
    few = FewRows(rows)
    return few if len(rows) < rows.shape[1] else few.moments


@dataclass(frozen=True)
class Line:
    """Linear map y = x @ weights + intercept; weights (d, t), intercept (t,), float32."""

    weights: np.ndarray
    intercept: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y: np.ndarray = x @ self.weights.astype(np.float64) + self.intercept
        return y


def fit_line(rows: Support, d: int, shrinkage: float | None) -> tuple[Line, float]:
    """Fit a ridge from the first d columns to the others, with unpenalised intercept; return it and its shrinkage.

    Minimises sum ||y - x W - b||^2 + n * shrinkage * ||W||^2. None: the shrinkage with the smallest
    generalised cross-validation error (Golub, Heath and Wahba 1979), all targets together.
    """
    solver = rows.solver(d)
    chosen = solver.shrinkage() if shrinkage is None else shrinkage
    return solver.line(chosen), chosen


def patterns_to_learn(names: Pattern, seen: set[Pattern]) -> list[Pattern]:
    """Return the patterns that get their own fit: those seen in training, all blocks but one, and each block alone.

    For three blocks these are all patterns; for more, they stay few where 2^M would not.
    """
    but_one = {tuple(n for n in names if n != left_out) for left_out in names}
    alone = {(name,) for name in names}
    within = {tuple(n for n in pattern if n in names) for pattern in seen}
    return sorted(p for p in but_one | alone | within if 0 < len(p) < len(names))


def columns(wanted: Pattern, within: Pattern, dims: dict[str, int]) -> np.ndarray:
    """Return the column indices of some blocks within the concatenation of others, (d,) integers."""
    starts = dict(zip(within, np.cumsum([0] + [dims[name] for name in within]), strict=False))
    return np.concatenate([np.arange(starts[name], starts[name] + dims[name]) for name in wanted])


@dataclass(frozen=True)
class Lines:
    """Linear maps between blocks as stored in a state: arrays, and a list of the maps."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    listed: list[dict[str, Any]] = field(default_factory=list)
    """Entries `{"from": [names], "to": name, "shrinkage": x}`, one per map."""

    def add(self, source: Pattern, target: str, line: Line, shrinkage: float) -> None:
        key = f"{'+'.join(source)}>{target}"
        self.arrays[f"weights/{key}"] = line.weights
        self.arrays[f"intercept/{key}"] = line.intercept
        self.listed.append({"from": list(source), "to": target, "shrinkage": shrinkage})

    def best(self, has: Pattern, target: str) -> tuple[Pattern, Line] | None:
        """Return the map to a block that uses most of the blocks a row has.

        None if no training row had the target together with any of them.
        """
        sources = [tuple(entry["from"]) for entry in self.listed if entry["to"] == target]
        usable = [source for source in sources if set(source) <= set(has)]
        if not usable:
            return None
        source = max(usable, key=lambda s: (len(s), s))
        key = f"{'+'.join(source)}>{target}"
        return source, Line(self.arrays[f"weights/{key}"], self.arrays[f"intercept/{key}"])


@dataclass(frozen=True)
class RidgeCompleter:
    """Linear prediction from the other blocks. One pass over the data, then D x D matrices at most, one per pattern."""

    settings: CompletionSettings

    def fit(self, blocks: Blocks, progress: Progress = silent) -> State:
        table = check_training(blocks)
        scaling = fit_scaling(table, balance=self.settings.balance)
        names = present(table)
        seen = _by_pattern(table, scaling)
        sources = patterns_to_learn(names, set(seen))
        pairs = [(source, target) for source in sources for target in names if target not in source]
        lines = Lines()
        for done, (source, target) in enumerate(pairs):
            progress("completion: ridge", done, len(pairs), f"{'+'.join(source)} to {target}")
            having = _having((*source, target), seen, table.dims)
            if having is not None:
                width = sum(table.dims[name] for name in source)
                lines.add(source, target, *fit_line(having, width, self.settings.regularization))
        return fitted_state("ridge", self.settings, table, scaling, lines.arrays, {"lines": lines.listed})

    def complete(self, blocks: Blocks, state: State) -> Blocks:
        lines = Lines(state.arrays, state.info["lines"])
        dims: dict[str, int] = state.info["blocks"]

        def decode(has: Pattern, z: np.ndarray, wanted: str) -> np.ndarray:
            best = lines.best(has, wanted)
            if best is None:
                return np.zeros((len(z), dims[wanted]))
            source, line = best
            return line(z[:, columns(source, has, dims)])

        return fill_in(blocks, state, decode)


def _by_pattern(table: FeatureRows, scaling: Scaling) -> dict[Pattern, Support]:
    """Return the observed columns of the rows of each pattern, or their moments, in one pass."""
    found: dict[Pattern, Support] = {}
    for pattern, rows in walk(table):
        if pattern:
            chunk = support(scaling.read(table, pattern, rows))
            found[pattern] = found[pattern] + chunk if pattern in found else chunk
    return found


def _having(wanted: Pattern, seen: dict[Pattern, Support], dims: dict[str, int]) -> Support | None:
    """Return the wanted blocks, in that order, of all rows that have every one of them."""
    total: Support | None = None
    for pattern, part in seen.items():
        if set(wanted) <= set(pattern):
            own = part.of(columns(wanted, pattern, dims))
            total = own if total is None else total + own
    return total
