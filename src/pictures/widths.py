"""The picture of the widths of the layers that recipes with fewer channels kept."""

import textwrap
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.core.recipes import DENSE
from src.data.prepared import DatasetInfo
from src.pictures.style import COLORS, new_figure, titled
from src.results.columns import Row

Widths = dict[str, int]
PANEL = 1.55  # height of the panel of one shape, inches
LONGEST = 120  # characters of a line of names


def widths_by_layer(histories: Mapping[str, Row], info: DatasetInfo) -> Figure:
    """Return a figure with a panel for each shape that has other widths than dense: the channels of every layer.

    ``histories`` are the recipes of metrics/recipes.json. Recipes of one shape share a panel. Bars are hollow where all
    of them are controls.
    """
    dense = _widths(histories[DENSE])
    shapes = pruned_shapes(histories)
    controls = {name for name, history in histories.items() if history["control"]}
    figure = new_figure(12, (1.7 if shapes else 0.8) + PANEL * len(shapes))
    if not shapes:
        title = titled("Channels of each layer", info)
        figure.suptitle(f"{title}: no recipe has fewer channels than dense in a layer that it keeps")
        return figure
    hint = "Gray outline: dense. Blue, and the numbers: the channels that are left, and their share"
    hint += ". r: ranks of thin layers" if any(_ranks(widths, layer) for _, widths in shapes for layer in dense) else ""
    hint += ". Not filled: controls" if any(controls.issuperset(names) for names, _ in shapes) else ""
    figure.suptitle(titled("Channels of each layer", info, hint))
    panels = figure.subplots(len(shapes), sharex=True, squeeze=False)[:, 0]
    for axes, (names, widths) in zip(panels, shapes, strict=True):
        _draw_widths(axes, dense, widths, hollow=controls.issuperset(names))
        listed = ", ".join(f"{name} (control)" if name in controls else name for name in names)
        total = f"{sum(widths.get(layer, 0) for layer in dense):,} of {sum(dense.values()):,} channels"
        axes.set_title(textwrap.fill(f"{listed}: {total}", LONGEST), loc="left", fontsize=10)
    panels[-1].set_xticks(range(len(dense)), dense)
    panels[-1].set_xlabel("layer, in order")
    return figure


def pruned_shapes(histories: Mapping[str, Row]) -> list[tuple[list[str], Widths]]:
    """Return each shape with a layer of another width than in dense, or of low rank, with the recipes that have it.

    A shape is the width of each layer. Where a layer was factorized, these are its ranks, the widths of thin layers,
    and then the width of the layer itself, under its name.
    """
    dense = _widths(histories[DENSE])
    shapes: dict[frozenset[tuple[str, int]], tuple[list[str], Widths]] = {}
    for name, history in histories.items():
        widths = _widths(history)
        if any(width != dense.get(layer) for layer, width in widths.items()):
            shapes.setdefault(frozenset(widths.items()), ([], widths))[0].append(name)
    return [*shapes.values()]


def _ranks(widths: Widths, layer: str) -> list[int]:
    """Return the ranks of ``layer``: the widths of the thin layers before it, none if it was not factorized."""
    return [width for name, width in widths.items() if name.startswith(f"{layer}.")]


def _widths(history: Row) -> Widths:
    """Return the width of each layer of a recipe: channels of convolutions, then units of hidden layers."""
    return {**history["widths"]["convolutions"], **history["widths"]["hidden"]}


def _draw_widths(axes: Axes, dense: Widths, widths: Widths, hollow: bool) -> None:
    """Draw the outline of ``dense``, the bars of ``widths``, and what both say of each layer."""
    axes.bar(range(len(dense)), [*dense.values()], 0.8, facecolor="none", edgecolor=COLORS["gray"], linewidth=0.8)
    face = "none" if hollow else COLORS["sky"]
    left = {place: widths[layer] for place, layer in enumerate(dense) if layer in widths}
    axes.bar([*left], [*left.values()], 0.8, facecolor=face, edgecolor=COLORS["blue"], linewidth=1.2)
    for place, (layer, width) in enumerate(dense.items()):
        text = f"{widths[layer]}\n{widths[layer] / width:.0%}" if layer in widths else "removed"
        if ranks := _ranks(widths, layer):
            text = f"r {', '.join(map(str, ranks))}\n{text}"
        top = max(width, widths.get(layer, 0))
        axes.text(place, top + 0.02 * max(dense.values()), text, ha="center", va="bottom", fontsize=7.5)
    highest = max(*dense.values(), *widths.values())
    axes.set(ylabel="channels", xlim=(-0.6, len(dense) - 0.4), ylim=(0, 1.65 * highest))
    axes.grid(visible=False, axis="x")
