"""What the commands print that look into single videos."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nmcl.flows import console
from nmcl.pipeline.escape import visible
from nmcl.pipeline.text import counted, listed

if TYPE_CHECKING:
    from nmcl.flows.run.compare import RunComparison
    from nmcl.flows.run.duplicates import NearDuplicate
    from nmcl.flows.run.explain import Story, VectorStory, Vote
    from nmcl.flows.run.similar import Neighbour
    from nmcl.flows.run.stored import StoredSets

N_PAIRS = 50
"""Pairs of near-duplicates, and differing videos, that are printed as a table; `--json` has all."""


def _write(value: Any) -> None:
    console.write(json.dumps(value, indent=1))  # ASCII only, so that a terminal interprets no part of it


def _line(text: str) -> None:
    """Print one line; a line break of a description is escaped, as what follows could look like the next field."""
    console.say(visible(text))


def of_story(story: "Story", as_json: bool) -> None:
    """Print everything about one video."""
    if as_json:
        _write(asdict(story))
        return
    _line(f"{story.crawl}/{story.video_id}")
    digest = story.sha256[:12] or "unknown"
    _line(f"  file: {story.file} ({story.file_state}, {story.n_bytes:,} bytes, sha256 {digest})")
    _line(f"  row {story.row} of part-{story.part}.parquet, in {story.catalogue}")
    if story.duplicate_of:
        _line(f"  the same bytes as {story.duplicate_of}")
    _of_header(story)
    if story.decoding:
        _line("  decoded by FFmpeg (PyAV): " + ", ".join(f"{name} {value}" for name, value in story.decoding.items()))
    if story.thumbnails_s:
        _line(f"  thumbnails: at {', '.join(f'{time_s:.1f}' for time_s in story.thumbnails_s)} s")
    _line(f"  description: {story.description or '–'}")
    _line(f"  label: {story.label or '–'}; split: {story.split or '–'}")
    console.table(
        "Modalities",
        ("modality", "outcome", "attempts", "remark"),
        [(o.modality, o.outcome, o.attempts, o.remark) for o in story.outcomes],
    )
    if story.run:
        top = ", ".join(map(_vote, story.top)) or "nothing"
        _line(f"Prediction of {story.run} ({story.status or 'none'}): {top}")
    console.table(
        "Feature sets",
        ("feature set", "vector", "from", "key frames (s)", "vote"),
        [
            (
                v.feature_set,
                v.origin if v.length is None else f"{v.origin}, {v.length}",
                f"{v.completed_by}: {listed(v.completed_from)}" if v.completed_from else v.completed_by,
                ", ".join(f"{time_s:.1f}" for time_s in v.key_frames_s) or None,
                _vote(v.vote) if v.vote else None,
            )
            for v in story.vectors
        ],
    )
    _of_neighbours("Nearest training videos, all feature sets together", story.nearest)
    _line("Recipes, in full with --json:")
    for vector in story.vectors:
        _line(f"  {vector.artifact}: {_recipe(vector)}")
    for note in story.notes:
        console.note(note)


def _of_header(story: "Story") -> None:
    header = story.header
    if header is None:
        _line(f"  header: {story.header_problem}")
        return
    size = f"{header.width}x{header.height} {header.picture_codec}" if header.width else "no picture"
    rate = f", {header.frame_rate:.4g} frames/s" if header.frame_rate else ""
    length = "unknown length" if header.duration_s is None else f"{header.duration_s:.2f} s"
    _line(f"  header: {header.container}, {length}, {size}{rate}, sound {header.sound_codec or 'none'}")
    for limit in header.limits:
        _line(f"  limit: {limit}")


def _vote(vote: "Vote") -> str:
    return f"{vote.label} {vote.probability:.3f}"


def _recipe(vector: "VectorStory") -> str:
    """Return the extractor, weights, versions of code, state and settings of a feature set on one line."""
    from nmcl.flows.run.explain import settings_of

    settings, extractor = settings_of(vector), vector.recipe.get("extractor", {})
    weights = extractor.get("weights") or listed(extractor.get("files", ()), 1)
    hidden = ("extractor", "modality", "device", "weights", "backbone")
    shown = [f"{name}={value}" for name, value in settings.items() if name not in hidden]
    state = vector.recipe.get("state")
    return ", ".join(
        [
            settings.get("extractor", vector.feature_set),
            *([f"weights {weights[:12]}"] if weights else []),
            f"code {_code(vector.recipe)}",
            *([f"fitted as states/{vector.feature_set}-{state}"] if state else []),
            *shown,
        ]
    )


def _code(recipe: Mapping[str, Any]) -> str:
    """Return the versions of the code in a recipe: of the extraction, the extractor and the decoding."""
    extractor, decoding = (recipe.get(name) or {} for name in ("extractor", "decoding"))
    named = {
        "": recipe.get("code_version", recipe.get("code")),
        "extractor ": extractor.get("code_version", extractor.get("code")),
        "decoding ": decoding.get("code_version", decoding.get("code")),
    }
    return " ".join(f"{name}{version}" for name, version in named.items() if version is not None)


def of_neighbours(sets: "StoredSets", video: str, features: str, near: "Sequence[Neighbour]", as_json: bool) -> None:
    """Print the videos that are nearest to one."""
    run = sets.run.folder if sets.run else None
    if as_json:
        _write({"video": video, "features": features, "run": run, "nearest": [asdict(found) for found in near]})
        return
    _of_neighbours(f"Nearest to {video} by {features}", near)


def _of_neighbours(title: str, near: "Sequence[Neighbour]") -> None:
    if near:
        console.table(
            title,
            ("video", "distance", "label", "split", "path", "copy"),
            [
                (f"{v.crawl}/{v.video_id}", v.distance, v.label, v.split, v.path, "yes" if v.same_bytes else None)
                for v in near
            ],
        )


def of_duplicates(sets: "StoredSets", pairs: "Sequence[NearDuplicate]", threshold: float, as_json: bool) -> None:
    """Print pairs of near-duplicates, with a warning about those that cross splits."""
    if as_json:
        run = sets.run.folder if sets.run else None
        _write({"threshold": threshold, "run": run, "pairs": [asdict(pair) for pair in pairs]})
        return
    if not pairs:
        console.say(f"No two videos with different bytes are closer than {threshold:g}.")
        return
    if crossing := [pair for pair in pairs if pair.crosses_splits]:
        console.say(
            f"Warning: {counted(len(crossing), 'pair')} of near-duplicates in different splits. A model that was "
            "trained on one video of such a pair is tested on the other, so that scores are too good. Remove one of "
            "them, or put both into one split with a split column in the manifest."
        )
    console.table(
        f"{counted(len(pairs), 'pair')} of near-duplicates, at most {threshold:g} apart",
        ("video", "other", "distance", "labels", "splits"),
        [
            (
                f"{pair.crawl}/{pair.video_id}",
                f"{pair.other_crawl}/{pair.other_video_id}",
                pair.distance,
                _both(pair.label, pair.other_label),
                _both(pair.split, pair.other_split),
            )
            for pair in pairs[:N_PAIRS]
        ],
    )
    if len(pairs) > N_PAIRS:
        console.say(f"{len(pairs) - N_PAIRS:,} more: use --json.")


def _both(one: str | None, other: str | None) -> str | None:
    return one if one == other else f"{one or '–'} / {other or '–'}"


def of_comparison(found: "RunComparison", as_json: bool) -> None:
    """Print the comparison of two runs."""
    if as_json:
        _write(asdict(found))
        return
    console.table(
        f"Runs on {counted(found.n_rows, 'test video')} of both",
        ("run", "micro-F1", "macro-F1", "only this one is right"),
        [
            (found.first, *_scores(found, "first"), found.n_only_first),
            (found.second, *_scores(found, "second"), found.n_only_second),
        ],
    )
    if found.p_value is None:
        console.say("Not testable: both are right on the same videos.")
    elif found.gain is not None and found.interval is not None:
        low, high = found.interval
        console.say(f"Gain of the second in macro-F1: {found.gain:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}.")
        console.say(f"McNemar's exact test on the videos that only one gets right: p = {found.p_value:.2g}.")
    if found.answers:
        console.table(
            "Videos that only one gets right",
            ("video", "label", "first", "second"),
            [(f"{a.crawl}/{a.video_id}", a.label, a.first, a.second) for a in found.answers[:N_PAIRS]],
        )
    if len(found.answers) > N_PAIRS:
        console.say(f"{len(found.answers) - N_PAIRS:,} more: use --json.")
    for title, differences in (("Feature sets that differ", found.features), ("Settings that differ", found.settings)):
        if differences:
            console.table(
                title,
                ("name", "first", "second"),
                [(d.name, _value(d.first), _value(d.second)) for d in differences],
            )
    for note in found.notes:
        console.note(note)


def _scores(found: "RunComparison", which: str) -> tuple[float | None, float | None]:
    scores = found.scores[which]
    return scores["micro_f1"], scores["macro_f1"]


def _value(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value)
