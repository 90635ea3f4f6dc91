"""One-line summary of the time a run spent in each stage, and how to shorten it."""

from collections.abc import Mapping

ADVICE = {
    "decoding": "--set media.workers=N on more cores, or shorter clips with --set media.max_seconds=N",
    "visual": "--set features.visual.key_frames=4, a smaller network, or a GPU",
    "acoustic": "more cores: sound is processed clip by clip",
    "textual": "more cores: descriptions are inferred one by one",
    "ocr": "--set ocr.key_frames=2, a smaller --set ocr.side=N, or more cores",
    "writing": "a faster disk for the store",
    "ingest": "a faster disk for the crawl: every byte is read and hashed once",
    "fit": "--set features.acoustic.fit_videos=N and features.acoustic.max_frames=N, which limit its training data",
    "complete": "fewer or narrower feature sets: every completer is compared, whichever is selected",
    "train": "--set model.train.max_epochs=N, or a GPU",
    "evaluate": "a GPU, if the model is large",
}
SHOWN_FROM = 0.05
"""Minimum share of the total time for a stage to be named."""


def bottleneck(seconds: Mapping[str, float], extract_seconds: Mapping[str, float]) -> str:
    """Return a summary of the time spent and the bottleneck.

    For example `Total time: 84 s (visual 61%, ...). Bottleneck: visual; to speed it up: ...`.

    Args:
        seconds: Seconds of every stage.
        extract_seconds: Breakdown of `extract`, summed over its parts and workers; `decoding` is the time that networks
            waited for. If empty, the stage counts as a whole.

    Returns:
        The text; empty if nothing was measured.
    """
    spent = {stage: s for stage, s in seconds.items() if stage != "extract" or not extract_seconds}
    in_parts = sum(extract_seconds.values())
    if in_parts:
        spent |= {what: s * seconds.get("extract", 0.0) / in_parts for what, s in extract_seconds.items()}
    total = sum(spent.values())
    if not total:
        return ""
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    named = [f"{what} {s / total:.0%}" for what, s in ordered if s >= SHOWN_FROM * total]
    largest = ordered[0][0]
    advice = f"; to speed it up: {ADVICE[largest]}" if largest in ADVICE else ""
    return f"Total time: {total:,.0f} s ({', '.join(named)}). Bottleneck: {largest}{advice}."
