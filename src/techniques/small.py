"""Small: a control. A narrower VGG of as many MACs as the parent, trained from scratch for what its path has spent.

What a designer without any compression would do. Blalock et al. 2020, "What is the state of neural network pruning?"
(arXiv:2003.03033), ask for it: a smaller architecture often beats a compressed larger one.
"""

from bisect import bisect_right

import torch

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import FromScratch
from src.compression.training import train_from_scratch
from src.core.errors import UserError
from src.network.cost import macs
from src.network.vgg import VGG, ModelSettings, Plan, vgg_plan

STEPS = 64  # the width rises in steps of 1/64, by which the widest layers gain eight channels
WIDEST = 4 * STEPS


class Settings(FromScratch):
    """How to train from scratch. The width follows from the parent."""


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return the widest VGG of the root's depth with at most the MACs of ``candidate``, trained from scratch.

    Raises `UserError` if even the narrowest has more MACs.
    """
    limit, root = macs(candidate.network), context.root.network.plan
    width = widest(limit, root)
    plan = plan_of(width, root)
    step = f"VGG{root.depth} of width {width:g}, {macs_of(plan):,} MACs (the network before has {limit:,}), "
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


def macs_of(plan: Plan) -> int:
    """Return the MACs of the network of ``plan`` for one image, without making its weights."""
    with torch.device("meta"):
        return macs(VGG(plan))
