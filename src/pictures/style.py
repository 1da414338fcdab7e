"""The look of every figure, and how it is written to a file.

Figures are easy to read, also for color-blind readers, and the same figure always gives the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

from src.core.files import atomic
from src.data.prepared import DatasetInfo

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
ENDS = 10  # of more than twice as many classes, pictures show so many of the worst and of the best
LONGEST = 20  # characters of the name of a class
LABELED = 25  # the most classes whose names all stand at an axis
ACROSS = 120  # characters of names that have space beside each other
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


def titled(what: str, info: DatasetInfo, hint: str = "", note: str = "") -> str:
    """Return the title of a figure: ``what`` it shows, name and edition of the data, and ``hint`` on a second line.

    ``note`` follows the edition.
    """
    title = info.model_copy(update={"name": short(info.name)}).title
    return f"{what} ({title}{note})" + (f"\n{hint}" if hint else "")


def short(name: str) -> str:
    """Return ``name`` as a label: cut to `LONGEST` characters, and without a meaning for Matplotlib's formulas."""
    cut = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    return cut.replace("$", r"\$")


def thinned(names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return places and labels of at most `LABELED` of ``names``, the first and the last among them."""
    places = np.linspace(0, len(names) - 1, min(len(names), LABELED)).round().astype(int).tolist()
    return places, [short(names[place]) for place in places]


def tilted(labels: Sequence[str]) -> dict[str, Any]:
    """Return the style of ``labels`` below a wide figure: tilted, if they have no space beside each other."""
    if len(labels) * max(map(len, labels)) <= ACROSS:
        return {}
    return {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}


def worst_and_best(values: np.ndarray) -> list[int]:
    """Return the places of the `ENDS` lowest and the `ENDS` highest of ``values`` [N], by rising value.

    If there are no more values than that, return all places in order.
    """
    if len(values) <= 2 * ENDS:
        return [*range(len(values))]
    order = np.argsort(values, kind="stable").tolist()
    return [*order[:ENDS], *order[-ENDS:]]


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
