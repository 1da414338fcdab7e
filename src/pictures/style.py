"""How every figure looks, and how it is written: legible, colour-blind safe, the same bytes at every run."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.core.files import atomic

# Okabe & Ito, "Color Universal Design" (2008): told apart with every common kind of colour vision.
COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "grey": "#7F7F7F",
    "black": "#000000",
}
SPLIT_COLOURS = {"train": COLOURS["blue"], "validation": COLOURS["orange"], "test": COLOURS["green"]}
MAP = "cividis"  # even in lightness, and the same to colour-blind readers
DPI = 120
STYLE = {
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
    """An empty figure of ``width`` x ``height`` inches in the shared style, for `save_figure` alone.

    It belongs to no window system and no global list, so it needs no closing.
    """
    mpl.rcParams.update(STYLE)
    return Figure(figsize=(width, height))


def hide_ticks(axes: Axes) -> None:
    """Show ``axes`` as a bare picture: no ticks, no grid, no frame."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` as PNG, whole or not at all, without the version and date that PNG could carry.

    Raises `UserError` if ``path`` cannot be written.
    """
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None})
