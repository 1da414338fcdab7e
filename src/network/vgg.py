"""VGG16 as a plan plus tensors.

A `Plan` is plain data: the width of each convolution, where the pools stand, the widths of the head.
`VGG(plan)` builds the network; `save` and `load` keep plan and tensors in one safetensors file, which
can run no code. Architecture: Simonyan & Zisserman 2015 (arXiv:1409.1556), configuration D, with
BatchNorm; modules are named as in torchvision's ``vgg16_bn``.
"""

import json
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from src.core.errors import UserError
from src.core.params import Settings

VGG16 = (64, 64, "pool", 128, 128, "pool", *(256,) * 3, "pool", *(512,) * 3, "pool", *(512,) * 3, "pool")
HEADS = {"compact": ((512, 512), 1), "imagenet": ((4096, 4096), 7)}
HALF_FROM_DIMENSIONS = 2  # matrices and filter banks are stored in float16, vectors in float32


class ModelSettings(Settings):
    """The section ``model`` of params.yaml."""

    head: Literal["compact", "imagenet"] = "compact"
    width: float = Field(default=1.0, gt=0, le=4)


class Conv(Settings):
    """A 3x3 convolution with bias, BatchNorm unless it was folded in, and ReLU."""

    channels: int = Field(gt=0)
    batch_norm: bool = True


class Plan(Settings, strict=False):
    """All that is needed to build a network: its shape, and no tensor."""

    features: tuple[Conv | Literal["pool"], ...]
    head: tuple[int, ...]
    pooled_side: int = 1
    classes: int = 10

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """The convolutions in order, without the pools."""
        return tuple(layer for layer in self.features if isinstance(layer, Conv))


def vgg16_plan(settings: ModelSettings) -> Plan:
    """VGG16 with every width times ``settings.width``, rounded to multiples of 8."""
    head, side = HEADS[settings.head]

    def scaled(width: int) -> int:
        return max(8, round(width * settings.width / 8) * 8)

    features = tuple("pool" if width == "pool" else Conv(channels=scaled(width)) for width in VGG16)
    return Plan(features=features, head=tuple(map(scaled, head)), pooled_side=side)


class MeanPool(nn.Module):
    """Mean over the map, repeated ``side`` x ``side`` times: [N, C, H, W] -> [N, C, side, side].

    On the 1x1 maps that five pools leave of an image of up to 32 pixels this is what torchvision's
    ``AdaptiveAvgPool2d(side)`` does; unlike that one its gradient is deterministic on CUDA.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, maps: Tensor) -> Tensor:
        """Pool ``maps`` [N, C, H, W]."""
        mean = maps.mean((2, 3), keepdim=True)
        return mean if self.side == 1 else mean.expand(-1, -1, self.side, self.side)


class VGG(nn.Module):
    """The network of ``plan``: float32 images [N, 3, H, W] in 0..1 -> logits [N, classes].

    The normalisation with the training set's ``mean`` and ``std`` (one number a channel) is part of it.
    """

    def __init__(self, plan: Plan, mean: Tensor | None = None, std: Tensor | None = None) -> None:
        super().__init__()
        self.plan = plan
        self.register_buffer("mean", torch.zeros(3) if mean is None else mean.float().flatten())
        self.register_buffer("std", torch.ones(3) if std is None else std.float().flatten())
        self.features = nn.Sequential(*_features(plan))
        self.avgpool = MeanPool(plan.pooled_side)
        self.classifier = nn.Sequential(*_classifier(plan))
        self.apply(_initialise)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of ``images`` [N, 3, H, W] in 0..1."""
        return self.classifier(self.avgpool(self.features(self.normalised(images))).flatten(1))

    def normalised(self, images: Tensor) -> Tensor:
        """``images`` [N, 3, H, W] in 0..1 with the training set's mean 0 and standard deviation 1 per channel."""
        return (images - self.mean.view(1, 3, 1, 1)) / self.std.view(1, 3, 1, 1)

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        """The convolutions in order."""
        return [module for module in self.features if isinstance(module, nn.Conv2d)]


def _features(plan: Plan) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for layer in plan.features:
        if layer == "pool":
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            continue
        layers.append(nn.Conv2d(channels, layer.channels, 3, padding=1))
        layers.extend([nn.BatchNorm2d(layer.channels)] * layer.batch_norm)
        layers.append(nn.ReLU(inplace=True))
        channels = layer.channels
    return layers


def _classifier(plan: Plan) -> list[nn.Module]:
    width = plan.convolutions[-1].channels * plan.pooled_side**2
    layers: list[nn.Module] = []
    for hidden in plan.head:
        layers += [nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Dropout(0.0)]
        width = hidden
    return [*layers, nn.Linear(width, plan.classes)]


def _initialise(module: nn.Module) -> None:
    """He initialisation (arXiv:1502.01852), as torchvision's VGG does for its convolutions."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.zeros_(module.bias)


def set_dropout(model: VGG, probability: float) -> None:
    """Set the probability of every dropout layer in the head."""
    for module in model.classifier:
        if isinstance(module, nn.Dropout):
            module.p = probability


def save(model: VGG, path: Path) -> None:
    """Write plan and tensors to ``path``: matrices and filter banks as float16, the rest as float32."""
    tensors = {name: _stored(tensor) for name, tensor in model.state_dict().items()}
    path.write_bytes(serialize(tensors, metadata={"plan": model.plan.model_dump_json()}))


def _stored(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.dim() >= HALF_FROM_DIMENSIONS else tensor


def load(path: Path, device: torch.device | str = "cpu") -> VGG:
    """The network in ``path``, in evaluation mode, in float32; `UserError` if the file is none of ours."""
    try:
        with safe_open(path, framework="pt") as file:
            plan = Plan.model_validate(json.loads(file.metadata()["plan"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model = VGG(plan)
        model.load_state_dict(tensors)
    except (OSError, SafetensorError, ValidationError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a network of this project, or damaged: {reason}") from None
    return model.eval().to(device)
