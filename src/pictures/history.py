"""What pictures need to know of how a recipe came about: its technique in a few words, and whether it is a control."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = 56  # characters of a technique in a picture
# What the last step of a control says: reinitialize and small train from new weights, prune_channels draws by chance.
CONTROL = re.compile(r"\bfrom new weights\b|\bby random\b")
CONTROL_LABEL = "hollow: a control (chance, or new weights)"


def technique(steps: Sequence[str]) -> str:
    """Return the last of ``steps`` in a few words: what was done, without settings, training and accuracies."""
    done = re.split(r" \(|[,:;] ", steps[-1])[0] if steps else ""
    return textwrap.shorten(done, LONGEST, placeholder=" ...")


def controls(histories: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Return the recipes whose own technique is a control: new weights, or channels removed by chance.

    ``histories`` are the recipes of metrics/recipes.json; ``steps`` of each has one sentence for each technique of its
    path. A recipe that is made from a control is none.
    """
    return frozenset(name for name, one in histories.items() if one["steps"] and CONTROL.search(one["steps"][-1]))
