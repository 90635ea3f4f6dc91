"""Line figures: ROC curves (Fig. 4), scores over the epochs (Fig. 5) and completion."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter

from nmcl.flows.report.numbers import finite
from nmcl.flows.report.study.style import DASHES, MARKERS, Palette, bare, canvas, end_labels, floats, label
from nmcl.model.evaluate import Curve
from nmcl.model.study.results import FUSED, CompletionLevel, StudyData

_SHOWN = 5
"""Number of methods with a colour of their own in the ROC figure; further ones are thin and grey."""

Average = Literal["micro", "macro"]
_PERFECT = 0.99
"""If the AUC of every method is larger, their curves all run along the edges of the panel."""


def telling(data: StudyData) -> list[Average]:
    """Return the averages whose ROC curves show a difference between methods, or the curve of one that errs.

    A method that predicts the same for every row (AUC 0.5) has no curve worth a look.
    """
    averages: tuple[Average, ...] = ("micro", "macro")
    return [
        average
        for average in averages
        if any(
            _area(curve) not in (0.0, 0.5) and _area(curve) <= _PERFECT for curve in data.roc.get(average, {}).values()
        )
    ]


def roc(data: StudyData, palette: Palette) -> Figure:
    """Draw micro and macro ROC curves; each legend is in order of AUC."""
    averages = telling(data)
    styles = _roc_styles(data, palette)
    room = 0.5 + 0.155 * max(len(data.roc[average]) for average in averages)
    figure = canvas(palette, 3.6 * len(averages), 3.6 + room)
    panels = figure.subplots(2, len(averages), squeeze=False, height_ratios=(3.6, room))
    for average, axes, below in zip(averages, *panels, strict=True):
        _roc_panel(bare(axes), data.roc[average], styles, palette)
        axes.set_title(f"{average.capitalize()}-average")
        _roc_legend(axes, below)
    return figure


def _roc_panel(axes: Axes, curves: Mapping[str, Curve], styles: Mapping[str, dict[str, Any]], palette: Palette) -> None:
    for name in sorted(curves, key=lambda name: (-_area(curves[name]), name)):
        curve = curves[name]
        area = "  –  " if finite(curve.auc) is None else f"{curve.auc:.3f}"
        axes.plot(curve.fpr, curve.tpr, **styles[name], label=f"{area}  {label(name, 28)}")
    axes.plot([0, 1], [0, 1], color=palette.muted, linestyle=(0, (1, 3)), linewidth=0.8, label="0.500  chance")
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="false positive rate", ylabel="true positive rate")
    axes.set_box_aspect(1)


def _roc_legend(axes: Axes, below: Axes) -> None:
    below.axis("off")
    below.legend(
        *axes.get_legend_handles_labels(),
        loc="upper left",
        borderaxespad=0,
        borderpad=0,
        fontsize=7.5,
        handlelength=2.8,
        labelspacing=0.25,
        title="AUC and method",
        title_fontsize=7.5,
        alignment="left",
    )


def _roc_styles(data: StudyData, palette: Palette) -> dict[str, dict[str, Any]]:
    """Return the line style of each method: the reference thick, the best others in colour, the rest grey."""
    names = list(dict.fromkeys(name for curves in data.roc.values() for name in curves))
    total = {name: sum(_area(curves[name]) for curves in data.roc.values() if name in curves) for name in names}
    rivals = sorted((name for name in names if name != data.reference), key=lambda name: -total[name])
    styles = {data.reference: {"color": palette.series[0], "linewidth": 2.8, "linestyle": "-", "zorder": 3}}
    for i, name in enumerate(rivals[:_SHOWN]):
        styles[name] = {**palette.line(i + 1), "linewidth": 1.1, "zorder": 4}
    for i, name in enumerate(rivals[_SHOWN:]):
        styles[name] = {"color": palette.muted, "linewidth": 0.7, "linestyle": DASHES[i % len(DASHES)], "alpha": 0.75}
    return styles


def _area(curve: Curve) -> float:
    return finite(curve.auc) or 0.0


def epochs(data: StudyData, palette: Palette) -> Figure:
    """Draw validation micro- and macro-F1 over the epochs, fused and by modality."""
    figure = canvas(palette, 7.6, 3.2)
    averages: tuple[Average, ...] = ("micro", "macro")
    for average, axes in zip(averages, figure.subplots(1, 2), strict=True):
        lines = [
            (
                name,
                np.array([point.number for point in points], float),
                floats([point.micro_f1 if average == "micro" else point.macro_f1 for point in points]),
            )
            for name, points in data.epochs.items()
        ]
        is_short = max(len(points) for points in data.epochs.values()) < 3  # a line through one point is invisible
        _plot(bare(axes), lines, palette, has_markers=is_short, thick=FUSED)
        axes.set_title(f"Validation {average}-F1")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        if not is_short:
            axes.margins(x=0.01)
    return figure


def completion(data: StudyData, palette: Palette) -> Figure:
    """Draw the completion error and macro-F1 of incomplete rows by share hidden, one line per completer."""
    levels = sorted(data.completion, key=lambda level: level.hidden)
    figure = canvas(palette, 7.6, 3.2)
    left, right = figure.subplots(1, 2)
    _plot(bare(left), _completer_lines(levels, "nrmse"), palette, has_markers=True)
    left.set_title("Completion error (NRMSE)")
    left.axhline(1, color=palette.muted, linestyle=(0, (1, 3)), linewidth=0.8)
    _plot(bare(right), _completer_lines(levels, "macro_f1"), palette, has_markers=True)
    right.set_title("Macro-F1 of incomplete rows")
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in (left, right):
        axes.set_xlabel("share of vectors hidden")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def learning_curves(data: StudyData, palette: Palette) -> Figure:
    """Draw macro-F1 by number of labels, without and with unlabelled rows: the reference thick, the best in colour."""
    names = list(dict.fromkeys(point.method for point in data.learning_curves))
    found = {name: [point for point in data.learning_curves if point.method == name] for name in names}
    means = {name: sum(finite(p.macro_f1.mean) or 0.0 for p in points) for name, points in found.items()}
    rivals = sorted((name for name in names if name != data.reference), key=lambda name: -means[name])
    styles: dict[str, dict[str, Any]] = {
        name: {"color": palette.muted, "linewidth": 0.7, "alpha": 0.75} for name in rivals
    }
    styles |= {name: {**palette.line(i), "linewidth": 1.3} for i, name in enumerate(rivals[:_SHOWN], start=1)}
    styles[data.reference] = {"color": palette.series[0], "linewidth": 2.4, "zorder": 3}
    figure = canvas(palette, 7.6, 3.4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, is_with, title in zip(panels, (False, True), ("Labelled rows", "With unlabelled rows"), strict=True):
        bare(axes).set_title(title)
        ends = []
        for name, points in found.items():
            x = np.array([point.n_labels for point in points], float)
            values = [p.with_unlabelled if is_with and p.with_unlabelled.values else p.macro_f1 for p in points]
            y = floats([value.mean for value in values])
            axes.plot(x, y, marker="o", markersize=2.5, **styles[name])
            if name == data.reference or name in rivals[:_SHOWN]:
                ends += [(name, float(x[i]), float(y[i]), styles[name]["color"]) for i in np.flatnonzero(y == y)[-1:]]
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(sorted({p.n_labels for p in data.learning_curves})))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlabel("labelled training rows")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        end_labels(axes, ends)
    return figure


def _completer_lines(
    levels: Sequence[CompletionLevel], measure: Literal["nrmse", "macro_f1"]
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    names = dict.fromkeys(name for level in levels for name in level.completers)
    lines = []
    for name in names:
        points = [(level.hidden, level.completers[name]) for level in levels if name in level.completers]
        values = [scores.nrmse if measure == "nrmse" else scores.macro_f1.mean for _, scores in points]
        lines.append((name, np.array([hidden for hidden, _ in points]), floats(values)))
    return lines


def _plot(
    axes: Axes,
    lines: Sequence[tuple[str, np.ndarray, np.ndarray]],
    palette: Palette,
    *,
    has_markers: bool,
    thick: str | None = None,
) -> None:
    """Draw lines on a y axis that starts at zero, each labelled at its end."""
    ends = []
    for i, (name, x, y) in enumerate(lines):
        is_known = np.isfinite(y)
        if not is_known.any():
            continue
        marker = MARKERS[i % len(MARKERS)] if has_markers else None
        width = 2.4 if name == thick else 1.3
        axes.plot(x[is_known], y[is_known], **palette.line(i), linewidth=width, marker=marker, markersize=3.5)
        ends.append((name, float(x[is_known][-1]), float(y[is_known][-1]), palette.line(i)["color"]))
    top = max((float(np.nanmax(y)) for _, _, y in lines if np.isfinite(y).any()), default=1.0)
    axes.set_ylim(0, 1.06 * top if top > 0 else 1.0)
    end_labels(axes, ends)
