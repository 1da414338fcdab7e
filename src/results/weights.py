"""The tables of the weights of all recipes: their histograms, and the codebooks of those that have one."""

from collections.abc import Mapping

from src.results.columns import Row

WEIGHT_COLUMNS = ("recipe", "value", "count", "zeros")
CODEBOOK_COLUMNS = ("recipe", "layer", "value", "count")


def weight_rows(tested: Mapping[str, Row]) -> list[Row]:
    """Return a row for each recipe of ``tested`` and each bin of the histogram of its weights.

    ``value`` is the center of the bin, ``count`` the number of weights in it, and ``zeros`` the number of those that
    are exactly zero.
    """
    return [
        dict(zip(WEIGHT_COLUMNS, (recipe, *one), strict=True))
        for recipe, found in tested.items()
        for one in zip(*(found["weights"][key] for key in ("values", "counts", "zeros")), strict=True)
    ]


def codebook_rows(tested: Mapping[str, Row]) -> list[Row]:
    """Return a row for each recipe of ``tested`` with a codebook, each layer, and each value that its weights have."""
    return [
        dict(zip(CODEBOOK_COLUMNS, (recipe, layer, *one), strict=True))
        for recipe, found in tested.items()
        for layer, book in found["codebook"].items()
        for one in zip(book["values"], book["counts"], strict=True)
    ]
