"""The look of every figure, and how it is written to a file.

Figures are easy to read, also for color-blind readers, and the same figure always gives the same bytes.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

from src.core.files import atomic

# Okabe & Ito, "Color Universal Design" (2008): readers with any common kind of color vision can tell these apart.
COLORS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "gray": "#7F7F7F",
    "black": "#000000",
}
SPLIT_COLORS = {"train": COLORS["blue"], "validation": COLORS["orange"], "test": COLORS["green"]}
COLOR_MAP = "cividis"  # its lightness rises evenly, and color-blind readers see it as others do
DIVERGING = "PuOr"  # for values around zero: two colors that color-blind readers can tell apart, white in the middle
DARK = 0.65  # share of the largest value from which the background of a cell is dark in DIVERGING
DPI = 120
STYLE: dict[RcKeyType, Any] = {
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of ``width`` x ``height`` inches in the common style.

    It is not registered with pyplot, so it needs no closing; write it with `save_figure`.
    """
    mpl.rcParams.update(STYLE)
    return Figure(figsize=(width, height))


def titled(what: str, edition: str, hint: str = "") -> str:
    """Return the title of a figure: ``what`` it shows, the edition of the data, and ``hint`` on a second line."""
    return f"{what} (CIFAR-10, {edition} edition)" + (f"\n{hint}" if hint else "")


def hide_ticks(axes: Axes) -> None:
    """Remove ticks, grid and frame from ``axes``, so that only the image in it is visible."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` as PNG, completely or not at all, without a date and without a software version.

    Raises `UserError` if ``path`` cannot be written.
    """
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None})
