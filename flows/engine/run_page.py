"""Page of a trained run in the Prefect UI: its scores, its confused venues, and the location of the full report.

Browsers do not follow a link from a page of a server to a file, so the figures are on the page itself.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from nmcl.flows.report.numbers import decimal
from nmcl.flows.run.plan import Plan
from nmcl.pipeline.escape import markdown_code, markdown_text
from nmcl.pipeline.storage.runs import PREDICTIONS, REPORT
from nmcl.pipeline.storage.tables import read_table

SCORES = ("micro_f1", "macro_f1", "auc_micro", "auc_macro", "top5")
N_CONFUSIONS = 10


def run_page(plan: Plan) -> str:
    """Return the Markdown page of an evaluated run. Raises StoreError if its files are damaged."""
    run, store = plan.result, plan.store
    metrics, name = run.require_metrics(), run.file(PREDICTIONS)
    scores = [("test", metrics.test), ("validation", metrics.validation)]
    scores += [(f"test, {modality} alone", found) for modality, found in metrics.modalities.items()]
    predictions = read_table(store, name)
    if "venue_1" not in predictions.column_names or len(predictions) != len(plan.videos):
        raise store.damaged(
            name, f"it has {len(predictions):,} rows, expected one prediction for each of {len(plan.videos):,} videos"
        )
    pieces = [
        "The full report, on the machine of this run:\n\n" + markdown_code(f"{store.url}/{run.file(REPORT)}"),
        markdown_table(
            ("", *SCORES), ((name, *(decimal(getattr(found, key)) for key in SCORES)) for name, found in scores)
        ),
        ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in metrics.counts.items()),
        *(f"Note: {markdown_text(notice)}" for notice in metrics.notices),
    ]
    if pairs := confusions(plan, predictions):
        pieces.append(
            markdown_table(("venue of a test video", "predicted", "videos"), ((*pair, n) for pair, n in pairs))
        )
    return "\n\n".join(pieces)


def confusions(plan: Plan, predictions: pa.Table) -> list[tuple[tuple[str, str], int]]:
    """Return the most frequent pairs of venue and wrong prediction among the test videos, with their counts."""
    guesses = predictions.column("venue_1").to_pylist()
    assigned = zip(plan.videos, plan.splits.assignments, guesses, strict=True)
    wrong = [(v.venue, guess) for v, a, guess in assigned if a.split == "test" and v.venue and guess != v.venue]
    return Counter((venue, guess) for venue, guess in wrong if guess).most_common(N_CONFUSIONS)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; markup within cells is escaped."""
    lines = [[markdown_text(str(cell)) for cell in line] for line in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
