"""Heat maps: host features that guests also carry (Fig. 6), and the attention of venues to features (Fig. 7)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from nmcl.flows.report.study.style import COOL, HATCH, WARM, Palette, bare, canvas, fading, label, scale, thinned
from nmcl.model.study.results import AttentionMemory, RelationExample

_FEW = 900
"""Maximum number of cells of a map in which nearly all cells below 1 get a dash; in larger ones, only those far below.

Without the dash, the two colours look the same in grey print.
"""


def relation(example: RelationExample, palette: Palette) -> Figure:
    """Draw relation scores of guests (rows) and host features (columns), and below them the split of each feature."""
    n_guests, n_features = len(example.guests), len(example.features)
    height = 0.34 * n_guests
    figure = canvas(palette, 7.2, height + 2.9)
    grid = figure.add_gridspec(2, 2, height_ratios=(height, 1.3), width_ratios=(60, 1))
    top, bottom = bare(figure.add_subplot(grid[0, 0])), bare(figure.add_subplot(grid[1, 0]))
    colours = fading(COOL)
    top.imshow(example.scores, cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="none")
    top.set_yticks(range(n_guests), [label(name, 22) for name in example.guests], fontsize=8)
    top.set_xticks([])
    top.tick_params(length=0, labelcolor=palette.ink)
    _frame(top)
    scale(bare(figure.add_subplot(grid[0, 1])), colours, 0, 1, "score")
    _division(bottom, example, palette)
    ticks = thinned(n_features, 5.4)
    bottom.set_xticks(list(ticks), [label(example.features[i], 18) for i in ticks], rotation=90, fontsize=7)
    bottom.set_xlabel(f"feature of {label(example.host, 40)}")
    bottom.set_xlim(-0.5, n_features - 0.5)
    names = f"true: {label(example.label, 28)}, predicted: {label(example.predicted, 28)}"
    verdict = "right" if example.label == example.predicted else "wrong"
    top.set_title(f"{label(example.title, 70)}\n{names} ({verdict})", fontsize=9)
    return figure


def _division(axes: Axes, example: RelationExample, palette: Palette) -> None:
    at = np.arange(len(example.features))
    axes.bar(at, example.consistent, width=0.8, color=palette.series[0], label="consistent")
    axes.bar(
        at,
        example.complementary,
        bottom=example.consistent,
        width=0.8,
        facecolor="none",
        edgecolor=palette.series[1],
        hatch=HATCH,
        linewidth=0.6,
        label="complementary",
    )
    axes.set_ylim(0, 1)
    axes.set_ylabel("share")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, ncols=2, fontsize=8, handlelength=1.4)


def attention(memory: AttentionMemory, palette: Palette) -> Figure:
    """Draw weights of venues (rows) and features (columns): one colour above 1, another below.

    The scale reaches from 0 to 2, or further: weights that are all about 1 have hardly any colour.
    """
    n_classes, n_features = memory.weights.shape
    width = min(8.0, 2.6 + 0.2 * n_features)
    height = min(11.0, 1.6 + 0.17 * n_classes)
    figure = canvas(palette, width, height)
    grid = figure.add_gridspec(1, 2, width_ratios=(40, 1))
    axes, bar = bare(figure.add_subplot(grid[0, 0])), bare(figure.add_subplot(grid[0, 1]))
    reach = max(1.0, float(np.abs(memory.weights - 1).max(initial=0)))
    colours = fading(COOL, WARM)
    axes.imshow(memory.weights, cmap=colours, vmin=1 - reach, vmax=1 + reach, aspect="auto", interpolation="none")
    rows, columns = thinned(n_classes, height - 1.6, 0.11), thinned(n_features, width - 2.4, 0.13)
    axes.set_yticks(list(rows), [label(memory.classes[i], 24) for i in rows], fontsize=7)
    axes.set_xticks(list(columns), [label(memory.features[i], 18) for i in columns], rotation=90, fontsize=7)
    axes.tick_params(length=0 if len(rows) == n_classes and len(columns) == n_features else 2, labelcolor=palette.ink)
    is_small = memory.weights.size <= _FEW
    down, across = np.nonzero(memory.weights < 1 - (0.1 if is_small else 0.35) * reach)
    axes.plot(
        across,
        down,
        "_",
        color=palette.ink,
        markersize=4 if is_small else 2.5,
        markeredgewidth=0.7,
        linestyle="none",
    )
    low, high = memory.weights.min(), memory.weights.max()
    axes.set_title(f"Attention to features of {label(memory.host, 30)}: weights {low:.2f} to {high:.2f}")
    _frame(axes)
    scale(bar, colours, 1 - reach, 1 + reach, "weight (1: neutral)")
    return figure


def _frame(axes: Axes) -> None:
    axes.grid(visible=False)
    axes.spines[["top", "right"]].set_visible(True)
