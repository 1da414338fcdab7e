"""Fold: the same function with fewer layers and parameters, exact up to rounding."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from src.compression.candidate import Candidate, Context, rebuild
from src.core.params import Settings as Schema
from src.network.vgg import VGG


class Settings(Schema):
    """There is nothing to set."""


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Fold BatchNorm into the convolutions, and the head's repeated pool into its first layer."""
    plan = candidate.network.plan
    folded = ["BatchNorm"] * has_batch_norm(candidate.network) + ["repeated pool"] * (plan.pooled_side > 1)
    notes = () if folded else ("nothing was left to fold",)
    network = without_repeated_pool(without_batch_norm(candidate.network))
    return candidate.after(f"folded {' and '.join(folded) or 'nothing'}", network, notes=notes)


def has_batch_norm(network: VGG) -> bool:
    """Whether any convolution of ``network`` is followed by BatchNorm."""
    return any(layer.batch_norm for layer in network.plan.convolutions)


def without_batch_norm(network: VGG) -> VGG:
    """The same function with BatchNorm (as it is in evaluation mode) folded into weights and biases."""
    features = tuple(
        layer if layer == "pool" else layer.model_copy(update={"batch_norm": False}) for layer in network.plan.features
    )
    folded = VGG(network.plan.model_copy(update={"features": features}), network.mean, network.std).to(
        network.mean.device
    )
    for target, source in zip(folded.convolutions, _fused_convolutions(network), strict=True):
        target.load_state_dict(source.state_dict())
    folded.classifier.load_state_dict(network.classifier.state_dict())
    return folded.eval()


def without_repeated_pool(network: VGG) -> VGG:
    """The same function with each pooled value entering the head once.

    The pool gives each channel's mean ``pooled_side`` ** 2 times over, so the first layer's weights of those
    equal inputs can be added up: 25,088 x 4,096 weights become 512 x 4,096.
    """
    plan, tensors = network.plan, network.state_dict()
    first = tensors["classifier.0.weight"]
    tensors["classifier.0.weight"] = first.unflatten(1, (-1, plan.pooled_side**2)).sum(2)
    return rebuild(plan.model_copy(update={"pooled_side": 1}), tensors)


def _fused_convolutions(network: VGG) -> list[nn.Conv2d]:
    layers = list(network.eval().features)
    return [
        fuse_conv_bn_eval(layer, after) if isinstance(after, nn.BatchNorm2d) else layer
        for layer, after in pairwise(layers)
        if isinstance(layer, nn.Conv2d)
    ]
