"""Drift between a new crawl and the crawls that a model was trained on.

Every figure measures the difference of two groups of rows, 0 if they are alike. A permutation test gives the share that
is due to the small number of rows.

Letters: N rows of both groups together, the reference's first; P permutations; D features. `permutations` gives the
rows that count as new, shape (P, N), bool. Measures are sums over rows, so all permutations are one matrix product.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Interval

from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.features import mean_and_deviation
from nmcl.pipeline.storage.run_files import DriftFigure

Measure = Callable[[np.ndarray], np.ndarray]
"""Function from masks of new rows, shape (P, N), bool, to values, shape (P,): the first as observed, then permuted."""
ALPHA = 0.05
"""Significance level of the permutation test."""


@dataclass(frozen=True)
class DriftSettings:
    """Frozen limits of drift; a figure that exceeds its mean under the null distribution by more stops a retraining.

    Between two crawls of 480 and 150 clips of one source no figure exceeded the null mean by more than 0.04. Between
    them and rendered clips of other places the mean shift did by 0.25 (text), 0.60 (pictures) and 1.5 (sound), the
    covariance shift by 0.39, 1.5 and 0.61, the discrepancy by 0.07, 0.12 and 0.41; 0.57 more of the words were unknown.
    """

    stop: Annotated[bool, Reference(True)] = True
    """`false`: drift is reported and the retraining continues."""
    max_failed: Annotated[float, Interval(ge=0, le=1), Reference(0.25)] = 0.25
    """Change of the share of files that do not decode."""
    max_missing: Annotated[float, Interval(ge=0, le=1), Reference(0.25)] = 0.25
    """Change of the share of decoded videos without a modality."""
    max_mean_shift: Annotated[float, Ge(0), Reference(0.5)] = 0.5
    """Root mean square over features of the shift of their means, in standard deviations."""
    max_covariance_shift: Annotated[float, Ge(0), Reference(0.5)] = 0.5
    """Frobenius norm of the difference of covariances over that of the reference, in the first principal components."""
    max_mmd: Annotated[float, Ge(0), Reference(0.1)] = 0.1
    """Squared maximum mean discrepancy under a Gaussian kernel, 0..2."""
    max_unknown_words: Annotated[float, Interval(ge=0, le=1), Reference(0.25)] = 0.25
    """Change of the share of words unknown to the paragraph vectors, against validation and test videos."""
    max_label_shift: Annotated[float, Interval(ge=0, le=1), Reference(0.5)] = 0.5
    """Total variation: the share of labelled videos that would have to be of another class."""
    min_rows: Annotated[int, Ge(4), Reference(30)] = 30
    """With fewer rows of either crawl, figures are reported but stop nothing."""
    max_rows: Annotated[int, Ge(4), Reference(2000)] = 2000
    """Maximum number of rows used of each crawl, drawn at random."""
    components: Annotated[int, Ge(1), Reference(16)] = 16
    """Number of principal components whose covariance is compared."""
    permutations: Annotated[int, Ge(20), Reference(100)] = 100
    """Permutations used to estimate the chance level."""
    seed: Annotated[int, Ge(0), Reference(0)] = 0
    """Seed of samples and permutations."""


def of_files(reference: np.ndarray, new: np.ndarray, settings: DriftSettings) -> dict[str, DriftFigure]:
    """Return the drift of decoding failures.

    Args:
        reference, new: Masks of the videos that do not decode, shapes (R,) and (M,), bool.
    """
    rows = _together(reference, new, settings)
    return {"failed": _figure(share_shift(rows.values), rows, settings.max_failed, settings)}


def of_vectors(reference: np.ndarray, new: np.ndarray, settings: DriftSettings) -> dict[str, DriftFigure]:
    """Return missingness, and shifts of mean, covariance and distribution of the observed vectors.

    Args:
        reference, new: Vectors of the decoded videos, shapes (R, D) and (M, D), float32, NaN rows where absent.
    """
    rows = _together(reference, new, settings)
    absent = np.isnan(rows.values).any(axis=1)
    vectors = _Rows(standardized(rows.values[~absent]), rows.is_new[~absent])
    centred = principal(vectors.values, vectors.is_new, settings.components, settings.seed)
    kernel = gaussian_kernel(vectors.values)
    return {
        "missing": _figure(share_shift(absent), rows, settings.max_missing, settings),
        "mean_shift": _figure(mean_shift(vectors.values), vectors, settings.max_mean_shift, settings),
        "covariance_shift": _figure(covariance_shift(centred), vectors, settings.max_covariance_shift, settings),
        "mmd": _figure(squared_mmd(kernel), vectors, settings.max_mmd, settings),
    }


def of_words(reference: np.ndarray, new: np.ndarray, settings: DriftSettings) -> dict[str, DriftFigure]:
    """Return the drift of the share of unknown words.

    Args:
        reference, new: Numbers of unknown words and of all words of each description, shapes (R, 2) and (M, 2).
    """
    rows = _together(reference, new, settings)
    measure = rate_shift(rows.values[:, 0], rows.values[:, 1])
    return {"unknown_words": _figure(measure, rows, settings.max_unknown_words, settings)}


def of_labels(reference: np.ndarray, new: np.ndarray, settings: DriftSettings) -> dict[str, DriftFigure]:
    """Return the drift of the label distribution.

    Args:
        reference, new: Index of the label of each labelled video, shapes (R,) and (M,).
    """
    rows = _together(reference, new, settings)
    return {"label_shift": _figure(total_variation(rows.values), rows, settings.max_label_shift, settings)}


@dataclass(frozen=True)
class _Rows:
    values: np.ndarray
    is_new: np.ndarray


def sample(rows: np.ndarray, settings: DriftSettings) -> np.ndarray:
    """Return the mask of the rows to use, so that no others need to be loaded. Shapes (N,), bool."""
    looked_at = np.zeros_like(rows)
    looked_at[_sample(np.flatnonzero(rows), settings.max_rows, settings.seed)] = True
    return looked_at


def _together(reference: np.ndarray, new: np.ndarray, settings: DriftSettings) -> _Rows:
    few = [_sample(rows, settings.max_rows, settings.seed) for rows in (reference, new)]
    return _Rows(np.concatenate(few), np.repeat([False, True], [len(rows) for rows in few]))


def _sample(rows: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return at most `n` of the rows, in order."""
    if len(rows) <= n:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), n, replace=False))]


def _figure(measure: Measure, rows: _Rows, limit: float, settings: DriftSettings) -> DriftFigure:
    n_new = int(rows.is_new.sum())
    n_reference = len(rows.is_new) - n_new
    if min(n_reference, n_new) < 2:
        return DriftFigure(None, None, None, limit, n_reference, n_new, exceeded=False)
    random = np.random.default_rng(settings.seed)
    permuted = [random.permutation(rows.is_new) for _ in range(settings.permutations)]
    value, *null = measure(np.stack([rows.is_new, *permuted])).tolist()
    null_mean = float(np.mean(null))
    p_value = (1 + sum(other >= value for other in null)) / (1 + len(null))
    enough = min(n_reference, n_new) >= settings.min_rows
    exceeded = enough and value - null_mean > limit and p_value < ALPHA
    return DriftFigure(value, null_mean, p_value, limit, n_reference, n_new, exceeded)


def share_shift(flags: np.ndarray) -> Measure:
    """Return a measure of the difference, 0..1, of the shares of rows with a flag, shape (N,), bool."""
    return rate_shift(flags, np.ones(len(flags)))


def rate_shift(counted: np.ndarray, of: np.ndarray) -> Measure:
    """Return a measure of the difference of two rates, each a sum of `counted` over a sum of `of`, shape (N,) each."""
    sums = np.stack([counted, of], axis=1).astype(np.float64)

    def measure(permutations: np.ndarray) -> np.ndarray:
        rates = [side @ sums / np.maximum(1.0, (side @ sums)[:, 1:]) for side in _sides(permutations)]
        return np.asarray(np.abs(rates[1] - rates[0])[:, 0])

    return measure


def mean_shift(rows: np.ndarray) -> Measure:
    """Return a measure: the root mean square over features of the difference of means, in within-crawl deviations.

    Args:
        rows: Shape (N, D), standardised.
    """
    squares = rows**2

    def measure(permutations: np.ndarray) -> np.ndarray:
        old, new = _sides(permutations)
        n, m = old.sum(axis=1, keepdims=True), new.sum(axis=1, keepdims=True)
        means = old @ rows / n, new @ rows / m
        within = (old @ squares - n * means[0] ** 2 + new @ squares - m * means[1] ** 2) / (n + m)
        shifts = (means[1] - means[0]) ** 2 / np.maximum(within, 1e-6)
        return np.sqrt(shifts.mean(axis=1)) if rows.shape[1] else np.zeros(len(permutations))

    return measure


def covariance_shift(rows: np.ndarray) -> Measure:
    """Return a measure: the Frobenius norm of the difference of covariance matrices over that of the reference's.

    Args:
        rows: Shape (N, D), few features.
    """

    def one(is_new: np.ndarray) -> float:
        old, new = (np.atleast_2d(np.cov(side, rowvar=False)) for side in (rows[~is_new], rows[is_new]))
        norm = np.linalg.norm(old)
        return float(np.linalg.norm(new - old) / norm) if norm > 0 else 0.0

    return lambda permutations: np.array([one(is_new) if rows.shape[1] else 0.0 for is_new in permutations])


def squared_mmd(kernel: np.ndarray) -> Measure:
    """Return a measure: the unbiased estimate of the squared maximum mean discrepancy, which may be below 0.

    Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, eq. 3.

    Args:
        kernel: Kernel of all pairs of rows, shape (N, N).
    """
    diagonal = np.diagonal(kernel)

    def measure(permutations: np.ndarray) -> np.ndarray:
        old, new = _sides(permutations)
        n, m = old.sum(axis=1), new.sum(axis=1)
        within = [((side @ kernel) * side).sum(axis=1) - side @ diagonal for side in (old, new)]
        between = ((old @ kernel) * new).sum(axis=1)
        return np.asarray(within[0] / (n * (n - 1)) + within[1] / (m * (m - 1)) - 2 * between / (n * m))

    return measure


def total_variation(labels: np.ndarray) -> Measure:
    """Return a measure: half the L1 distance, 0..1, of two distributions over classes.

    Args:
        labels: Label indices, shape (N,).
    """
    counts = np.eye(int(labels.max(initial=0)) + 1)[labels]

    def measure(permutations: np.ndarray) -> np.ndarray:
        old, new = (side @ counts / side.sum(axis=1, keepdims=True) for side in _sides(permutations))
        return np.asarray(np.abs(new - old).sum(axis=1) / 2)

    return measure


def _sides(permutations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks of the reference's rows and the new rows, as factors of matrix products."""
    return (~permutations).astype(np.float64), permutations.astype(np.float64)


def standardized(rows: np.ndarray) -> np.ndarray:
    """Standardise by mean and standard deviation of all rows, float64; constant features are left out."""
    rows = rows.astype(np.float64)
    if len(rows) == 0:
        return rows
    mean, spread = mean_and_deviation(rows)
    varies = spread > 0
    return np.asarray((rows[:, varies] - mean[varies]) / spread[varies])


def principal(rows: np.ndarray, is_new: np.ndarray, n_components: int, seed: int) -> np.ndarray:
    """Return whitened scores in the first principal components, shape (N, k), without the crawls' mean shift.

    Components of both crawls, so that neither has an advantage; fewer if a crawl has few rows.
    """
    sizes = int(is_new.sum()), int((~is_new).sum())
    k = min(n_components, rows.shape[1], min(sizes) // 2)
    if k == 0:
        return rows[:, :0]
    from sklearn.decomposition import PCA

    centred = rows.copy()
    for side in (is_new, ~is_new):
        centred[side] -= rows[side].mean(axis=0)
    return np.asarray(PCA(k, whiten=True, random_state=seed).fit_transform(centred))


def gaussian_kernel(rows: np.ndarray) -> np.ndarray:
    """Return exp(-d^2 / (2 s^2)) of all pairs of rows, shape (N, N), with the median distance as s."""
    if rows.size == 0:
        return np.ones((len(rows), len(rows)))
    from sklearn.metrics.pairwise import euclidean_distances

    squares = euclidean_distances(rows, squared=True)
    median = float(np.median(squares[np.triu_indices(len(rows), 1)])) if len(rows) > 1 else 0.0
    return np.asarray(np.exp(-squares / (2 * median))) if median > 0 else np.ones_like(squares)
