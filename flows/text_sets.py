"""Feature sets of descriptions without videos: they are fitted on the training rows of each split of a study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmcl.flows.feature_settings import FeatureChoice, feature_sets
from nmcl.flows.settings_tree import Tree
from nmcl.pipeline.errors import SettingsError
from nmcl.pipeline.extractor import Checks, Extracted, Extractor
from nmcl.pipeline.needs import Text
from nmcl.pipeline.progress import Progress, silent
from nmcl.pipeline.records import Clip

SEED = 0
"""Seed of the order in which an extractor is fitted on rows, and of their choice if there are too many."""


@dataclass(frozen=True)
class TextSet:
    """One feature set of N descriptions. Called with the training rows of a split, it returns the features."""

    texts: Sequence[str]
    """Empty where there is none."""
    extractor: Extractor
    progress: Progress = silent

    def __call__(self, train: np.ndarray) -> np.ndarray | Extracted:
        """Fit the extractor and return the vectors of all descriptions, shape (N, D), float32, NaN where absent.

        An extractor of term weights gives these too.

        Args:
            train: Rows to fit on, shape (N,), bool: no other description reaches `fit`.
        """
        rows = [i for i in np.random.default_rng(SEED).permutation(np.flatnonzero(train)) if self.texts[i]]
        clips = [Clip(text=text or None) for text in self.texts]
        state = self.extractor.fit([clips[i] for i in rows[: self.extractor.fit_videos]], self.progress)
        return self.extractor.extract(clips, state)


def chosen_sets(changes: Tree) -> dict[str, FeatureChoice[Any]]:
    """Return the feature sets of descriptions that settings name; the default is `textual`, paragraph vectors.

    Raises:
        SettingsError: If a setting is unknown or does not belong to a feature set of descriptions.
        UserError: If an extractor lacks a package or a file.
    """
    tree = changes.get("features", {})
    other = [section for section in changes if section != "features"]
    if other or not isinstance(tree, Mapping):
        raise SettingsError(
            f"{(other or ['features'])[0]} cannot be set with --texts; expected settings of feature sets of "
            "descriptions, such as features.words.extractor=wordllama."
        )
    sets = feature_sets(tree)
    extractors = {name: chosen.build() for name, chosen in sets.items()}
    found = {name: chosen for name, chosen in sets.items() if extractors[name].need == Text()}
    if wrong := [name for name in tree if name in sets and name not in found]:
        raise SettingsError(
            f"features.{wrong[0]} is not made from descriptions, but by {sets[wrong[0]].extractor} from videos. Choose "
            "another extractor, or put its vectors into the feature file."
        )
    if not found:
        raise SettingsError("No feature set of descriptions is left. Name one, or leave --texts out.")
    for name in found:
        if isinstance(extractor := extractors[name], Checks):
            extractor.check()
    return found
