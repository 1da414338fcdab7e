"""What a step of a recipe takes and gives, and what all steps of a recipe share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from src.core.dataset import Split
from src.deployment.onnx import Calibration
from src.network.inference import accuracy, predict
from src.network.vgg import VGG, Plan
from src.training.loop import Reporter, Silent


@dataclass(frozen=True)
class Candidate:
    """A network, how to export it (in int8 where there is a calibration), and what was done to it.

    ``steps`` holds a line for each step; ``notes`` what a reader of the table of results should know.
    """

    network: VGG
    calibration: Calibration | None = None
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def after(
        self, step: str, network: VGG, calibration: Calibration | None = None, notes: tuple[str, ...] = ()
    ) -> "Candidate":
        """What this candidate has become by ``step``."""
        return Candidate(network, calibration, (*self.steps, step), (*self.notes, *notes))


@dataclass(frozen=True)
class Context:
    """What steps may look at, on the network's device; the test set is not among it.

    ``csi`` holds the validation CSI of the dense network after each item of its ``plan.features``.
    """

    train: Split
    validation: Split
    csi: tuple[float, ...]
    seed: int
    reporter: Reporter = field(default_factory=Silent)

    def accuracy(self, network: VGG) -> float:
        """Share of the validation images that ``network`` classifies rightly."""
        return accuracy(predict(network, self.validation.images), self.validation.labels)

    def sample(self, images: int) -> Split:
        """``images`` training images (all, if there are fewer), chosen by the seed."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(self.seed))
        return self.train[order[:images].to(self.train.labels.device)]


def rebuild(plan: Plan, tensors: Mapping[str, Tensor]) -> VGG:
    """The network of ``plan`` with ``tensors``, in evaluation mode, on their device."""
    network = VGG(plan)
    network.load_state_dict(tensors)
    return network.to(tensors["mean"].device).eval()
