"""Charts of a report as inline SVG. The same numbers give the same bytes.

Colours are drawn as placeholders and become CSS variables, so that a page can be light or dark. Text stays text.
"""

import html
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nmcl.flows.report.numbers import printable, shortened
from nmcl.model.evaluate import Curve
from nmcl.pipeline.storage.run_files import SplitScores

if TYPE_CHECKING:
    from nmcl.model.base import Epoch  # imports torch

INK, MUTED, GRID = "#010203", "#010204", "#010205"
SERIES = tuple(f"#0102{10 + i}" for i in range(6))
_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)"} | {
    colour: f"var(--series-{i})" for i, colour in enumerate(SERIES)
}
_HEAT = (0.16, 0.50, 0.78)  # an image cannot use CSS variables: this blue is visible on white and on black
_DASHES = ("-", "--", "-.", ":")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nmcl",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # ships with matplotlib; used only to measure text, the page shows its own font
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
}


def bars(rows: Mapping[str, SplitScores], majority: float | None) -> Markup:
    """Draw micro- and macro-F1 of each row, the first row at the top, with the micro-F1 of the majority class."""
    with _styled():
        figure, axes = _canvas(height=0.9 + 0.46 * len(rows))
        places = np.arange(len(rows))
        for i, (label, values) in enumerate(_measures(rows).items()):
            at = places + (i - 0.5) * 0.36
            shown = [0.0 if value is None else value for value in values]
            axes.barh(at, shown, height=0.32, color=SERIES[i], label=label)
            for y, value in zip(at, values, strict=True):
                text = "–" if value is None else f"{value:.1%}"
                axes.text(1.01, y, text, va="center", fontsize=8, color=INK)
        if majority is not None:
            axes.axvline(majority, color=INK, linestyle=":", linewidth=1.2, label="always the most frequent venue")
        axes.set_yticks(places, [_label(name, 24) for name in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_xlim(0, 1)
        axes.set_xticks(np.linspace(0, 1, 5))
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.grid(axis="y", visible=False)
        axes.invert_yaxis()
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, handlelength=1.4, columnspacing=1.2)
        return _svg(figure, "bars", f"Bar chart: F1 of {', '.join(rows)}")


def _measures(rows: Mapping[str, SplitScores]) -> dict[str, list[float | None]]:
    return {
        "micro-F1": [_finite(scores.micro_f1) for scores in rows.values()],
        "macro-F1": [_finite(scores.macro_f1) for scores in rows.values()],
    }


def roc(curves: Mapping[Any, Curve]) -> Markup:
    """Draw the true over the false positive rate of each curve, and the diagonal of a random classifier."""
    with _styled():
        figure, axes = _canvas(height=4.0)
        for i, (name, curve) in enumerate(curves.items()):
            area = "" if curve.auc is None else f" (AUC {curve.auc:.3f})"
            axes.plot(curve.fpr, curve.tpr, **_line(i), label=f"{_label(name, 24)}{area}")
        axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1, label="chance (AUC 0.500)")
        axes.set(
            xlim=(0, 1),
            ylim=(0, 1.01),
            xlabel="false positive rate",
            ylabel="true positive rate",
            aspect="equal",
        )
        axes.legend(loc="lower right", fontsize=8)
        return _svg(figure, "roc", f"ROC curves: {', '.join(curves)}")


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
    name: str,
    title: str,
    history: Sequence["Epoch"],
    lines: Mapping[str, Sequence[float | None]],
    *,
    is_share: bool,
) -> Markup:
    with _styled():
        figure, axes = _canvas(width=3.6, height=3.0)
        at = [epoch.number for epoch in history]
        for i, (label, values) in enumerate(lines.items()):
            heights = np.array([np.nan if value is None else value for value in values], dtype=float)
            if np.isfinite(heights).any():
                marker = "o" if len(at) < 3 else None  # a line through one point is invisible
                axes.plot(at, heights, **_line(i), marker=marker, markersize=4, label=_label(label, 16))
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if is_share:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.set_ylim(0, 1)
        if axes.lines:
            figure.legend(loc="outside lower center", ncols=4, fontsize=8, columnspacing=1.0, handlelength=1.6)
        return _svg(figure, name, f"{title} over {len(at)} epochs: {', '.join(lines)}")


def heat_map(confusion: np.ndarray, venues: Sequence[str]) -> Markup:
    """Draw the share of each true venue's videos by predicted venue, (K, K), with names for up to 40 venues."""
    counts = np.asarray(confusion, dtype=float)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    pixels = np.empty((*share.shape, 4))
    pixels[..., :3] = _HEAT
    pixels[..., 3] = np.sqrt(share)  # the root makes a few per cent visible next to the diagonal
    with _styled():
        figure, axes = _canvas(width=6.4, height=6.4)
        axes.imshow(pixels, interpolation="none")
        axes.grid(visible=False)
        axes.set(xlabel="predicted venue", ylabel="true venue")
        if len(venues) <= 40:
            names = [_label(name, 18) for name in venues]
            axes.set_xticks(range(len(venues)), names, rotation=90, fontsize=7)
            axes.set_yticks(range(len(venues)), names, fontsize=7)
            axes.tick_params(length=0, labelcolor=INK)
        return _svg(figure, "confusion", f"Heat map: confusion matrix of {len(venues)} venues")


def _line(i: int) -> dict[str, Any]:
    """Return colour and dashes of the i-th line, so that lines differ without colours too."""
    return {"color": SERIES[i % len(SERIES)], "linestyle": _DASHES[i % len(_DASHES)]}


@contextmanager
def _styled() -> Iterator[None]:
    with matplotlib.rc_context(_STYLE):
        yield


def _canvas(height: float, width: float = 4.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    return figure, axes


def _label(name: str, width: int) -> str:
    shown = shortened(printable(name), width)
    return f"\N{WORD JOINER}{shown}" if shown.startswith("_") else shown  # matplotlib hides names that start with _


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _svg(figure: Figure, name: str, description: str) -> Markup:
    """Return inline SVG whose ids start with `name`, so that they are unique on a page."""
    file = io.StringIO()
    with warnings.catch_warnings():
        # Names may be in any script. matplotlib only measures them; the reader's browser has the glyphs.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue()
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
