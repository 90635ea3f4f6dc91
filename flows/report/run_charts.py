"""Charts of a run's page as Vega-Lite specifications. Colours are variables of the style sheet: light and dark."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nmcl.flows.report.numbers import finite, printable, shortened
from nmcl.flows.report.run_data import RunPage, ShownVideo
from nmcl.flows.report.summary import interval

if TYPE_CHECKING:
    from nmcl.model.base import Epoch  # imports torch

Spec = dict[str, Any]
NAMED_VENUES = 40
"""Maximum number of venues whose names are shown beside a chart."""
BINS = 10
"""Maximum number of bins of the calibration curve; each has ten videos or more, if there are as many."""
_BLUE, _ORANGE, _INK, _MUTED, _LINE = "var(--series-0)", "var(--series-1)", "var(--ink)", "var(--muted)", "var(--line)"
_CONFIG: Spec = {
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": _INK, "titleColor": _MUTED, "gridColor": _LINE, "domainColor": _MUTED, "tickColor": _MUTED,
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 170,
    },
    "legend": {"labelColor": _INK, "titleColor": _MUTED, "labelFontSize": 12, "orient": "top", "title": None},
}  # fmt: skip
_DASHES = ([1, 0], [6, 3], [6, 3, 1, 3], [1, 3])
_SHARE: Spec = {"format": ".0%", "grid": True}


def charts(page: RunPage) -> dict[str, Spec]:
    """Return the specifications of the charts that there is data for, by the id of their place on the page."""
    known = [video for video in page.videos if video.top]
    found = {"chart-venues": venues(page)}
    if page.alone:
        found["chart-fusing"] = fusing(page)
    if known:
        found |= {"chart-calibration": calibration(known), "chart-coverage": coverage(known)}
        found["chart-confusion"] = confusion(page)
    if page.history:
        found |= {
            "chart-loss": loss(page.history),
            "chart-micro": learning(page.history, "micro_f1"),
            "chart-macro": learning(page.history, "macro_f1"),
        }
    return found


def fusing(page: RunPage) -> Spec:
    """Return the accuracy of the fused model and of each feature set alone, with Wilson's intervals."""
    known = [video for video in page.videos if video.top]
    scores = {"all fused": (sum(video.is_right for video in known), len(known)), **page.alone}
    rows = []
    for name, (n_right, n_rows) in zip(_names(list(scores)), scores.values(), strict=True):
        found = interval(n_right / n_rows, n_rows) if n_rows else None
        if found:
            rows.append(
                {"method": name, "share": n_right / n_rows, "low": found[0], "high": found[1], "videos": n_rows}
            )
    y = {"field": "method", "type": "nominal", "sort": [row["method"] for row in rows], "title": None}
    colour = {"condition": {"test": "datum.method === 'all fused'", "value": _BLUE}, "value": _ORANGE}
    tooltip = [
        {"field": "method"},
        {"field": "share", "format": ".1%", "title": "right"},
        {"field": "low", "format": ".1%", "title": "from"},
        {"field": "high", "format": ".1%", "title": "to"},
        {"field": "videos", "format": ",", "title": "test videos"},
    ]
    x = {"type": "quantitative", "axis": _SHARE, "scale": {"domain": [0, 1]}, "title": "right predictions"}
    layers = [
        {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}}},
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {"x": {"field": "share", **x}},
        },
    ]
    return _spec(
        "Share of right predictions of the fused model and of each feature set, with 95 % intervals",
        rows,
        height=30 * len(rows),
        encoding={"y": y, "color": colour, "tooltip": tooltip},
        layer=layers,
    )


def confusion(page: RunPage) -> Spec:
    """Return the confusion matrix: a cell per pair of venues that occurs, coloured by the share of its row."""
    names = _names(page.metrics.classes)
    support = page.confusion.sum(axis=1)
    rows = [
        {"truth": names[i], "predicted": names[j], "i": int(i), "j": int(j), "videos": int(n), "share": n / support[i]}
        for (i, j), n in np.ndenumerate(page.confusion)
        if n
    ]
    axis: Spec = {"labels": len(names) <= NAMED_VENUES, "ticks": False, "domain": False, "grid": False}
    venue: Spec = {"type": "nominal", "sort": names, "scale": {"domain": names}, "axis": axis}
    size = max(12, min(34, 640 // max(1, len(names))))
    return _spec(
        f"Confusion matrix of {len(names)} venues",
        rows,
        width={"step": size},
        height={"step": size},
        mark={"type": "rect", "cursor": "pointer", "fill": _BLUE, "stroke": _LINE},
        encoding={
            "x": {"field": "predicted", "title": "predicted venue", **venue},
            "y": {"field": "truth", "title": "true venue", **venue},
            "fillOpacity": {
                "field": "share",
                "type": "quantitative",
                "scale": {"type": "sqrt", "domain": [0, 1], "range": [0.05, 1]},
                "legend": None,
            },
            "tooltip": [
                {"field": "truth", "title": "true venue"},
                {"field": "predicted"},
                {"field": "videos", "format": ","},
                {"field": "share", "format": ".1%", "title": "of the venue"},
            ],
        },
    )


def venues(page: RunPage) -> Spec:
    """Return precision and recall of each venue, the most frequent first."""
    support, predicted = page.confusion.sum(axis=1), page.confusion.sum(axis=0)
    hits = np.diag(page.confusion)
    rows, names = [], _names(page.metrics.classes)
    for k in np.argsort(-support, kind="stable"):
        common = {"venue": names[k], "videos": int(support[k])}
        if support[k]:
            rows.append({**common, "measure": "recall", "share": float(hits[k] / support[k])})
        if predicted[k]:
            rows.append({**common, "measure": "precision", "share": float(hits[k] / predicted[k])})
    order = list(dict.fromkeys(row["venue"] for row in rows))
    is_named = len(order) <= NAMED_VENUES
    y = {"field": "venue", "type": "nominal", "sort": order, "title": None, "axis": {"labels": is_named, "grid": True}}
    return _spec(
        "Precision and recall of each venue",
        rows,
        height=(30 if is_named else 6) * max(1, len(order)),
        mark={"type": "point", "filled": True, "size": 80, "opacity": 1},
        encoding={
            "y": y,
            "yOffset": {"field": "measure", "type": "nominal"},
            "x": {"field": "share", "type": "quantitative", "axis": _SHARE, "scale": {"domain": [0, 1]}, "title": None},
            "color": {
                "field": "measure",
                "type": "nominal",
                "scale": {"domain": ["precision", "recall"], "range": [_ORANGE, _BLUE]},
            },
            "shape": {
                "field": "measure",
                "type": "nominal",
                "scale": {"domain": ["precision", "recall"], "range": ["diamond", "circle"]},
            },
            "tooltip": [
                {"field": "venue"},
                {"field": "measure"},
                {"field": "share", "format": ".1%"},
                {"field": "videos", "format": ",", "title": "test videos"},
            ],
        },
    )


def calibration(known: Sequence[ShownVideo]) -> Spec:
    """Return how often predictions of a confidence are right, in bins of about as many videos each."""
    rows = calibration_bins(known)
    x = {"field": "confidence", "type": "quantitative", "axis": _SHARE, "scale": {"domain": [0, 1]}}
    y: Spec = {"type": "quantitative", "axis": _SHARE, "scale": {"domain": [0, 1]}, "title": "right"}
    tooltip = [
        {"field": "confidence", "format": ".1%", "title": "mean confidence"},
        {"field": "right", "format": ".1%"},
        {"field": "videos", "format": ","},
    ]
    diagonal = {"values": [{"confidence": 0, "right": 0}, {"confidence": 1, "right": 1}]}
    layers: list[Spec] = [
        {
            "data": diagonal,
            "mark": {"type": "line", "color": _MUTED, "strokeDash": [4, 4]},
            "encoding": {"x": x, "y": {"field": "right", **y}},
        },
        {
            "mark": {"type": "rule", "color": _BLUE},
            "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 80, "color": _BLUE, "opacity": 1},
            "encoding": {"x": x, "y": {"field": "right", **y}, "tooltip": tooltip},
        },
    ]
    return _spec("Share of right predictions by confidence", rows, height=240, layer=layers)


def calibration_bins(known: Sequence[ShownVideo]) -> list[Spec]:
    """Return mean confidence, share of right predictions and its interval by bin."""
    order = sorted(known, key=lambda video: video.confidence)
    rows = []
    for videos in np.array_split(np.array(order, dtype=object), min(BINS, max(1, len(order) // 10))):
        right = sum(video.is_right for video in videos) / len(videos)
        low, high = interval(right, len(videos)) or (0.0, 1.0)
        confidence = float(np.mean([video.confidence for video in videos]))
        rows.append({"confidence": confidence, "right": right, "low": low, "high": high, "videos": len(videos)})
    return rows


def coverage(known: Sequence[ShownVideo]) -> Spec:
    """Return the accuracy on the most confident videos, by the share of videos that are answered."""
    rows = coverage_rows(known)
    lowest = max(0.0, min(row["right"] for row in rows) - 0.05)
    return _spec(
        "Share of right predictions among the most confident videos",
        rows,
        height=240,
        mark={"type": "line", "color": _BLUE, "point": {"color": _BLUE, "size": 25}},
        encoding={
            "x": {
                "field": "answered",
                "type": "quantitative",
                "axis": _SHARE,
                "scale": {"domain": [0, 1]},
                "title": "videos answered, the most confident first",
            },
            "y": {
                "field": "right",
                "type": "quantitative",
                "axis": _SHARE,
                "scale": {"domain": [lowest, 1], "zero": False},
                "title": "right",
            },
            "tooltip": [
                {"field": "answered", "format": ".0%"},
                {"field": "right", "format": ".1%"},
                {"field": "threshold", "format": ".1%", "title": "confidence from"},
            ],
        },
    )


def coverage_rows(known: Sequence[ShownVideo]) -> list[Spec]:
    """Return up to fifty points: share of videos answered, share right among them, and the lowest confidence."""
    order = sorted(known, key=lambda video: -video.confidence)
    right = np.cumsum([video.is_right for video in order]) / np.arange(1, len(order) + 1)
    ends = np.unique(np.linspace(1, len(order), min(50, len(order))).round().astype(int))
    return [
        {"answered": n / len(order), "right": float(right[n - 1]), "threshold": order[n - 1].confidence}
        for n in ends.tolist()
    ]


def loss(history: Sequence["Epoch"]) -> Spec:
    """Return the training loss and the log loss of the validation videos over the epochs."""
    lines = {
        "training, all terms": [epoch.loss for epoch in history],
        "validation, log loss": [epoch.validation_loss for epoch in history],
    }
    return _over_epochs("Loss over the epochs", history, lines, {"title": "loss (nats)", "axis": {"grid": True}})


def learning(history: Sequence["Epoch"], measure: str) -> Spec:
    """Return `micro_f1` or `macro_f1` of the validation videos over the epochs, of the fused model and its branches."""
    lines = {"fused": [getattr(epoch.validation, measure) for epoch in history]}
    for name in dict.fromkeys(name for epoch in history for name in epoch.per_modality):
        lines[f"{name} branch"] = [getattr(epoch.per_modality.get(name), measure, None) for epoch in history]
    title = f"Validation {measure.removesuffix('_f1')}-F1"
    known = [value for values in lines.values() for value in map(finite, values) if value is not None]
    lowest = max(0.0, math.floor(10 * min(known, default=0.0) - 0.5) / 10)
    y = {"title": title, "axis": _SHARE, "scale": {"domain": [lowest, 1], "zero": False}}
    return _over_epochs(f"{title} over the epochs", history, lines, y)


def _over_epochs(
    description: str, history: Sequence["Epoch"], lines: Mapping[str, Sequence[float | None]], y: Spec
) -> Spec:
    names = _names(list(lines))
    rows = [
        {"line": name, "epoch": epoch.number, "value": value}
        for name, values in zip(names, lines.values(), strict=True)
        for epoch, value in zip(history, map(finite, values), strict=True)
        if value is not None
    ]
    colours = [f"var(--series-{i % 6})" for i in range(len(names))]
    dashes = [_DASHES[i % len(_DASHES)] for i in range(len(names))]
    legend = {"columns": 1 if max(map(len, names)) > 16 else 2, "symbolStrokeWidth": 2, "symbolSize": 200}
    return _spec(
        description,
        rows,
        height=210,
        mark={"type": "line", "point": {"size": 25} if len(history) < 3 else False, "clip": True},
        encoding={
            "x": {
                "field": "epoch",
                "type": "quantitative",
                "axis": {"tickMinStep": 1, "format": "d", "grid": False},
                "scale": {"zero": False, "nice": False},
            },
            "y": {"field": "value", "type": "quantitative", **y},
            "color": {
                "field": "line", "type": "nominal", "scale": {"domain": names, "range": colours}, "legend": legend
            },
            "strokeDash": {"field": "line", "type": "nominal", "scale": {"domain": names, "range": dashes}},
            "tooltip": [{"field": "line", "title": " "}, {"field": "epoch"}, {"field": "value", "format": ".3f"}],
        },
    )  # fmt: skip


def _spec(description: str, rows: Sequence[Mapping[str, Any]], **rest: Any) -> Spec:
    size = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}} if "width" not in rest else {}
    return {"description": description, "data": {"values": list(rows)}, "config": _CONFIG, **size, **rest}


def _names(texts: Sequence[str]) -> list[str]:
    """Return names as charts show them, each once: Vega takes equal names for one."""
    found: dict[str, int] = {}
    for text in texts:
        name = shortened(printable(text), 40)
        while name in found:
            name += "\N{ZERO WIDTH SPACE}"
        found[name] = len(found)
    return list(found)
