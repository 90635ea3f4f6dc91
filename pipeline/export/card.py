"""The card of an exported data set: Markdown, with a head in YAML that Hugging Face reads."""

from collections import Counter

from nmcl.pipeline.export.record import Export, FeatureSet
from nmcl.pipeline.storage.artifacts import SETTINGS_IN_FULL

UNKNOWN = "unknown"
"""Licence of the data: nothing in a crawl tells it."""


def card(export: Export, head: str = "") -> str:
    """Return the card of an export.

    Args:
        head: Further lines of the head.
    """
    splits = Counter(split or "none" for split in export.splits)
    sets = "".join(
        f"| `{f.name}` | {f.modality} | {_extractor(f)} | {f.dim} | {int(f.observed.sum()):,} |\n"
        for f in export.features
    )
    labelled = sum(label is not None for label in export.labels)
    return f"""---
license: {UNKNOWN}
tags:
- video
- features
{head}---

# Features of {len(export):,} videos

One row per video. `SET_observed` is false where the vector of a feature set is missing; what stands there instead:
{export.missing}. How every value was made is in `recipe.json`.

| feature set | modality | extractor | length | observed |
|---|---|---|---|---|
{sets}
* **Labels**: {labelled:,} of {len(export):,} videos, {len(export.classes):,} classes.
* **Splits**: {", ".join(f"{name} {n:,}" for name, n in splits.items())}; from {export.split_source}.
* **Licence**: {UNKNOWN}. The videos, descriptions and labels belong to those who made them; a crawl does not tell under
  which terms. State yours before you publish the data.
"""


def _extractor(feature: FeatureSet) -> str:
    """Return the extractor that the recipe of a feature set names; a dash if an earlier version did not name it."""
    for recipe in feature.made_by.values():
        chosen = recipe.get(SETTINGS_IN_FULL, {}).get("features", {}).get(feature.name, {})
        if "extractor" in chosen:
            return f"`{chosen['extractor']}`"
    return "-"
