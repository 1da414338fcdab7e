"""Pictures of the study of separation: what cuts are worth, which one each score names, the bias of in-sample CSI."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.pictures.style import COLOR_MAP, COLORS, new_figure
from studies.items import Row

CONTROLS = {"shuffled": "red", "random": "gray"}  # all other networks are alike
ALIKE = "blue"
SCORES = {  # as docs/separation.md names them
    "csi": "CSI, flattened",
    "csi_pooled": "CSI, mean over the map",
    "csi_unit": "CSI, mean over the map, unit length",
    "probe": "linear probe",
    "si": "SI",
    "in_sample_300": "CSI in-sample, 300 per class",
    "depth": "control: no cut",
    "same_as_others": "control: the right cut of other seeds",
}
LABELS = {"seed-0": "four seeds", "shuffled": "20 % of the labels shuffled", "random": "random weights"}


def cuts_by_score(positions: Sequence[Row], cuts: Sequence[Row]) -> Figure:
    """Return a figure of the cuts: left what each is worth, right the price of those that the scores name.

    ``positions``: rows of studies/results/separation/positions.csv; ``cuts``: rows of cuts.csv beside it.
    """
    figure = new_figure(13, 5.2)
    left, right = figure.subplots(1, 2)
    blocks = [*dict.fromkeys(row["block"] for row in positions)]
    for name in dict.fromkeys(row["network"] for row in positions):
        worth = [100 * row["test_accuracy"] for row in positions if row["network"] == name]
        left.plot(worth, "o-", markersize=3, color=COLORS[CONTROLS.get(name, ALIKE)], label=LABELS.get(name), alpha=0.7)
    left.set_xticks(range(len(blocks)), blocks, rotation=90)
    left.set(xlabel="cut after", ylabel="test accuracy (%) of a linear head", title="What a cut is worth")
    left.legend(fontsize=9)
    _draw_prices(right, cuts)
    figure.suptitle(
        "Where to cut: six networks at half width, frozen features, linear head\n"
        "A good score has its points at the left (little lost) and names a cut with few MACs"
    )
    return figure


def _draw_prices(axes: Axes, cuts: Sequence[Row]) -> None:
    """Draw for each score the points lost by the cut that it names: a point per network, a bar at the mean.

    The right cut, by test accuracy, is no score.
    """
    alike = [row for row in cuts if row["network"] not in CONTROLS and row["score"] != "right"]
    scores = [*dict.fromkeys(row["score"] for row in alike)]
    labels = []
    for place, score in enumerate(scores):
        rows = [row for row in alike if row["score"] == score]
        losses = [row["loss"] for row in rows]
        axes.plot(losses, [place] * len(losses), "o", color=COLORS[ALIKE], alpha=0.7)
        axes.plot(np.mean(losses), place, "|", color=COLORS["black"], markersize=18, markeredgewidth=2)
        labels.append(f"{SCORES.get(score, score)} ({np.mean([row['macs_share'] for row in rows]):.0%} of MACs)")
    axes.set_yticks(range(len(scores)), labels)
    axes.invert_yaxis()
    axes.set(xlabel="points of test accuracy below the best cut", title="What the cut of each score loses (seeds)")


def bias_by_position(rows: Sequence[Row]) -> Figure:
    """Return a figure of both parts of the in-sample bias by position, a line for each number of images per class.

    ``rows`` are those of studies/results/separation/bias_mean.csv, with 95 % intervals over networks.
    """
    figure = new_figure(13, 4.8)
    blocks = [*dict.fromkeys(row["block"] for row in rows)]
    counts = sorted({row["images_a_class"] for row in rows})
    colors = mpl.colormaps[COLOR_MAP](np.linspace(0, 0.9, len(counts)))
    titles = {"inclusion": "An image inside its own center", "few": "Centers of few images"}
    for axes, (part, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for count, color in zip(counts, colors, strict=True):
            shown = [row for row in rows if row["images_a_class"] == count]
            axes.plot([row[part] for row in shown], "o-", markersize=3, color=color, label=f"{count:,}")
            low, high = ([row[f"{part}_{end}"] for row in shown] for end in ("low", "high"))
            axes.fill_between(range(len(shown)), low, high, color=color, alpha=0.2, linewidth=0)
        axes.axhline(0, color=COLORS["black"], linewidth=0.8)
        axes.set_xticks(range(len(blocks)), blocks, rotation=90)
        axes.set(title=title, ylabel="points of CSI")
    axes.legend(title="images per class", fontsize=9)
    figure.suptitle(
        "The two parts of in-sample CSI that are not separation: mean of four networks, 95 % interval\n"
        "The first part raises the index where layers are wide, the second lowers it; both fade with more images"
    )
    return figure
