"""What `nmcl ingest --dry-run` prints."""

import json
from dataclasses import asdict
from typing import Any

from nmcl.flows import console
from nmcl.pipeline.stages.preview import Preview
from nmcl.pipeline.text import counted, listed

_LABELS_SHOWN, _ROWS_SHOWN = 30, 10


def of_preview(found: Preview, as_json: bool) -> None:
    """Print what a crawl holds."""
    if as_json:
        tree: dict[str, Any] = asdict(found)
        tree["sample"]["mean_seconds"] = found.sample.mean_seconds
        console.write(json.dumps(tree, indent=1))
        return
    for note in found.notes:
        console.say(note)
    counts = {
        "videos": found.videos,
        "with a description": found.described,
        "with a label": found.labelled,
        "with a split of the crawl": found.with_split,
        "whose file is missing": found.missing,
        "duplicates of others": found.duplicates,
        "rejected rows": len(found.rejected),
        "rows joined with others": found.joined,
        "sidecar files": found.sidecars,
        "subtitle files": found.subtitles,
    }
    console.table(f"Crawl {found.crawl}", ("", "number"), list(counts.items()))
    for row in found.rejected[:_ROWS_SHOWN]:
        console.say(f"Rejected, line {row.line}: {row.problem}")
    if len(found.rejected) > _ROWS_SHOWN:
        console.say(f"And {len(found.rejected) - _ROWS_SHOWN:,} more rejected rows: --json lists all.")
    if found.labels:
        shown = list(found.labels.items())[:_LABELS_SHOWN]
        console.table(f"Labels: {len(found.labels):,}", ("label", "videos"), list(shown))
        rows = [(kept.min_venue_videos, kept.classes, kept.videos, *kept.splits.values()) for kept in found.kept]
        header = ("split.min_venue_videos", "classes", "videos", *found.kept[0].splits)
        console.table("What it would keep", header, rows)
    else:
        console.say("No labels: nothing can be trained, but `nmcl extract` and `nmcl export` give the features.")
    _of_sample(found)
    if found.is_refused:
        console.say(
            "An ingest would refuse this crawl, because too many rows cannot be used. Correct them, or skip them with "
            "--set ingest.max_rejected_share=1."
        )
    console.say("Nothing was written.")


def _of_sample(found: Preview) -> None:
    sample, size = found.sample, f"{found.n_bytes / 1e6:,.1f} MB"
    if sample.mean_seconds is None:
        console.say(f"Size: {size}. None of {counted(sample.videos, 'video')} of a sample can be decoded.")
    else:
        total = sample.mean_seconds * (found.videos - found.missing)
        console.say(
            f"Size: {size}. A sample of {counted(sample.videos, 'video')}: {sample.mean_seconds:.1f} s each on "
            f"average, so about {total / 60:,.0f} minutes in all; {sample.with_picture:,} with a picture, "
            f"{sample.with_sound:,} with sound."
        )
    if sample.failed:
        console.say("Cannot be decoded: " + listed(f"{kind} {n:,}" for kind, n in sample.failed.items()))
