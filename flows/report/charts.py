"""Charts of a report as inline SVG. The same numbers give the same bytes.

Colours are drawn as placeholders and become CSS variables, so that a page can be light or dark. Text stays text. The
figures of a study use the same palette, style and output functions.
"""

import html
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nmcl.flows.report.numbers import finite, printable, shortened
from nmcl.model.evaluate import Curve
from nmcl.pipeline.storage.run_files import SplitScores

if TYPE_CHECKING:
    from nmcl.model.base import Epoch  # imports torch


@dataclass(frozen=True)
class Palette:
    """Colours for one medium."""

    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]
    paper: str | None
    """Background colour; None: transparent."""

    def line(self, i: int) -> dict[str, Any]:
        """Return colour and dashes of the i-th line. The first twelve lines differ, also in print without colours."""
        return {"color": self.series[i % len(self.series)], "linestyle": DASHES[i % len(DASHES)]}


DASHES = ("-", "--", "-.", ":")
PAGE = Palette("#010203", "#010204", "#010205", tuple(f"#0102{10 + i}" for i in range(6)), None)
"""Placeholders that become CSS variables."""
_VARIABLES = {PAGE.ink: "var(--ink)", PAGE.muted: "var(--muted)", PAGE.grid: "var(--line)"} | {
    colour: f"var(--series-{i})" for i, colour in enumerate(PAGE.series)
}
COOL = (0.16, 0.50, 0.78)
"""Colour of images, which cannot use CSS variables: this blue is visible on white and on black."""
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def styled(palette: Palette, **changes: Any) -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws in the style of the pages."""
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "nmcl",
        "text.parse_math": False,
        "font.family": "DejaVu Sans",  # ships with matplotlib; used only to measure text, the page shows its own font
        "font.size": 9.0,
        "text.color": palette.ink,
        "axes.edgecolor": palette.muted,
        "axes.labelcolor": palette.muted,
        "axes.titlecolor": palette.ink,
        "axes.titlesize": 10.0,
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.unicode_minus": False,
        "grid.color": palette.grid,
        "grid.linewidth": 0.6,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "legend.frameon": False,
        "legend.labelcolor": palette.ink,
        "lines.linewidth": 1.6,
    }
    return matplotlib.rc_context(style | changes)


def bars(rows: Mapping[str, SplitScores], majority: float | None) -> Markup:
    """Draw micro- and macro-F1 of each row, the first row at the top, with the micro-F1 of the majority class."""
    with styled(PAGE):
        figure, axes = _canvas(height=0.9 + 0.46 * len(rows))
        places = np.arange(len(rows))
        for i, measure in enumerate(("micro_f1", "macro_f1")):
            values = [finite(getattr(scores, measure)) for scores in rows.values()]
            at = places + (i - 0.5) * 0.36
            shown = [0.0 if value is None else value for value in values]
            axes.barh(at, shown, height=0.32, color=PAGE.series[i], label=measure.replace("_f1", "-F1"))
            for y, value in zip(at, values, strict=True):
                text = "–" if value is None else f"{value:.1%}"
                axes.text(1.01, y, text, va="center", fontsize=8, color=PAGE.ink)
        if majority is not None:
            axes.axvline(majority, color=PAGE.ink, linestyle=":", linewidth=1.2, label="always the most frequent venue")
        axes.set_yticks(places, [label(name, 24) for name in rows])
        axes.tick_params(axis="y", length=0, labelcolor=PAGE.ink)
        axes.set_xlim(0, 1)
        axes.set_xticks(np.linspace(0, 1, 5))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(axis="y", visible=False)
        axes.invert_yaxis()
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, handlelength=1.4, columnspacing=1.2)
        return inline_svg(figure, "bars", f"Bar chart: F1 of {', '.join(rows)}")


def roc(curves: Mapping[Any, Curve]) -> Markup:
    """Draw the ROC curves, and the diagonal of a random classifier."""
    with styled(PAGE):
        figure, axes = _canvas(height=4.0)
        for i, (name, curve) in enumerate(curves.items()):
            area = "" if curve.auc is None else f" (AUC {curve.auc:.3f})"
            axes.plot(curve.fpr, curve.tpr, **PAGE.line(i), label=f"{label(name, 24)}{area}")
        axes.plot([0, 1], [0, 1], color=PAGE.muted, linestyle=":", linewidth=1, label="chance (AUC 0.500)")
        axes.set(
            xlim=(0, 1),
            ylim=(0, 1.01),
            xlabel="false positive rate",
            ylabel="true positive rate",
            aspect="equal",
        )
        axes.legend(loc="lower right", fontsize=8)
        return inline_svg(figure, "roc", f"ROC curves: {', '.join(curves)}")


def losses(history: Sequence["Epoch"]) -> Markup:
    """Draw the training and validation loss over the epochs."""
    lines = {
        "training": [epoch.loss for epoch in history],
        "validation": [epoch.validation_loss for epoch in history],
    }
    return _over_epochs("loss", "Loss (nats)", history, lines, is_share=False)


def learning(history: Sequence["Epoch"], measure: str) -> Markup:
    """Draw `micro_f1` or `macro_f1` of the validation videos over the epochs, fused and by modality."""
    lines = {"fused": [getattr(epoch.validation, measure) for epoch in history]}
    for name in dict.fromkeys(name for epoch in history for name in epoch.per_modality):
        lines[name] = [getattr(epoch.per_modality.get(name), measure, None) for epoch in history]
    title = f"Validation {measure.removesuffix('_f1')}-F1"
    return _over_epochs(measure, title, history, lines, is_share=True)


def _over_epochs(
    measure: str,
    title: str,
    history: Sequence["Epoch"],
    lines: Mapping[str, Sequence[float | None]],
    *,
    is_share: bool,
) -> Markup:
    with styled(PAGE):
        figure, axes = _canvas(width=3.6, height=3.0)
        at = [epoch.number for epoch in history]
        for i, (name, values) in enumerate(lines.items()):
            heights = floats(values)
            if np.isfinite(heights).any():
                marker = "o" if len(at) < 3 else None  # a line through one point is invisible
                axes.plot(at, heights, **PAGE.line(i), marker=marker, markersize=4, label=label(name, 16))
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if is_share:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.set_ylim(0, 1)
        if axes.lines:
            figure.legend(loc="outside lower center", ncols=4, fontsize=8, columnspacing=1.0, handlelength=1.6)
        return inline_svg(figure, measure, f"{title} over {len(at)} epochs: {', '.join(lines)}")


def heat_map(confusion: np.ndarray, venues: Sequence[str]) -> Markup:
    """Draw the share of each true venue's videos by predicted venue, (K, K), with names for up to 40 venues."""
    counts = np.asarray(confusion, dtype=float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    pixels = np.empty((*share.shape, 4))
    pixels[..., :3] = COOL
    pixels[..., 3] = np.sqrt(share)  # the root makes a few per cent visible next to the diagonal
    with styled(PAGE):
        figure, axes = _canvas(width=6.4, height=6.4)
        axes.imshow(pixels, interpolation="none")
        axes.grid(visible=False)
        axes.set(xlabel="predicted venue", ylabel="true venue")
        if len(venues) <= 40:
            names = [label(name, 18) for name in venues]
            axes.set_xticks(range(len(venues)), names, rotation=90, fontsize=7)
            axes.set_yticks(range(len(venues)), names, fontsize=7)
            axes.tick_params(length=0, labelcolor=PAGE.ink)
        return inline_svg(figure, "confusion", f"Heat map: confusion matrix of {len(venues)} venues")


def _canvas(height: float, width: float = 4.4) -> tuple[Figure, Axes]:
    figure = canvas(PAGE, width, height)
    return figure, bare(figure.add_subplot())


def canvas(palette: Palette, width: float, height: float) -> Figure:
    """Return an empty figure; width and height are in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    if palette.paper is None:
        figure.patch.set_visible(False)
    else:
        figure.patch.set_facecolor(palette.paper)
    return figure


def bare(axes: Axes) -> Axes:
    """Return the axes after removing their background."""
    axes.patch.set_visible(False)
    return axes


def floats(values: Sequence[float | None]) -> np.ndarray:
    """Return an array of shape (n,), NaN for None."""
    return np.array(values, dtype=float)


def label(name: str, width: int) -> str:
    """Return a name on one line that matplotlib shows literally."""
    shown = shortened(printable(name), width)
    return f"\N{WORD JOINER}{shown}" if shown.startswith("_") else shown  # matplotlib hides names that start with _


def saved(figure: Figure, kind: str, metadata: Mapping[str, str | None], **options: Any) -> bytes:
    """Return the bytes of a figure's file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Names may be in any script, and DejaVu lacks some. In an SVG it only measures them; the reader has the glyphs.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(file, format=kind, metadata=metadata, **options)
    return file.getvalue()


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """Return inline SVG whose ids start with `name`, so that they are unique on a page."""
    text = saved(figure, "svg", NO_METADATA).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    box = re.search(r'viewBox="[^"]*"', text)
    if box is None:
        raise RuntimeError("matplotlib wrote an SVG without a viewBox")
    label = html.escape(printable(description))
    head = f'<svg class="chart" role="img" aria-label="{label}" {box.group()}>'
    text = head + text[text.index(">") + 1 :]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return Markup(text)
