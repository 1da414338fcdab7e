"""What a running technique may look at. The test set is not part of it."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from src.compression.candidate import Candidate
from src.data.prepared import Split
from src.network.inference import accuracy, predict
from src.network.vgg import VGG
from src.training.checkpoints import Checkpoints
from src.training.loop import Reporter

Interruption = Callable[[], contextlib.AbstractContextManager[Callable[[], bool]]]


@dataclass(frozen=True)
class Context:
    """What techniques may look at.

    ``train`` and ``validation`` lie on the network's device. ``root`` is the trained network. ``separation`` maps the
    name of each score (csi: validation CSI; probe: validation accuracy of a linear probe) to its value at the end of
    each block of the root's plan, by the name of the block. ``checkpoints`` are for training, and ``interruption`` is
    a context around it that gives a function which says whether to stop.
    """

    train: Split
    validation: Split
    seed: int
    root: Candidate
    separation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reporter: Reporter = field(default_factory=Reporter)
    checkpoints: Checkpoints | None = None
    interruption: Interruption = field(default=lambda: contextlib.nullcontext(lambda: False))

    def validation_accuracy(self, network: VGG) -> float:
        """Return the share of validation images that ``network`` classifies correctly, computed in float32."""
        return accuracy(predict(network, self.validation.images), self.validation.labels)

    def sample(self, images: int) -> Split:
        """Return ``images`` training images (all, if there are fewer), drawn by the seed."""
        return self.train.sample(images, self.seed)
