"""Report page of a retraining, and drift and comparisons as table rows. The first row is the header."""

from typing import Any

from nmcl.flows.report.numbers import decimal
from nmcl.flows.report.render import render_page
from nmcl.pipeline.storage.run_files import ClassChanges, ComparisonNote, CrawlDiff, DriftNote, Slice
from nmcl.pipeline.storage.runs import REPORT, Run
from nmcl.pipeline.text import listed

Row = list[Any]
N_CLASSES = 20
"""Maximum number of added, and of dropped, classes that are named."""
N_CHANGED = 20
"""Maximum number of videos with changed predictions that are named; `comparison.json` has all."""


def render_retraining(run: Run, created: str) -> str:
    """Return one self-contained HTML page about a run with a drift note. The same files give the same bytes.

    Args:
        created: Date as displayed.
    """
    drift, note = run.drift, run.comparison
    assert drift is not None
    is_challenger = run.folder.startswith("runs/")
    tables = [("Macro-F1 of both on the same test videos", comparison_rows(note))] if note else []
    if note and note.comparison.changed:
        tables.append((changed_title(note), changed_rows(note)))
    tables += [
        ("New and known videos by crawl", diff_rows(drift.diffs)),
        ("Drift of the new videos; chance level: mean over random permutations of all videos", drift_rows(drift)),
    ]
    verdict, reasons = _verdict(drift, note, is_challenger)
    return render_page(
        "retraining.html",
        title=f"{run.folder} against {drift.champion}" if is_challenger else drift_title(drift),
        created=created,
        verdict=verdict,
        reasons=reasons,
        tables=tables,
        notes=class_notes(drift.classes),
        has_report=run.store.exists(run.file(REPORT)),
    )


def _verdict(drift: DriftNote, note: ComparisonNote | None, is_challenger: bool) -> tuple[str, tuple[str, ...]]:
    if note:
        return "The challenger is promoted" if note.verdict.promoted else "The champion stays", note.verdict.reasons
    if drift.stopped:
        return "Stopped by drift", drift.exceeded
    return ("In progress" if is_challenger else "The champion stays: no challenger is trained on the new videos"), ()


def drift_title(note: DriftNote) -> str:
    """Return a title that names the new crawls and the champion."""
    names = [diff.crawl for diff in note.diffs if diff.n_videos]
    return f"Drift of {listed(names) or 'no new videos'} against {note.champion}"


def drift_rows(note: DriftNote) -> list[Row]:
    """Return the drift figures. The limit is the maximum value; fewer than `min_rows` rows give no verdict."""
    rows: list[Row] = [["metric", "value", "chance level", "limit", "p", "verdict"]]
    for subject, name, f in note.flat:
        numbers = [decimal(value) for value in (f.value, f.null_mean, f.limit + (f.null_mean or 0.0), f.p_value)]
        enough = min(f.n_reference, f.n_new) >= note.settings["min_rows"]
        verdict = "exceeded" if f.exceeded else "ok" if enough else "too few"
        rows.append([f"{subject} {name.replace('_', ' ')}", *numbers, verdict])
    return rows


def class_notes(changes: ClassChanges) -> list[str]:
    """Return sentences about the classes that were added and dropped."""
    texts = {
        "New venues, now classes": changes.added,
        "New venues with too few videos": changes.too_few,
        "Venues without new videos, kept": changes.not_seen,
        "Venues with too few videos left, dropped": changes.dropped,
    }
    return [f"{text}: {listed(names, N_CLASSES)}" for text, names in texts.items() if names]


def diff_rows(diffs: tuple[CrawlDiff, ...]) -> list[Row]:
    """Return the counts of videos in each crawl of a retraining."""
    header = ["crawl", "new videos", "labelled", "known", "renamed", "relabelled"]
    return [header, *([d.crawl, d.n_videos, d.n_labelled, d.n_known, d.n_renamed, d.n_relabelled] for d in diffs)]


def comparison_rows(note: ComparisonNote) -> list[Row]:
    """Return macro-F1, and how many videos only the challenger and only the champion predicted correctly."""
    header = ["test videos", "champion", "challenger", "gain", "95 % interval", "won", "p"]
    found = note.comparison
    slices = {"frozen": found.frozen, "fresh": found.fresh, "both": found.together}
    return [header, *(_slice_row(name, s) for name, s in slices.items())]


def _slice_row(name: str, s: Slice) -> Row:
    scores = [decimal(of_run.get("macro_f1")) for of_run in (s.champion, s.challenger)]
    interval = "{:+.3f}…{:+.3f}".format(*s.interval) if s.interval else "–"
    gain = "–" if s.gain is None else f"{s.gain:+.3f}"
    return [f"{name} ({s.n_rows:,})", *scores, gain, interval, f"{s.wins}:{s.losses}", decimal(s.p_value)]


def changed_title(note: ComparisonNote) -> str:
    """Return a title for `changed_rows`."""
    n = len(note.comparison.changed)
    return f"Test videos that only one gets right ({f'{N_CHANGED} of {n:,}' if n > N_CHANGED else n})"


def changed_rows(note: ComparisonNote) -> list[Row]:
    """Return the test videos that only one of the two predicts correctly: first those that the champion does."""
    videos = sorted(note.comparison.changed, key=lambda video: video.challenger == video.label)
    header = ["video", "crawl", "venue", "champion", "challenger"]
    return [header, *([v.video_id, v.crawl, v.label, v.champion, v.challenger] for v in videos[:N_CHANGED])]
