"""Networks and images for tests."""

import torch

from src.compression.candidate import Candidate
from src.data.prepared import DatasetInfo, Split
from src.network.record import Record
from src.network.vgg import VGG, Conv, Hidden, ModelSettings, Plan, Pool, vgg_plan

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
INFO = DatasetInfo(
    name="CIFAR-10",
    edition="sample",
    classes=CLASSES,
    side=32,
    images={"train": 80, "validation": 20, "test": 20},
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
)


def plan(*features, head=(), pooled_side=1, **convolution):
    """A plan of convolutions, given by their channels, and pools, given as "pool"; ``convolution`` holds for all."""
    blocks = [
        Pool(name=f"pool{i}") if block == "pool" else Conv(name=f"conv{i}", channels=block, **convolution)
        for i, block in enumerate(features)
    ]
    hidden = [Hidden(name=f"hidden{i}", width=width) for i, width in enumerate(head)]
    return Plan(features=blocks, head=hidden, pooled_side=pooled_side)


def vgg(width=0.125, head="compact", depth=16, classes=10, side=32):
    """The plan of a narrow VGG16, or of another one."""
    return vgg_plan(ModelSettings(depth=depth, head=head, width=width), classes, side)


def trained(plan):
    """A network whose normalization and BatchNorm statistics are not those of a new one."""
    network = VGG(plan, torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3]))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
    return network.eval()


def colors(count):
    """Images whose class is their brightness: any layer separates them."""
    labels = torch.arange(count) % 10
    noise = torch.randint(0, 8, (count, 3, 32, 32), generator=torch.Generator().manual_seed(count))
    return Split((labels.view(-1, 1, 1, 1) * 24 + noise).to(torch.uint8), labels)


def candidate(network, **record):
    """A network and its record, which says what ``record`` says."""
    return Candidate(network, Record(edition="sample", **record))
