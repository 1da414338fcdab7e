"""Folding: the same function with fewer layers and parameters, equal up to rounding."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from src.network.vgg import VGG, rebuild


def has_batch_norm(network: VGG) -> bool:
    """Return whether any convolution of ``network`` is followed by BatchNorm."""
    return any(block.batch_norm for block in network.plan.convolutions)


def folded(network: VGG) -> VGG:
    """Return the same function without BatchNorm and without a repeated pool, as a new network."""
    return without_repeated_pool(without_batch_norm(network))


def without_batch_norm(network: VGG) -> VGG:
    """Return the same function with BatchNorm (as in evaluation mode) folded into weights and biases."""
    plan = network.plan.with_convolutions(batch_norm=False)
    shapes = VGG(plan, network.mean, network.std).to(network.mean.device)
    for target, source in zip(shapes.convolutions, _fused_convolutions(network), strict=True):
        target.load_state_dict(source.state_dict())
    shapes.classifier.load_state_dict(network.classifier.state_dict())
    return shapes.eval()


def without_repeated_pool(network: VGG) -> VGG:
    """Return the same function in which each pooled value enters the head once.

    The pool repeats the mean of each channel ``pooled_side`` ** 2 times. The first layer's weights of equal inputs
    can be added: 25,088 x 4,096 weights become 512 x 4,096.
    """
    plan = network.plan
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first = tensors["classifier.0.weight"]
    tensors["classifier.0.weight"] = first.unflatten(1, (-1, plan.pooled_side**2)).sum(2)
    return rebuild(plan.model_copy(update={"pooled_side": 1}), tensors)


def _fused_convolutions(network: VGG) -> list[nn.Conv2d]:
    layers = [*network.eval().features, nn.Identity()]
    return [
        fuse_conv_bn_eval(layer, after) if isinstance(after, nn.BatchNorm2d) else layer
        for layer, after in pairwise(layers)
        if isinstance(layer, nn.Conv2d)
    ]
