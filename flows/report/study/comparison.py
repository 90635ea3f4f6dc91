"""Figures of a study that compare methods, and figures of the gates."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nmcl.flows.report.numbers import DASH, finite
from nmcl.flows.report.study.style import HATCH, Palette, bare, canvas, label
from nmcl.model.study.results import GatePoint, MethodRow, Spread, StudyData

NEAR = 0.6
"""Methods below this share of the best mean are only marked at the left edge."""


def methods(data: StudyData, palette: Palette) -> Figure:
    """Draw micro- and macro-F1 of each method, best macro-F1 on top: mean, standard deviation and single seeds."""
    rows = sorted(data.methods, key=lambda row: (-_mean(row.macro_f1), -_mean(row.micro_f1)))
    figure = canvas(palette, 7.6, 1.0 + 0.25 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    _dots(bare(left), "Micro-F1", [row.micro_f1 for row in rows], rows, data.reference, palette)
    _dots(bare(right), "Macro-F1", [row.macro_f1 for row in rows], rows, data.reference, palette)
    left.set_yticks(range(len(rows)), [label(row.name, 24) for row in rows])
    for tick, row in zip(left.get_yticklabels(), rows, strict=True):
        tick.set_color(palette.ink)
        tick.set_fontweight("bold" if row.name == data.reference else "normal")
    left.set_ylim(len(rows) - 0.4, -0.6)
    return figure


def _dots(
    axes: Axes, title: str, spreads: Sequence[Spread], rows: Sequence[MethodRow], reference: str, palette: Palette
) -> None:
    low, high = _range(spreads)
    for y, (spread, row) in enumerate(zip(spreads, rows, strict=True)):
        colour = palette.series[0] if row.name == reference else palette.muted
        axes.annotate(
            _written(spread),
            (1.02, y),
            xycoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=7.5,
            color=palette.ink,
        )
        mean = finite(spread.mean)
        if mean is None:
            continue
        if mean < low:
            axes.annotate("◂", (0.01, y), xycoords=axes.get_yaxis_transform(), va="center", color=colour)
            continue
        if row.name == reference:
            axes.axvline(mean, color=colour, linestyle=(0, (1, 3)), linewidth=0.8, zorder=1)
        seeds = np.full(len(spread.values), y + 0.24)
        axes.plot(spread.values, seeds, "o", color=colour, markersize=1.6, linestyle="none", alpha=0.8)
        axes.errorbar(
            mean,
            y,
            xerr=finite(spread.std),
            fmt="D" if row.name == reference else "o",
            color=colour,
            markersize=3.6,
            capsize=2.6,
            elinewidth=1.0,
        )
    axes.set_title(title)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)


def _range(spreads: Sequence[Spread]) -> tuple[float, float]:
    """Return the axis range of the methods near the best one; a single bad method would hide all differences."""
    best = max((_mean(spread) for spread in spreads), default=1.0)
    near = [spread for spread in spreads if _mean(spread) >= max(NEAR * best, 0.0)]
    ends = [_mean(s) + sign * (finite(s.std) or 0.0) for s in near for sign in (-1, 1)]
    ends += [value for spread in near for value in spread.values]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = max(0.06 * (high - low), 0.005)
    return max(0.0, low - margin), high + margin


def _mean(spread: Spread) -> float:
    """Return the mean as a sort key; unknown means are last."""
    mean = finite(spread.mean)
    return -1.0 if mean is None else mean


def _written(spread: Spread) -> str:
    mean, std = finite(spread.mean), finite(spread.std)
    if mean is None:
        return DASH
    return f"{100 * mean:.1f}" if std is None else f"{100 * mean:.1f} ±{100 * std:.1f}"


def gates(data: StudyData, palette: Palette) -> Figure:
    """Draw the share of open, undecided and shut gates over the epochs, a row per modality and a column per side."""
    modalities = list(dict.fromkeys(point.modality for point in data.gates))
    figure = canvas(palette, 6.4, 0.9 + 1.35 * len(modalities))
    panels = figure.subplots(len(modalities), 2, sharex=True, sharey=True, squeeze=False)
    sides: tuple[Literal["host", "guest"], ...] = ("host", "guest")
    for modality, row in zip(modalities, panels, strict=True):
        for side, axes in zip(sides, row, strict=True):
            points = [point for point in data.gates if (point.modality, point.side) == (modality, side)]
            _areas(bare(axes), sorted(points, key=lambda point: point.epoch), palette)
            axes.set_title(f"{label(modality, 24)}, {'host' if side == 'host' else 'its guests'}", fontsize=9)
        row[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = next(axes for axes in panels.flat if axes.collections).get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=3, fontsize=8, handlelength=1.6)
    return figure


def _areas(axes: Axes, points: Sequence[GatePoint], palette: Palette) -> None:
    at = np.array([point.epoch for point in points], float)
    shares = np.array([[point.open, point.undecided, point.shut] for point in points]).reshape(-1, 3)
    if len(points) == 1:  # an area over one point is invisible
        at, shares = np.array([at[0] - 0.5, at[0] + 0.5]), shares.repeat(2, axis=0)
    edges = np.concatenate([np.zeros((len(shares), 1)), shares.cumsum(axis=1)], axis=1)
    looks: tuple[dict[str, Any], ...] = (
        {"label": "open (consistent)", "facecolor": palette.series[0]},
        {"label": "undecided", "facecolor": palette.grid},
        {"label": "shut (complementary)", "facecolor": "none", "edgecolor": palette.series[1], "hatch": HATCH},
    )
    for i, look in enumerate(looks):
        if len(points):
            axes.fill_between(at, edges[:, i], edges[:, i + 1], linewidth=0, **look)
    axes.set_ylim(0, 1)
    axes.margins(x=0)
    axes.grid(visible=False)
