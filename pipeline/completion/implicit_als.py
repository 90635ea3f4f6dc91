"""Row factors by the `implicit` library's ALS (Hu, Koren and Volinsky 2008), blocks decoded by ridge.

The library only models how much a user likes an item, so each column becomes two items, "high" and "low": a
row likes "high" when its standardised value is well above 0, "low" when well below. Factors of a row are
those the library folds in from the blocks it has; a ridge maps them to each missing block. It is fitted
on factors folded in from the same blocks only, so that training rows resemble the rows to be completed.

This is the only module that imports `implicit`: in functions, since it takes half a second, and most commands do
not need it.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from nmcl.pipeline.completion.base import Blocks, CompletionSettings, Pattern
from nmcl.pipeline.completion.filling import check_training, fill_in, fitted_state, present
from nmcl.pipeline.completion.ridge import Lines, columns, fit_line, patterns_to_learn, support
from nmcl.pipeline.completion.scaling import Scaling, fit_scaling
from nmcl.pipeline.completion.table import walk
from nmcl.pipeline.features import FeatureRows
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import State

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MOST_ENTRIES = 5_000_000
"""Maximum number of feature values given to the library; of more rows a seeded sample is used (2,129 at the paper's
width), because the library keeps an index with every entry, twice, and folds in row by row."""
THRESHOLD = 0.5
"""Standard deviations from the mean at which a value becomes a like."""
CONFIDENCE = 1.0
"""Weight that a like gains per standard deviation, over the weight 1 of everything else."""
LIBRARY_REGULARIZATION = 10.0
"""The library's own regularisation, which unlike that of ALS-WR does not grow with the number of entries."""
MOST_SWEEPS = 15
"""Maximum number of sweeps, the library's default; it has no stopping rule."""


@dataclass(frozen=True)
class ImplicitCompleter:
    """Factorisation of likes; only their presence and strength count, so it is less precise than `als`."""

    settings: CompletionSettings

    def fit(self, blocks: Blocks, progress: Progress = silent) -> State:
        settings = self.settings
        full = check_training(blocks)
        scaling = fit_scaling(full, balance=False)
        most = max(MOST_ENTRIES // sum(full.dims.values()), 1)
        table = full.sample(most, np.random.default_rng(settings.seed))
        names = present(table)
        z = _whole(table, scaling)
        dims = table.dims
        items = _learn_items(_likings(z, np.arange(z.shape[1]), z.shape[1]), settings, progress)
        lines = Lines()
        for source in patterns_to_learn(names, {pattern for pattern, _ in walk(table)}):
            where = columns(source, tuple(dims), dims)
            factors = _fold_in(items, z[:, where], where)
            for target in (name for name in names if name not in source):
                rows = np.all([table.observed[name] for name in (*source, target)], axis=0)
                if rows.any():
                    y = z[:, columns((target,), tuple(dims), dims)]
                    seen = support(np.concatenate([factors[rows], y[rows]], axis=1, dtype=np.float64))
                    lines.add(source, target, *fit_line(seen, factors.shape[1], settings.regularization))
        info = {"lines": lines.listed, "n_rows_used": len(table)}
        return fitted_state("implicit", settings, full, scaling, {"items": items, **lines.arrays}, info)

    def complete(self, blocks: Blocks, state: State) -> Blocks:
        lines = Lines(state.arrays, state.info["lines"])
        dims: dict[str, int] = state.info["blocks"]

        def decode(has: Pattern, z: np.ndarray, wanted: str) -> np.ndarray:
            best = lines.best(has, wanted)
            if best is None:
                return np.zeros((len(z), dims[wanted]))
            source, line = best
            where = columns(source, tuple(dims), dims)
            return line(_fold_in(state.arrays["items"], z[:, columns(source, has, dims)], where))

        return fill_in(blocks, state, decode)


def _whole(table: FeatureRows, scaling: Scaling) -> np.ndarray:
    """Return all blocks concatenated in working units, (N, D) float32; 0, which is no like, where missing."""
    z = np.concatenate([scaling.standardise(name, block) for name, block in table.modalities.items()], axis=1)
    z[np.isnan(z)] = 0
    return z


def _likings(z: np.ndarray, where: np.ndarray, n_columns: int) -> "csr_matrix":
    """Return rows (n, d) of the columns `where`, (d,), as confidences (n, 2 n_columns): high items, then low ones.

    The library reads an entry c as confidence c and everything else as confidence 1 in "not liked".
    """
    from scipy.sparse import csr_matrix

    rows, taken = np.nonzero(np.abs(z) > THRESHOLD)
    values = z[rows, taken]
    confidence = (1 + CONFIDENCE * np.abs(values)).astype(np.float32)
    items = where[taken] + np.where(values < 0, n_columns, 0)
    index = (rows.astype(np.int32), items.astype(np.int32))  # the library's solver requires int32
    return csr_matrix((confidence, index), shape=(len(z), 2 * n_columns))


def _learn_items(likings: "csr_matrix", settings: CompletionSettings, progress: Progress) -> np.ndarray:
    """Return the library's item factors (2 D, k), float32."""
    from implicit.cpu.als import AlternatingLeastSquares

    rank = min(settings.rank, likings.shape[0], likings.shape[1] // 2)
    sweeps = min(settings.sweeps, MOST_SWEEPS)

    def report(sweep: int, seconds: float, loss: float | None) -> None:
        progress("completion: implicit", sweep + 1, sweeps)

    with _one_blas_thread():
        als = AlternatingLeastSquares(rank, LIBRARY_REGULARIZATION, iterations=sweeps, random_state=settings.seed)
        als.fit(likings, show_progress=False, callback=report)
    return np.asarray(als.item_factors)


def sweep_times_s(table: FeatureRows, settings: CompletionSettings) -> list[float]:
    """Return the seconds of each of the library's sweeps over all rows of a table, the first including its setup."""
    likings = _likings(z := _whole(table, fit_scaling(table, balance=False)), np.arange(z.shape[1]), z.shape[1])
    times = [time.perf_counter()]
    _learn_items(likings, settings, lambda *_: times.append(time.perf_counter()))
    return np.diff(times).tolist()


def _fold_in(items: np.ndarray, z: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Fold in rows (n, d) known at the columns `where`, each independently, and return their factors (n, k)."""
    from implicit.cpu.als import AlternatingLeastSquares

    with _one_blas_thread():
        als = AlternatingLeastSquares(items.shape[1], LIBRARY_REGULARIZATION)
        als.item_factors = items
        return np.asarray(als.recalculate_user(np.arange(len(z)), _likings(z, where, len(items) // 2)))


def _one_blas_thread() -> threadpool_limits:
    """Limit BLAS to one thread while a model is made and used: the library has its own, and warns otherwise."""
    return threadpool_limits(1, "blas")
