"""Alternating least squares with weighted-lambda regularisation (ALS-WR): Zhou et al., AAIM 2008.

    f = sum over observed (z_ij - u_i . m_j)^2  +  lambda (sum_i n_i ||u_i||^2 + sum_j n_j ||m_j||^2)

u_i (k,) is a row's factor, m_j (k,) a column's, n the number of observed entries of that row or column. As
whole blocks are missing, rows of one missingness pattern share one k x k system, and so do the columns of one
block. Row factors U = Z F are functions of the column factors, so they are never stored: completing a training row and
folding in a new one are the same operation. A sweep needs only U^T Z = F^T (Z^T Z) of the rows of a pattern: the data
are read once, and a sweep costs D^2 k a pattern however many rows there are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nmcl.pipeline.completion.base import Blocks, CompletionSettings, Pattern
from nmcl.pipeline.completion.filling import check_training, fill_in, fitted_state, present
from nmcl.pipeline.completion.held_out import held_out_nrmse
from nmcl.pipeline.completion.scaling import Scaling, fit_scaling
from nmcl.pipeline.completion.table import walk
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import State

LAMBDAS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
"""Regularisations tried on held-out blocks; the published values are 0.03 to 0.07."""
LAMBDA_UNMEASURED = 0.1
"""Regularisation used if no block can be held out."""
PRODUCT_ROWS = 8192
"""Rows per matrix product: fewer use the processor less efficiently, more need more memory."""
TUNING_ROWS = 5000

Factors = dict[str, np.ndarray]
"""Mapping from block name to column factors (k, D_m), float64."""


@dataclass(frozen=True)
class AlsCompleter:
    """Low-rank factorisation of all concatenated blocks: the paper's section 4.3."""

    settings: CompletionSettings

    def fit(self, blocks: Blocks, progress: Progress = silent) -> State:
        settings = self.settings
        table = check_training(blocks)
        scaling = fit_scaling(table, balance=settings.balance)
        lam = settings.regularization or _tuned_lambda(blocks, settings)
        factors = start(table, settings)
        seen = gather(table, scaling)
        objectives: list[float] = []
        while len(objectives) < settings.sweeps and not _settled(objectives, settings.tolerance):
            factors, objective = sweep(seen, factors, lam)
            objectives.append(objective)
            progress("completion: als", len(objectives), settings.sweeps, f"objective {objective:.6g}")
        arrays = {f"factors/{name}": m.astype(np.float32) for name, m in factors.items()}
        return fitted_state("als", settings, table, scaling, arrays, {"lambda": lam, "objectives": objectives})

    def complete(self, blocks: Blocks, state: State) -> Blocks:
        lam: float = state.info["lambda"]
        never = state.info["never_observed"]
        names = [name for name in state.info["blocks"] if name not in never]
        factors = {name: state.arrays[f"factors/{name}"].astype(np.float64) for name in names}
        folds: dict[Pattern, np.ndarray] = {}

        def decode(has: Pattern, z: np.ndarray, wanted: str) -> np.ndarray:
            if has not in folds:
                folds[has] = fold(factors, has, lam)
            filled: np.ndarray = (z @ folds[has]) @ factors[wanted]
            return filled

        return fill_in(blocks, state, decode)


def start(table: FeatureRows, settings: CompletionSettings) -> Factors:
    """Return random factors for every observed block; the rank is at most the number of rows or of columns."""
    names = present(table)
    n_columns = sum(table.dims[name] for name in names)
    rank = min(settings.rank, len(table), max(n_columns, 1))
    rng = np.random.default_rng(settings.seed)
    return {name: rng.standard_normal((rank, table.dims[name])) / np.sqrt(rank) for name in names}


def fold(factors: Factors, has: Pattern, lam: float) -> np.ndarray:
    """Return the matrix (D, k) that maps rows with these blocks, (n, D) working values, to their factors (n, k).

    u = (M M^T + lambda n E)^-1 M z over the columns M (k, D) of the blocks the row has; n = D.
    """
    m = np.concatenate([factors[name] for name in has], axis=1)
    return np.asarray(m.T @ _inverse(m @ m.T, lam * m.shape[1]))


@dataclass(frozen=True)
class Rows:
    """Statistics that a sweep needs of the rows of one pattern, Z (n, D) in working units."""

    n: int
    matrix: np.ndarray
    """Z^T Z (D, D), float32; Z itself if that is smaller."""
    squares: float
    """Squared norm ||Z||^2."""

    def crosses(self, m: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return U^T Z (k, D) and U^T U (k, k), float64, of U = Z M^T S: columns M (k, D), symmetric S (k, k).

        Products with Z are float32: they are nearly all of a sweep's cost.
        """
        if len(self.matrix) < m.shape[1]:
            u = (self.matrix @ m.T.astype(np.float32)) @ inverse
            return (u.T.astype(np.float32) @ self.matrix).astype(np.float64), u.T @ u
        folding = m.T @ inverse
        cross = (folding.T.astype(np.float32) @ self.matrix).astype(np.float64)
        return cross, cross @ folding


def gather(table: FeatureRows, scaling: Scaling) -> dict[Pattern, Rows]:
    """Return the statistics of the rows of each pattern, in one pass."""
    chunks: dict[Pattern, list[np.ndarray]] = {}
    for pattern, rows in walk(table):
        if pattern:
            chunks.setdefault(pattern, []).append(rows)
    return {pattern: _rows(table, scaling, pattern, np.concatenate(found)) for pattern, found in chunks.items()}


def _rows(table: FeatureRows, scaling: Scaling, pattern: Pattern, rows: np.ndarray) -> Rows:
    if len(rows) < sum(table.dims[name] for name in pattern):
        z = scaling.read(table, pattern, rows)
        return Rows(len(rows), z, float(np.einsum("ij,ij->", z, z, dtype=np.float64)))
    products = _products(table, scaling, pattern, rows)
    return Rows(len(rows), products, float(np.trace(products, dtype=np.float64)))


def _products(table: FeatureRows, scaling: Scaling, pattern: Pattern, rows: np.ndarray) -> np.ndarray:
    """Return Z^T Z (D, D), float32."""
    d = sum(table.dims[name] for name in pattern)
    room = np.empty((min(PRODUCT_ROWS, len(rows)), d), np.float32)
    total, part = np.zeros((d, d), np.float32), np.empty((d, d), np.float32)
    for start in range(0, len(rows), PRODUCT_ROWS):
        z = scaling.read(table, pattern, rows[start : start + PRODUCT_ROWS], room)
        total += np.matmul(z.T, z, out=part)
    return total


def sweep(seen: Mapping[Pattern, Rows], factors: Factors, lam: float) -> tuple[Factors, float]:
    """Solve all rows given the columns, then all columns given the rows; return the factors and the new objective."""
    rank = next(iter(factors.values())).shape[0] if factors else 0
    of_block = {name: m @ m.T for name, m in factors.items()}
    grams = {name: np.zeros((rank, rank)) for name in factors}
    crosses = {name: np.zeros_like(m) for name, m in factors.items()}
    n_observed = dict.fromkeys(factors, 0)
    objective = 0.0
    for pattern, rows in seen.items():
        m = np.concatenate([factors[name] for name in pattern], axis=1)
        ridge = lam * m.shape[1]
        cross, gram = rows.crosses(m, _inverse(np.sum([of_block[name] for name in pattern], axis=0), ridge))
        objective += rows.squares + ridge * float(np.trace(gram))
        begin = 0
        for name in pattern:
            width = factors[name].shape[1]
            grams[name] += gram
            crosses[name] += cross[:, begin : begin + width]
            n_observed[name] += rows.n
            begin += width
    # m = (U^T U + lambda n E)^-1 U^T z, where a block's share of the objective is ||Z||^2 - <U^T Z, M>
    solved = {name: _inverse(grams[name], lam * n_observed[name]) @ crosses[name] for name in factors}
    return solved, objective - sum(float(np.vdot(crosses[name], m)) for name, m in solved.items())


def _inverse(gram: np.ndarray, ridge: float) -> np.ndarray:
    """Return (gram + ridge E)^-1, float64; ridge must be above 0.

    Multiplying thousands of columns by the inverse is several times as fast as solving for each; the ridge makes it
    well conditioned.
    """
    return np.asarray(np.linalg.inv(gram + ridge * np.eye(len(gram))))


def _settled(objectives: list[float], tolerance: float) -> bool:
    """Return whether the last sweep changed the objective too little to continue."""
    return len(objectives) > 1 and objectives[-2] - objectives[-1] <= tolerance * objectives[-2]


def _tuned_lambda(blocks: Blocks, settings: CompletionSettings) -> float:
    """Return the regularisation with the smallest error on held-out blocks of training rows."""
    candidates = {f"{lam:g}": AlsCompleter(replace(settings, regularization=lam)) for lam in LAMBDAS}
    found = held_out_nrmse(blocks, candidates, settings.seed, max_rows=TUNING_ROWS)
    errors = {name: scores["overall"] for name, scores in found["nrmse"].items()}
    measured = {name: error for name, error in errors.items() if error is not None}
    return float(min(measured, key=lambda name: measured[name])) if measured else LAMBDA_UNMEASURED
