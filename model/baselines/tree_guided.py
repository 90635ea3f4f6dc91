"""The objective of TRUMANN and its three steps, each minimising it over one of the unknowns.

    1/2 ||Y - B W||^2 + l1/2 sum_s ||X^s A^s - B||^2 + l2/2 sum_s ||A^s||^2
        + l3/2 (sum_v e_v sum_k ||w^k_{G_v}||)^2

Zhang et al., ACM MM 2016, equations 4.4 to 4.18 of "Multimodal Learning toward Micro-Video Understanding" (2019).
Notation: T classes, L columns of the common space B (N, L), G_v the classes under node v, w^k row k of W (L, T). The
norm of the last term is sqrt(||.||^2 + EPSILON^2), so that rows may shrink to zero.

Every B that solves its step is Z C with Z = [X^1 .. X^S, Y], so the steps need the rows only through Z^T Z: one pass
of cost N (D+T)^2, after which the cost of a sweep does not depend on N.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its modules load when they are used: most predictions need none of them

EPSILON = 1e-6


@dataclass(frozen=True)
class Penalties:
    """Penalty weights, all > 0, for sums over N rows of features of variance 1."""

    space: float
    """l1, the penalty on each modality's distance from the common space."""
    projection: float
    """l2, the penalty on the norm of the projections A^s."""
    tree: float
    """l3, the penalty on the norms that select rows of W per node."""


@dataclass(frozen=True)
class Tree:
    """Nodes of a tree over the classes."""

    members: np.ndarray
    """Shape (V, T), float64: 1 where the class is under the node, else 0."""
    weights: np.ndarray
    """e_v, shape (V,), float64, > 0."""


@dataclass(frozen=True)
class Moments:
    """Second moments of the training rows, which are all that the steps need."""

    gram: np.ndarray
    """Z^T Z, shape (D+T, D+T), float64."""
    blocks: tuple[slice, ...]
    """Columns of X^1 .. X^S in Z; those of Y follow."""

    @property
    def n_features(self) -> int:
        """The number of features D."""
        return int(self.blocks[-1].stop)


@dataclass(frozen=True)
class Solution:
    """Values of all unknowns, float64."""

    projection: np.ndarray
    """The A^s stacked by rows, shape (D, L)."""
    space: np.ndarray
    """C with B = Z C, shape (D+T, L)."""
    tasks: np.ndarray
    """W, shape (L, T)."""


def node_weights(members: np.ndarray, class_means: np.ndarray) -> np.ndarray:
    """Return e_v of eq. 4.16 to 4.18, the similarity of the classes under a node, shape (V,), float64, in (0, 1].

    S_ij = exp(-||mean_i - mean_j||^2 / theta^2), theta the median distance, and e_v = u^T S u with u = 1/sqrt|G_v| on
    G_v. That is in 1..|G_v| where the text says 0..1, so it is divided by |G_v|: the mean of S over pairs.

    Args:
        members: shape (V, T), 0 or 1, no empty row.
        class_means: shape (T, D), float64; NaN for classes without training rows, which are similar only to themselves.
    """
    known = np.isfinite(class_means).all(axis=1)
    similarity = np.eye(len(class_means))
    distance = scipy.spatial.distance.pdist(class_means[known])
    if len(distance) and np.median(distance) > 0:
        similarity[np.ix_(known, known)] = np.exp(
            -((scipy.spatial.distance.squareform(distance) / np.median(distance)) ** 2)
        )
    return np.asarray((members @ similarity * members).sum(axis=1) / members.sum(axis=1) ** 2)


def step_projection(moments: Moments, space: np.ndarray, penalties: Penalties) -> np.ndarray:
    """Solve eq. 4.5 for all A^s."""
    inner = penalties.space * (moments.gram @ space)
    parts = []
    for block in moments.blocks:
        matrix = penalties.space * moments.gram[block, block]
        matrix[np.diag_indices_from(matrix)] += penalties.projection
        parts.append(scipy.linalg.cho_solve(scipy.linalg.cho_factor(matrix), inner[block]))
    return np.concatenate(parts)


def step_space(moments: Moments, projection: np.ndarray, tasks: np.ndarray, penalties: Penalties) -> np.ndarray:
    """Solve eq. 4.7 for C: B = (Y W^T + l1 sum_s X^s A^s) (l1 S I + W W^T)^-1."""
    matrix = tasks @ tasks.T + penalties.space * len(moments.blocks) * np.eye(len(tasks))
    right = np.concatenate([penalties.space * projection, tasks.T])
    return np.asarray(scipy.linalg.solve(matrix, right.T, assume_a="pos").T)


def step_tasks(moments: Moments, space: np.ndarray, tasks: np.ndarray, tree: Tree, penalties: Penalties) -> np.ndarray:
    """Update W by eq. 4.11, 4.13 and 4.15, with one linear solve per class.

    The text squares the norms of eq. 4.11; the bound (sum a)^2 <= sum a^2 / q that the step minimises is tight, and
    so guarantees descent, for q proportional to a itself.
    """
    image = moments.gram @ space
    gram, target = space.T @ image, image[moments.n_features :].T
    norms = row_norms(tasks, tree)
    share = norms / norms.sum()  # q
    curvature = penalties.tree * (tree.weights**2 / share) @ tree.members  # l3 times the diagonals of Q^t
    return np.stack(
        [
            scipy.linalg.solve(gram + np.diag(curvature[:, t]), target[:, t], assume_a="pos")
            for t in range(tasks.shape[1])
        ],
        axis=1,
    )


def row_norms(tasks: np.ndarray, tree: Tree) -> np.ndarray:
    """Return e_v ||w^k_{G_v}|| > 0 of each row k and node v, shape (L, V)."""
    return np.asarray(np.sqrt(tasks**2 @ tree.members.T + EPSILON**2) * tree.weights)


def objective(moments: Moments, solution: Solution, tree: Tree, penalties: Penalties) -> float:
    """Return the objective, which every step decreases."""
    n, projection, space = moments.n_features, solution.projection, solution.space
    misfit = -space @ solution.tasks
    misfit[n:] += np.eye(solution.tasks.shape[1])
    value = _energy(moments.gram, misfit)
    for block in moments.blocks:
        gap = -space
        gap[block] += projection[block]
        value += penalties.space * _energy(moments.gram, gap)
    value += penalties.projection * float((projection**2).sum())
    value += penalties.tree * float(row_norms(solution.tasks, tree).sum()) ** 2
    return value / 2


def _energy(gram: np.ndarray, coefficients: np.ndarray) -> float:
    """Return ||Z M||^2."""
    return float(np.vdot(coefficients, gram @ coefficients))


def sweeps(
    moments: Moments, tree: Tree, penalties: Penalties, start: np.ndarray, max_sweeps: int, tolerance: float
) -> tuple[Solution, list[float]]:
    """Minimise from W = `start`, shape (L, T), until the objective decreases by less than a share `tolerance`.

    Returns:
        The solution, and the objective after each sweep.
    """
    tasks = start
    space = step_space(moments, np.zeros((moments.n_features, len(start))), tasks, penalties)
    history: list[float] = []
    solution = Solution(np.zeros((moments.n_features, len(start))), space, tasks)
    while len(history) < max_sweeps:
        projection = step_projection(moments, solution.space, penalties)
        space = step_space(moments, projection, solution.tasks, penalties)
        tasks = step_tasks(moments, space, solution.tasks, tree, penalties)
        solution = Solution(projection, space, tasks)
        history.append(objective(moments, solution, tree, penalties))
        if len(history) > 1 and history[-2] - history[-1] <= tolerance * history[-2]:
            break
    return solution, history
