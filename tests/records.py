"""Records of a run, small and whole."""

from nmcl.pipeline.storage.run_files import (
    Agreement,
    ChangedVideo,
    ClassChanges,
    Comparison,
    ComparisonNote,
    CrawlDiff,
    DriftFigure,
    DriftNote,
    Metrics,
    Slice,
    SplitScores,
    Verdict,
)

RUN = "runs/nmcl-e3f2a2dde9d6"
SCORES = SplitScores(3, 0.75, 0.5, 0.9, 0.8, 1.0, 0.6, 0.5)
METRICS = Metrics(
    test=SCORES,
    validation=SCORES,
    modalities={"visual": SCORES},
    counts={"videos": 9, "train": 4, "validation": 2, "test": 3, "unlabelled": 0},
    notices=("random weights",),
    seconds={"fit": 1.5},
    classes=("a", "b"),
)
DIFF = CrawlDiff("b", n_videos=9, n_labelled=9, n_known=0, n_renamed=0, n_relabelled=0)
DRIFT = DriftNote(
    champion=RUN,
    crawls={"b": "0"},
    figures={"visual": {"mmd": DriftFigure(0.1, 0.0, 0.5, 0.2, 9, 9, exceeded=False)}},
    exceeded=(),
    stopped=False,
    settings={"min_rows": 5},
    diffs=(DIFF,),
    classes=ClassChanges(added=("a",), dropped=(), too_few=(), not_seen=()),
    when="2026-01-01T00:00:00.000+00:00",
)
CHANGED = ChangedVideo("v7", "b", "Beach", "Street", "Beach")
_SLICE = Slice(9, {"macro_f1": 0.5}, {"macro_f1": 0.6}, 0.1, (0.0, 0.2), 2, 1, 0.5)
COMPARISON = ComparisonNote(
    champion=RUN,
    challenger=RUN,
    crawls={"b": "0"},
    comparison=Comparison(_SLICE, _SLICE, _SLICE, Agreement(9, 0.9), {"b": Agreement(9, 0.9)}, {}, (CHANGED,)),
    verdict=Verdict(promoted=False, reasons=("it is worse",), doubted=()),
    rule={},
    started_from=None,
    refitted=False,
    diffs=(DIFF,),
    when="2026-01-01T00:00:00.000+00:00",
)
