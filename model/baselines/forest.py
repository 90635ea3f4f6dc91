"""Forest of extremely randomised trees on the concatenated features.

Geurts, Ernst and Wehenkel, "Extremely randomized trees", Machine Learning 63, 2006. Where features are few and their
effect is not smooth, as with sound, trees are ahead of linear models and kernels. They need no scaling and hardly
overfit.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from nmcl.model.base import Epoch, Features, Mask, Member, Output, Shape
from nmcl.model.baselines.fusion import late_output
from nmcl.model.data import Dataset
from nmcl.pipeline.addressing import Reference
from nmcl.pipeline.progress import Progress, within

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesClassifier

MAX_DEPTH = 64
LEAST = 1e-9
"""Lower bound of a probability, times the number of trees."""
MOST_LEAF_VALUES = 1 << 24
"""Upper bound of the probabilities in all leaves, 64 MB: with many classes the trees have fewer leaves."""


@dataclass(frozen=True)
class ForestSettings:
    """Frozen settings of the forest."""

    trees: Annotated[int, Ge(1), Le(4096), Reference(200)] = 200
    """Number of trees."""
    min_leaf: Annotated[int, Ge(1), Reference(2)] = 2
    """Smallest number of training rows in a leaf."""


class Forest(Member):
    """Extremely randomised trees: p is the mean of the class shares in the leaf of each tree, smoothed by one row."""

    chooses = False
    free_sizes: ClassVar[Mapping[str, str]] = {
        "root": "trees",
        "feature": "nodes",
        "threshold": "nodes",
        "child": "nodes",
        "value": "leaves",
    }
    root: Tensor
    """First node of each tree, shape (number of trees,)."""
    feature: Tensor
    """Feature that each node compares, shape (number of nodes,); -1 in leaves."""
    threshold: Tensor
    """Rows up to this value go left, shape (number of nodes,); in leaves, the row of `value`."""
    child: Tensor
    """Left and right child, shape (number of nodes, 2); in leaves the node itself."""
    value: Tensor
    """Class shares of each leaf, shape (number of leaves, K)."""

    def __init__(self, shape: Shape, settings: ForestSettings) -> None:
        super().__init__()
        self.settings = settings
        for name in ("root", "feature", "threshold"):
            self.register_buffer(name, torch.zeros(0))
        self.register_buffer("child", torch.zeros(0, 2))
        self.register_buffer("value", torch.zeros(0, shape.n_classes))

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        self.refit(train, seed, progress)
        return ()

    def refit(self, rows: Dataset, seed: int, progress: Progress) -> None:
        from sklearn.ensemble import ExtraTreesClassifier  # takes a second; most processes train nothing

        n_trees, n_classes = self.settings.trees, self.value.shape[1]
        n_leaves = MOST_LEAF_VALUES // (n_trees * n_classes)
        progress("train", 0, 1, f"{n_trees} trees")
        forest = ExtraTreesClassifier(
            n_trees,
            min_samples_leaf=self.settings.min_leaf,
            max_depth=MAX_DEPTH,
            max_leaf_nodes=None if n_leaves >= len(rows) else max(2, n_leaves),  # with a bound, growing is slower
            random_state=seed,
            n_jobs=torch.get_num_threads(),  # any number gives the same trees
        )
        forest.fit(rows.side_by_side(), rows.label)
        self._put(forest, len(rows))
        progress("train", 1, 1, "")

    def _put(self, forest: "ExtraTreesClassifier", n_rows: int) -> None:
        root, feature, threshold, child, value, n_nodes, n_leaves = [], [], [], [], [], 0, 0
        for tree in (estimator.tree_ for estimator in forest.estimators_):
            is_leaf = tree.children_left < 0
            own = np.arange(tree.node_count)
            both = np.stack([tree.children_left, tree.children_right], axis=1)
            bound = tree.threshold.astype(np.float32)
            # float32 rows are compared with a float64 threshold there: rounding it down compares alike.
            bound = np.where(bound > tree.threshold, np.nextafter(bound, np.float32(-np.inf)), bound)
            root.append(n_nodes)
            feature.append(np.where(is_leaf, -1, tree.feature))
            child.append(np.where(is_leaf[:, None], own[:, None], both) + n_nodes)
            threshold.append(np.where(is_leaf, n_leaves + np.cumsum(is_leaf) - 1, bound))
            shares = np.zeros((int(is_leaf.sum()), self.value.shape[1]))
            shares[:, forest.classes_] = tree.value[is_leaf, 0]
            value.append(shares)
            n_nodes, n_leaves = n_nodes + tree.node_count, n_leaves + len(shares)
        prior = np.mean([shares.mean(axis=0) for shares in value], axis=0)
        doubt = 1 / (n_rows + 1)
        put = {
            "root": np.array(root),
            "feature": np.concatenate(feature),
            "threshold": np.concatenate(threshold),
            "child": np.concatenate(child),
            "value": (1 - doubt) * np.concatenate(value) + doubt * (prior + 1e-6) / (prior + 1e-6).sum(),
        }
        for name, array in put.items():
            setattr(self, name, torch.from_numpy(np.ascontiguousarray(array, np.float32)))

    def forward(self, features: Features, observed: Mask) -> Output:
        x = torch.cat(list(features.values()), dim=1)
        last = max(len(self.feature) - 1, 0)
        compared = self.feature.long().clamp(max=x.shape[1] - 1)
        child = self.child.long().clamp(0, last)
        node = self.root.long().clamp(0, last).expand(len(x), -1)
        for _ in range(MAX_DEPTH):
            if bool((compared[node] < 0).all()):
                break
            goes_right = x.gather(1, compared[node].clamp(min=0)) > self.threshold[node]
            node = child[node, goes_right.long()]
        leaf = self.threshold[node].long().clamp(0, max(len(self.value) - 1, 0))
        total = torch.zeros(len(x), self.value.shape[1], device=x.device)
        for tree in leaf.unbind(1):
            total += self.value[tree]
        total = total.clamp(min=LEAST)
        return Output(torch.log(total / total.sum(dim=1, keepdim=True)))


class ForestLate(Member):
    """One forest per modality, probabilities averaged. Completed vectors count as observed."""

    chooses = False

    def __init__(self, shape: Shape, settings: ForestSettings) -> None:
        super().__init__()
        self.settings = settings
        self.names = list(shape.dims)
        self.forests = [Forest(Shape({name: dim}, shape.classes), settings) for name, dim in shape.dims.items()]
        self.branches = nn.ModuleList(self.forests)  # what the state dict sees of them

    def fit(self, train: Dataset, validation: Dataset, seed: int, progress: Progress) -> tuple[Epoch, ...]:
        self.refit(train, seed, progress)
        return ()

    def refit(self, rows: Dataset, seed: int, progress: Progress) -> None:
        for i, (name, forest) in enumerate(zip(self.names, self.forests, strict=True)):
            forest.refit(rows.only([name]), seed, within(progress, "train", i, len(self.names)))

    def forward(self, features: Features, observed: Mask) -> Output:
        pairs = zip(self.names, self.forests, strict=True)
        return late_output({name: forest({name: features[name]}, observed).log_probability for name, forest in pairs})
