"""Small: a control. A smaller VGG, trained from scratch for what the path of the parent has spent.

It is narrower everywhere, with as many MACs as the parent, or has given widths. What a designer without any compression
would do. Blalock et al. 2020, "What is the state of neural network pruning?" (arXiv:2003.03033), ask for it: a smaller
architecture often beats a compressed larger one.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import Trained
from src.compression.training import train_from_scratch
from src.core.errors import UserError
from src.network.cost import macs
from src.network.vgg import MAX_WIDTH, VGG, Conv, ModelSettings, Plan, vgg_plan

STEPS = 64  # the width rises in steps of 1/64, by which the widest layers gain eight channels
WIDEST = 4 * STEPS
Widths = Annotated[list[Annotated[int, Field(gt=0, le=MAX_WIDTH)]], Field(min_length=1)]


class Settings(Trained):
    """How to train from scratch. ``widths``: as `plan_with` takes them; None: they follow from the parent."""

    widths: Widths | None


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return the VGG with the given widths, trained from scratch.

    Without them it is the widest of the root's depth with at most the MACs of ``candidate``. Raises `UserError` if even
    the narrowest has more MACs, or if there are more widths than layers.
    """
    limit, root = macs(candidate.network), context.root.network.plan
    if settings.widths is None:
        width = widest(limit, root)
        plan, name = plan_of(width, root), f"VGG{root.depth} of width {width:g}"
    else:
        plan, name = plan_with(settings.widths, root), f"VGG of widths {'-'.join(map(str, settings.widths))}"
    step = f"{name}, {macs_of(plan):,} MACs (the network before has {limit:,}), "
    return train_from_scratch(candidate, plan, step, context, settings.train)


def widest(limit: int, root: Plan) -> float:
    """Return the largest width, in steps of 1/64, of which a VGG like ``root`` has at most ``limit`` MACs.

    Raises `UserError` if none has.
    """
    narrow_enough = bisect_right(range(1, WIDEST + 1), limit, key=lambda step: macs_of(plan_of(step / STEPS, root)))
    if narrow_enough == 0:
        least = macs_of(plan_of(1 / STEPS, root))
        raise UserError(
            f"small: the narrowest VGG{root.depth} has {least:,} MACs, the network before it only {limit:,}"
        )
    return narrow_enough / STEPS


def plan_of(width: float, root: Plan) -> Plan:
    """Return the plan of a VGG with the head compact and every width times ``width``, in multiples of eight.

    Depth, classes and side of the images are those of ``root``.
    """
    settings = {"depth": root.depth, "head": "compact", "width": width}
    return vgg_plan(ModelSettings.model_validate(settings), root.classes, root.side)


def plan_with(widths: Sequence[int], root: Plan) -> Plan:
    """Return the plan of a VGG like ``root``, with the head compact, cut after as many layers as ``widths`` has.

    ``widths`` are those of its convolutions, then of its hidden layers. Cut after a convolution, it ends in a mean over
    the map and the last layer, as after `truncate`. Raises `UserError` if there are more widths than layers.
    """
    whole = plan_of(1.0, root)
    if len(widths) > len(whole.widths):
        raise UserError(f"small: VGG{root.depth} has {len(whole.widths)} widths to choose (found {len(widths)})")
    features, hidden = whole.features, len(widths) - len(whole.convolutions)
    if hidden <= 0:
        last = [place for place, block in enumerate(features) if isinstance(block, Conv)][len(widths) - 1]
        features = features[: last + 1]
    cut = whole.model_copy(update={"features": features, "head": whole.head[: max(0, hidden)]})
    return cut.with_widths(tuple(widths))


def macs_of(plan: Plan) -> int:
    """Return the MACs of the network of ``plan`` for one image, without making its weights."""
    with torch.device("meta"):
        return macs(VGG(plan))
