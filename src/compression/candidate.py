"""What a technique takes and returns, and what it may look at."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from pydantic import Field

from src.core.params import Settings
from src.data.prepared import Split
from src.network.inference import accuracy, predict
from src.network.vgg import VGG
from src.training.checkpoints import Checkpoints
from src.training.loop import NullReporter, Reporter

Interruption = Callable[[], contextlib.AbstractContextManager[Callable[[], bool]]]


class Export(Settings):
    """How a network becomes an ONNX file.

    ``fold``: BatchNorm and a repeated pool are folded first. ``precision``: of the stored weights; int8 files also
    compute in eight bits, with ranges found on ``calibration_images`` training images by ``calibration_method``.
    """

    fold: bool = False
    precision: Literal["float32", "float16", "int8"] = "float32"
    calibration_images: int = Field(default=0, ge=0)
    calibration_method: Literal["minmax", "entropy", "percentile"] = "minmax"


@dataclass(frozen=True)
class Candidate:
    """A network on its way through the techniques, and what was done to it.

    ``steps``: a line for each technique so far. ``notes``: what a reader of the table should know. ``image_passes``
    and ``pflop``: training images seen and PFLOP spent on training, the root network's training included.
    """

    network: VGG
    export: Export = field(default_factory=Export)
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    image_passes: int = 0
    pflop: float = 0.0

    def after(self, step: str, network: VGG, *notes: str, **export: Any) -> "Candidate":
        """Return this candidate with ``network`` after one more ``step``; ``export`` changes the export settings."""
        return replace(
            self,
            network=network,
            steps=(*self.steps, step),
            notes=(*self.notes, *notes),
            export=self.export.model_copy(update=export),
        )

    def trained(self, image_passes: int, pflop: float) -> "Candidate":
        """Return this candidate with more training on its account."""
        return replace(self, image_passes=self.image_passes + image_passes, pflop=self.pflop + pflop)


@dataclass(frozen=True)
class Context:
    """What techniques may look at; the test set is not part of it.

    ``train`` and ``validation`` lie on the network's device. ``separation`` maps the name of each score (csi:
    validation CSI; probe: validation accuracy of a linear probe) to its value at the end of each block of the root
    network's plan, by the name of the block. ``teacher`` is the root network. ``checkpoints`` are for fine-tuning, and
    ``interruption`` is a context around it that gives a function which says whether to stop.
    """

    train: Split
    validation: Split
    seed: int
    separation: dict[str, dict[str, float]] = field(default_factory=dict)
    teacher: VGG | None = None
    reporter: Reporter = field(default_factory=NullReporter)
    checkpoints: Checkpoints | None = None
    interruption: Interruption = field(default=lambda: contextlib.nullcontext(lambda: False))

    def validation_accuracy(self, network: VGG) -> float:
        """Return the share of validation images that ``network`` classifies right, computed in float32."""
        return accuracy(predict(network, self.validation.images), self.validation.labels)

    def sample(self, images: int) -> Split:
        """Return ``images`` training images (all, if there are fewer), drawn by the seed."""
        return random_images(self.train, images, self.seed)


def random_images(split: Split, images: int, seed: int) -> Split:
    """Return ``images`` of ``split`` (all, if there are fewer), drawn by ``seed``."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    return split[order[:images].to(split.labels.device)]
