"""Settings of the tables of predictions."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PredictionSettings:
    """What tables of predictions hold. No other result depends on it."""

    all_classes: bool = False
    """Add the probability of every class, one column per class, besides the five most probable ones."""
