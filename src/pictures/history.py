"""What pictures need to know of how a recipe came about: its technique in a few words, and whether it is a control."""

import textwrap
from collections.abc import Mapping
from typing import Any

LONGEST = 56  # characters of a technique in a picture


def technique(history: Mapping[str, Any]) -> str:
    """Return the technique of a recipe with the settings that the recipe changes: ``prune_channels (ratio 0.4)``.

    ``history`` is that of the recipe in metrics/recipes.json. A text that is too long for a picture ends in "...".
    """
    changed = {**history["settings"], **history["settings"].get("train", {})}
    listed = ", ".join(f"{name} {value}" for name, value in changed.items() if name != "train")
    return textwrap.shorten(history["step"] + (f" ({listed})" if listed else ""), LONGEST, placeholder=" ...")


def controls(histories: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Return the recipes whose own technique is a control; ``histories`` are the recipes of metrics/recipes.json."""
    return frozenset(name for name, history in histories.items() if history["control"])
