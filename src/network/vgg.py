"""VGG as a plan plus tensors.

A `Plan` is plain data: named blocks, which are convolutions, pools and hidden layers. `VGG(plan)` builds the
network. `save` and `load` keep plan and tensors in one safetensors file; loading a file runs no code from it.
Architectures: Simonyan & Zisserman 2015 (arXiv:1409.1556), configurations A, B, D and E, with BatchNorm. Modules have
the names that torchvision gives them in ``vgg11_bn``, ``vgg13_bn``, ``vgg16_bn`` and ``vgg19_bn``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from safetensors import safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from src.core.errors import ParamsError, UserError, one_line
from src.core.params import PARAMS, Settings
from src.network.convolution import Convolution

WIDTHS = (64, 128, 256, 512, 512)  # of the convolutions in each of the five blocks
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # in each block
HEADS = {"compact": ((512, 512), 1), "imagenet": ((4096, 4096), 7)}
POOLED_TO_ONE = 2 ** len(WIDTHS)  # pixels; the largest side of which five pools leave one value per channel
HALF_FROM_DIMENSIONS = 2  # float16 files keep vectors in float32: they are few, and sums depend on them
MAX_WIDTH = 1 << 16  # of a layer in a file, so that a damaged plan cannot ask for all memory
MAX_SIDE = 96  # pixels, of the images of a network in a file, for the same reason


class ModelSettings(Settings):
    """The section ``model`` of params.yaml."""

    depth: Literal[11, 13, 16, 19]
    head: Literal["compact", "imagenet"]
    width: float = Field(gt=0, le=4)


class Conv(Settings):
    """A convolution of stride 1 with bias, then BatchNorm and ReLU where it has them."""

    kind: Literal["conv"] = "conv"
    name: str
    channels: int = Field(gt=0, le=MAX_WIDTH)
    kernel: int = Field(default=3, ge=1, le=31)
    padding: int = Field(default=1, ge=0, le=15)
    batch_norm: bool = True
    relu: bool = True


class Pool(Settings):
    """A 2 x 2 max pool of stride 2; an odd side is rounded up, where torchvision rounds it down."""

    kind: Literal["pool"] = "pool"
    name: str


class Hidden(Settings):
    """A hidden linear layer of the head with bias, then ReLU and dropout where it has ReLU."""

    name: str
    width: int = Field(gt=0, le=MAX_WIDTH)
    relu: bool = True


class Plan(Settings, strict=False):
    """Everything that is needed to build a network except its tensors.

    ``side``: of the images in pixels; the network takes other sides too, but its costs are counted with this one.
    ``grid``: the weights of each output channel are integers from -127 to 127 times the channel's ``scale``, a tensor
    that lies beside them.
    """

    features: tuple[Conv | Pool, ...]
    head: tuple[Hidden, ...]
    pooled_side: int = Field(default=1, ge=1, le=32)
    classes: int = Field(default=10, ge=2, le=MAX_WIDTH)
    side: int = Field(default=32, ge=8, le=MAX_SIDE)
    grid: bool = False

    @model_validator(mode="after")
    def _sound(self) -> "Plan":
        if not self.convolutions:
            raise ValueError("a plan needs at least one convolution")
        names = [block.name for block in (*self.features, *self.head)]
        if len(set(names)) < len(names):
            raise ValueError(f"two blocks have one name: {', '.join(names)}")
        return self

    @property
    def depth(self) -> int:
        """The number of layers with weights, which numbers a VGG: 16 in VGG16."""
        return len(self.widths) + 1

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """The convolutions in order, without the pools."""
        return tuple(block for block in self.features if isinstance(block, Conv))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each convolution, then of each hidden layer."""
        return (*(block.channels for block in self.convolutions), *(block.width for block in self.head))

    def with_convolutions(self, **changes: Any) -> "Plan":
        """A copy in which every convolution has the fields ``changes``."""
        features = (block.model_copy(update=changes) if isinstance(block, Conv) else block for block in self.features)
        return self.model_copy(update={"features": tuple(features)})

    def with_widths(self, widths: tuple[int, ...]) -> "Plan":
        """A copy with other ``widths``, in the order of `widths`."""
        left = iter(widths)
        features = tuple(
            block.model_copy(update={"channels": next(left)}) if isinstance(block, Conv) else block
            for block in self.features
        )
        head = tuple(block.model_copy(update={"width": next(left)}) for block in self.head)
        return self.model_copy(update={"features": features, "head": head})

    def module_ends(self) -> list[int]:
        """For each block of ``features``: the number of modules of ``VGG(plan).features`` up to its end."""
        ends = [0]
        for block in self.features:
            ends.append(ends[-1] + (1 if isinstance(block, Pool) else 1 + block.batch_norm + block.relu))
        return ends[1:]


def vgg_plan(settings: ModelSettings, classes: int, side: int) -> Plan:
    """Return the plan of a VGG for images of ``side`` x ``side`` pixels in ``classes`` classes.

    Every width is multiplied by ``settings.width`` and rounded to a multiple of 8. Raises `ParamsError` for the head
    imagenet with images of which five pools leave more than one value per channel.
    """
    if settings.head == "imagenet" and side > POOLED_TO_ONE:
        raise ParamsError(
            f"{PARAMS}: model.head: imagenet takes images of at most {POOLED_TO_ONE} pixels (found {side}); compact "
            "takes any"
        )

    def scaled(width: int) -> int:
        return max(8, round(width * settings.width / 8) * 8)

    features: list[Conv | Pool] = []
    for block, (width, count) in enumerate(zip(WIDTHS, CONVOLUTIONS[settings.depth], strict=True), start=1):
        features += [Conv(name=f"conv{block}_{i}", channels=scaled(width)) for i in range(1, count + 1)]
        features.append(Pool(name=f"pool{block}"))
    hidden, pooled_side = HEADS[settings.head]
    head = tuple(Hidden(name=f"hidden{i}", width=scaled(width)) for i, width in enumerate(hidden, start=1))
    return Plan(features=tuple(features), head=head, pooled_side=pooled_side, classes=classes, side=side)


class MeanPool(nn.Module):
    """Mean over the map, repeated ``side`` x ``side`` times: [N, C, H, W] -> [N, C, side, side].

    After five pools a map of an image of up to 32 pixels has one value, and there torchvision's
    ``AdaptiveAvgPool2d(side)`` gives the same. For a larger map it does so with ``side`` 1 only. Unlike that one, the
    gradient of a mean is deterministic on CUDA.
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

    It begins with the normalization by the training set's ``mean`` and ``std`` (one number per channel).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, plan: Plan, mean: Tensor | None = None, std: Tensor | None = None) -> None:
        super().__init__()
        self.plan = plan
        self.register_buffer("mean", torch.zeros(3) if mean is None else mean.float().flatten())
        self.register_buffer("std", torch.ones(3) if std is None else std.float().flatten())
        self.features = nn.Sequential(*_features(plan))
        self.avgpool = MeanPool(plan.pooled_side)
        self.classifier = nn.Sequential(*_classifier(plan))
        self.apply(_he_init)
        if plan.grid:
            for layer in self.weighted_layers:
                layer.register_buffer("scale", torch.ones(len(layer.weight)))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's types lack this form

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] of ``images`` [N, 3, H, W] in 0..1."""
        return self.classifier(self.avgpool(self.features(self.normalized(images))).flatten(1))

    def normalized(self, images: Tensor) -> Tensor:
        """Return ``images`` [N, 3, H, W] in 0..1 as the first layer sees them: each channel less mean, over std."""
        return (images - self.mean.view(1, 3, 1, 1)) / self.std.view(1, 3, 1, 1)

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        """The convolutions in order."""
        return [module for module in self.features if isinstance(module, nn.Conv2d)]

    @property
    def linear_layers(self) -> list[nn.Linear]:
        """The hidden layers and the last layer in order."""
        return [module for module in self.classifier if isinstance(module, nn.Linear)]

    @property
    def scales(self) -> dict[str, Tensor]:
        """For each weight, by its name, the scale of each output channel; empty unless the plan has a grid."""
        buffers = self.named_buffers()
        return {f"{name.removesuffix('.scale')}.weight": scale for name, scale in buffers if name.endswith(".scale")}

    @property
    def weighted_layers(self) -> list[nn.Conv2d | nn.Linear]:
        """The convolutions and the linear layers in order: what has filters or a matrix of weights."""
        return [*self.convolutions, *self.linear_layers]


def _features(plan: Plan) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for block in plan.features:
        if isinstance(block, Pool):
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            continue
        layers.append(Convolution(channels, block.channels, block.kernel, padding=block.padding))
        if block.batch_norm:
            layers.append(nn.BatchNorm2d(block.channels))
        if block.relu:
            layers.append(nn.ReLU(inplace=True))
        channels = block.channels
    return layers


def _classifier(plan: Plan) -> list[nn.Module]:
    width = plan.convolutions[-1].channels * plan.pooled_side**2
    layers: list[nn.Module] = []
    for block in plan.head:
        layers.append(nn.Linear(width, block.width))
        if block.relu:
            layers += [nn.ReLU(inplace=True), nn.Dropout(0.0)]
        width = block.width
    return [*layers, nn.Linear(width, plan.classes)]


def _he_init(module: nn.Module) -> None:
    """Initialize as He et al. 2015 (arXiv:1502.01852), as torchvision's VGG does for its convolutions.

    Tensors on the meta device are left alone: they have no values, and `normal_` there imports PyTorch's compiler.
    """
    if not isinstance(module, nn.Conv2d | nn.Linear) or module.weight.is_meta:
        return
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    else:
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def set_dropout(model: VGG, probability: float) -> None:
    """Set the probability of every dropout layer in the head."""
    for module in model.classifier:
        if isinstance(module, nn.Dropout):
            module.p = probability


def rebuild(plan: Plan, tensors: Mapping[str, Tensor]) -> VGG:
    """Return the network of ``plan`` with copies of ``tensors``, in evaluation mode, on their device.

    Raises RuntimeError if names or shapes of ``tensors`` are not those of ``plan``.
    """
    with torch.device("meta"):
        network = VGG(plan)
    network.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def save(model: VGG, path: Path, record: Mapping[str, Any], half: bool = False) -> None:
    """Write plan, tensors and ``record`` (what is known of the network; as JSON) to ``path``.

    Tensors are float32; with ``half`` matrices and filter banks are float16.
    """
    tensors = {name: _stored(tensor, half) for name, tensor in model.state_dict().items()}
    network = {"plan": model.plan.model_dump(), "record": record}
    path.write_bytes(serialize(tensors, metadata={"network": json.dumps(network)}))  # one key: their order is random


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if half and tensor.dim() >= HALF_FROM_DIMENSIONS else tensor


def load(path: Path, device: torch.device | str = "cpu") -> VGG:
    """Return the network in ``path``, in evaluation mode, in float32; `UserError` if the file is not one of ours."""
    return load_with_record(path, device)[0]


def load_with_record(path: Path, device: torch.device | str = "cpu") -> tuple[VGG, dict[str, Any]]:
    """Return the network in ``path``, as `load` does, and the record that `save` wrote beside it."""
    try:
        with safe_open(path, framework="pt") as file:
            network = json.loads(file.metadata()["network"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        plan, record = Plan.model_validate(network["plan"]), network["record"]
        if not isinstance(record, dict):
            raise TypeError("its record is not a mapping of keys to values")
        model = rebuild(plan, tensors).float()
        with torch.inference_mode():
            model(torch.zeros(1, 3, plan.side, plan.side))  # fails if a kernel of the plan is larger than its map
        return model.to(device), record
    except Exception as error:  # a damaged file can raise almost anything
        raise UserError(f"{path}: not a network of this project, or damaged: {one_line(error)}") from None
