"""Three training steps at full width with two threads; prints a hash of the weights (see test_training.py)."""

import hashlib

import torch

from src.core.params import PARAMS, read_yaml
from src.data.prepared import Split
from src.training.recipe import TrainRecipe
from src.training.run import train
from tests.networks import INFO, vgg

if __name__ == "__main__":
    torch.set_num_threads(2)
    noise = torch.randint(0, 256, (60, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images = Split(noise, torch.arange(60) % 10)
    changes = {"batch_size": 20, "epochs": 1, "warmup": 1.0}
    recipe = TrainRecipe(**read_yaml(PARAMS)["train"]["defaults"] | changes)
    plan = vgg(1.0)
    network, _ = train(plan, recipe, images, images[:20], INFO, 0, torch.device("cpu"))
    tensors = (tensor.numpy().tobytes() for tensor in network.state_dict().values())
    print(hashlib.sha256(b"".join(tensors)).hexdigest())
