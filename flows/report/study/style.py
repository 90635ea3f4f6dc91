"""Style of figures, and rendering of a drawing as an SVG file, a PNG file or a part of the page.

A drawing takes its colours from a palette: dark on white for files, placeholders that become CSS variables for the
page. Lines also differ in dashes and areas in hatches, so that nothing depends on colour.
"""

import html
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from nmcl.flows.report.numbers import printable, shortened


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
MARKERS = ("o", "s", "^", "D", "v", "P")
HATCH = "////"
WARM = (0.84, 0.37, 0.0)
"""Another such colour, for values below zero."""
_DPI = 200
PRINT = Palette(
    "#1a1a1a", "#595959", "#d9d9d9", ("#0072b2", "#d55e00", "#00835f", "#b0508a", "#8a6d00", "#3d8fc4"), "white"
)

Draw = Callable[[Palette], Figure]


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn in any palette."""

    name: str
    """Name of its files, without suffix; ASCII letters, digits and hyphens."""
    caption: str
    """Description of the figure, also as text alternative."""
    draw: Draw

    def svg(self) -> bytes:
        """Return an SVG file on white; the same data gives the same bytes."""
        return self._file("svg", NO_METADATA)

    def png(self) -> bytes:
        """Return a PNG file."""
        return self._file("png", {"Software": None})

    def _file(self, kind: str, metadata: dict[str, None]) -> bytes:
        with _styled(PRINT):
            return _saved(self.draw(PRINT), kind, metadata, dpi=_DPI)

    def inline(self) -> Markup:
        """Return an inline SVG element of a light or dark page, in the colours of `style.css`."""
        with _styled(PAGE):
            return _inline_svg(self.draw(PAGE), self.name, self.caption)


def end_labels(axes: Axes, ends: Sequence[tuple[str, float, float, str]], gap: float = 0.062) -> None:
    """Write names right of the axes next to the ends of their lines, moved apart where they would overlap.

    Args:
        ends: Name, x and y of the last point, colour.
        gap: Smallest distance of two names, as a share of the height of the axes.
    """
    low, high = axes.get_ylim()
    heights = apart([y for _, _, y, _ in ends], gap * (high - low), low, high)
    for (name, x, y, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            label(name, 18),
            xy=(x, y),
            xytext=(1.05, height),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=colour,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0},
        )


def apart(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return the heights in the same order, at least `gap` apart and, if there is room, within low..high."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    moved = [heights[i] for i in order]
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    if moved:
        moved[-1] = max(min(moved[-1], high), low + gap * (len(moved) - 1))
    for i in reversed(range(len(moved) - 1)):
        moved[i] = min(moved[i], moved[i + 1] - gap)
    placed = dict(zip(order, moved, strict=True))
    return [placed[i] for i in range(len(heights))]


def thinned(n: int, inches: float, least: float = 0.12) -> range:
    """Return which of n ticks are labelled, so that each label has at least `least` of this many inches."""
    return range(0, n, max(1, int(np.ceil(n * least / inches))))


def fading(*colours: tuple[float, float, float]) -> ListedColormap:
    """Return a colour map from transparent to one colour, or from one colour through transparent to another."""
    strength = np.linspace(0, 1, 128)
    parts = [np.column_stack([np.tile(colour, (128, 1)), strength]) for colour in colours]
    return ListedColormap(np.concatenate([parts[0][::-1], parts[1]] if len(parts) == 2 else parts))


def scale(axes: Axes, colours: ListedColormap, low: float, high: float, title: str) -> None:
    """Draw the colour scale of an image as another image: matplotlib's own colour bar shows seams in SVG."""
    axes.imshow(
        np.linspace(low, high, 256)[:, None], cmap=colours, extent=(0, 1, low, high), origin="lower", aspect="auto"
    )
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set_ylabel(title, fontsize=8)
    axes.tick_params(labelsize=7, length=2)
    axes.grid(visible=False)


def slug(name: str) -> str:
    """Return the ASCII letters, digits and hyphens of a name, for a file; may be empty."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in shortened(name, 40).lower())
    return "-".join(part for part in kept.split("-") if part)


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


def _styled(palette: Palette) -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws in the style of the pages."""
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "nmcl",
        "text.parse_math": False,
        "font.family": ["DejaVu Sans", "sans-serif"],  # the second is for readers of an SVG who lack the first
        "font.sans-serif": ["DejaVu Sans"],
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
        "axes.unicode_minus": True,
        "grid.color": palette.grid,
        "grid.linewidth": 0.6,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "legend.frameon": False,
        "legend.labelcolor": palette.ink,
        "lines.linewidth": 1.6,
        "hatch.linewidth": 0.6,
    }
    return matplotlib.rc_context(style)


def _saved(figure: Figure, kind: str, metadata: Mapping[str, str | None], **options: Any) -> bytes:
    """Return the bytes of a figure's file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Names may be in any script, and DejaVu lacks some. In an SVG it only measures them; the reader has the glyphs.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(file, format=kind, metadata=metadata, **options)
    return file.getvalue()


def _inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """Return inline SVG whose ids start with `name`, so that they are unique on a page."""
    text = _saved(figure, "svg", NO_METADATA).decode()
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
