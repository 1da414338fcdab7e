"""Networks for tests."""

import torch

from src.network.vgg import VGG


def trained(plan):
    """A network whose normalisation and BatchNorm statistics are not those of a new one."""
    network = VGG(plan, torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3]))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
    return network.eval()
