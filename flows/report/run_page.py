"""Renders the page of one run. Everything that comes from the crawl is untrusted: the page escapes it."""

import base64
import json
import math
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from nmcl.flows.report import summary
from nmcl.flows.report.numbers import finite, printable, shortened
from nmcl.flows.report.render import render_page
from nmcl.flows.report.run_charts import charts
from nmcl.flows.report.run_data import RunPage, ShownVideo

_FOLDER = Path(__file__).parent
TABLE_VENUES = 12
"""Maximum number of venues for a numeric confusion matrix; with more, it is a heat map."""
_ORDER = {name: i for i, name in enumerate(("ingest", "fit", "extract", "complete", "train", "evaluate"))}
"""Of the stages: a file of metrics has them by name."""
DESCRIPTION = 400
"""Maximum length of a description on the page."""


def render_run(page: RunPage) -> str:
    """Return one HTML page that needs no other file and loads nothing."""
    metrics = page.metrics
    known = [video for video in page.videos if video.top]
    nrmse = metrics.completion.nrmse if metrics.completion else {}
    n_right = sum(video.is_right for video in known)
    return render_page(
        "run.html",
        styles=("style.css", "run.css"),
        page=page,
        metrics=metrics,
        n_known=len(known),
        accuracy=n_right / len(known) if known else None,
        chance=summary.chance(page.confusion if known else None),
        confused=summary.most_confused(page.confusion, metrics.classes, 20),
        is_table=len(metrics.classes) <= TABLE_VENUES,
        rows=_venue_rows(page),
        compared=summary.compared(metrics),
        gates=summary.gates(metrics.diagnostics),
        nrmse=nrmse,
        nrmse_modalities=list(dict.fromkeys(name for row in nrmse.values() for name in row)),
        seconds=sorted(metrics.seconds.items(), key=lambda item: _ORDER.get(item[0], len(_ORDER))),
        total_seconds=sum(metrics.seconds.values()),
        learned=_learned(page),
        settings=sorted(summary.flat(metrics.settings)),
        library=script("vega.js"),
        script=script("cards.js", "run.js"),
        data=data_block(
            {"classes": list(map(printable, metrics.classes)), "videos": list(map(video_json, page.videos))}
        ),
        specs=data_block(charts(page)),
    )


@cache
def script(*names: str) -> Markup:
    """Return scripts of this folder as one."""
    return Markup("".join((_FOLDER / name).read_text(encoding="utf-8") for name in names))


def data_block(value: Any) -> Markup:
    """Return JSON for a data block of a page: it can neither end the block nor be taken for markup."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def video_json(video: ShownVideo) -> dict[str, Any]:
    """Return what the page's script shows of a video."""
    return {
        "id": printable(video.video_id),
        "path": printable(video.path) if video.path else None,
        "text": shortened(printable(video.description), DESCRIPTION) if video.description else None,
        "venue": printable(video.venue) if video.venue is not None else None,
        "top": [[printable(venue), round(probability, 4)] for venue, probability in video.top],
        "status": video.status,
        "reason": printable(video.reason) if video.reason else None,
        "votes": {
            name: {**asdict(vote), "venue": printable(vote.venue) if vote.venue is not None else None}
            for name, vote in video.votes.items()
        },
        "shares": {
            name: {
                "consistent": round(shares.consistent, 3),
                "complementary": round(shares.complementary, 3),
                "scores": [round(score, 2) for score in shares.scores],
            }
            for name, shares in video.shares.items()
        },
        "images": list(map(_base64, video.images)),
        "spectrogram": video.spectrogram and _base64(video.spectrogram),
    }


def _base64(file: bytes) -> str:
    return base64.b64encode(file).decode("ascii")


def _learned(page: RunPage) -> dict[str, float] | None:
    """Return the log loss of the validation videos: of guessing evenly, after the first epoch, and the lowest."""
    losses = [(value, epoch.number) for epoch in page.history if (value := finite(epoch.validation_loss)) is not None]
    if not losses or len(page.metrics.classes) < 2:
        return None
    lowest, number = min(losses)
    return {"even": math.log(len(page.metrics.classes)), "first": losses[0][0], "lowest": lowest, "number": number}


def _venue_rows(page: RunPage) -> list[tuple[str, int, list[float | None]]]:
    """Return name, number of test videos, and precision, recall and F1 of each venue, the most frequent first."""
    support, predicted = page.confusion.sum(axis=1).tolist(), page.confusion.sum(axis=0).tolist()
    hits = page.confusion.diagonal().tolist()
    rows = [
        (name, n, [hit / p if p else None, hit / n if n else None, 2 * hit / (n + p) if n + p else None])
        for name, n, p, hit in zip(page.metrics.classes, support, predicted, hits, strict=True)
    ]
    return sorted(rows, key=lambda row: -row[1])
