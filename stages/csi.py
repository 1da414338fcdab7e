"""Measure how well every layer of the trained network separates the classes: CSI, neighbours, probes, rank."""

from pathlib import Path

from pydantic import Field
from torch import Tensor

from src.core.device import pick_device, seed_everything
from src.core.errors import ParamsError
from src.core.files import write_csv, write_json
from src.core.params import PARAMS, Settings, Shared, load_params
from src.core.recipes import ROOT, CutSection
from src.core.stage import run_stage
from src.data.prepared import SPLITS, Split, SplitName, load_info, load_split
from src.network.record import network_path
from src.network.vgg import VGG, load
from src.separation.measure import Samples, measure
from src.separation.sampling import drawn
from src.separation.tables import class_rows, headline, layer_rows, position_rows

METRICS = Path("metrics/csi.json")
TABLE = Path("plots/csi.csv")
POSITIONS = Path("plots/positions.csv")
BY_CLASS = Path("plots/csi_by_class.csv")
MEMORY = 3 << 30  # bytes, for the activations of all neighbour images in one layer


class CsiSettings(Settings):
    """The section ``csi`` of params.yaml.

    ``in_sample_train`` and ``in_sample_test``: at most so many images in the in-sample protocol, as many of one class
    as of another. ``neighbour_images`` and ``probe_images``: the training images on which SI is measured, and on which
    the linear probes are fitted and the rank is measured. Where there are fewer images, all are used. Each must allow
    two images of each class.
    """

    in_sample_train: int = Field(ge=1)
    in_sample_test: int = Field(ge=1)
    neighbour_images: int = Field(ge=1)
    probe_images: int = Field(ge=1)


class Params(Shared):
    """What this stage reads of params.yaml: its section, and by how much a cut may be below the best position."""

    csi: CsiSettings
    compress: CutSection


def main() -> None:
    """Write a table of all layers, one of the positions where the network can be cut, and the headline numbers."""
    params, classes = load_params("csi", Params), load_info().classes
    check_counts(params.csi, len(classes))
    seed_everything(params.seed)
    splits = {name: load_split(name) for name in SPLITS}
    model = load(network_path(ROOT), pick_device(params.device))
    labels, settings = splits["train"].labels, params.csi
    samples = Samples(
        {
            "train": in_sample("train", splits["train"], settings.in_sample_train, len(classes), params.seed),
            "test": in_sample("test", splits["test"], settings.in_sample_test, len(classes), params.seed),
        },
        drawn(labels, settings.probe_images, params.seed),
        drawn(labels, neighbours_in_memory(settings.neighbour_images, model), params.seed),
    )
    measured = measure(model, splits, samples)
    write_csv(TABLE, layer_rows(measured))
    write_csv(BY_CLASS, class_rows(measured, classes))
    write_csv(POSITIONS, position_rows(measured, model))
    write_json(METRICS, headline(measured, params.compress.epsilon))


def check_counts(settings: CsiSettings, classes: int) -> None:
    """Raise `ParamsError` for the first number of images that does not allow two of each of the ``classes``."""
    for key, images in settings:
        if images < 2 * classes:
            least = f"at least {2 * classes} are needed, two of each of the {classes} classes"
            raise ParamsError(f"{PARAMS}: csi.{key}: {least} (found {images})")


def neighbours_in_memory(images: int, model: VGG) -> int:
    """Return ``images``, or, with a note, how many have their activations in the first layer in `MEMORY`."""
    fitting = MEMORY // (4 * model.plan.convolutions[0].channels * model.plan.side**2)
    if fitting < images:
        print(f"neighbours: {fitting} images, not {images}: more activations would not fit in {MEMORY >> 30} GiB")
    return min(images, fitting)


def in_sample(name: SplitName, split: Split, count: int, classes: int, seed: int) -> Tensor:
    """Return the places of ``count`` images of ``split``, equally many per class, or fewer, with a note."""
    rarest = int(split.labels.bincount(minlength=classes).min())
    per_class = min(count // classes, rarest)
    if (possible := per_class * classes) < count:
        reason = (
            f"a class has only {rarest}" if per_class == rarest else f"{per_class} of each of the {classes} classes"
        )
        print(f"in-sample, {name}: {possible} images, not {count}: {reason}")
    return drawn(split.labels, possible, seed)


if __name__ == "__main__":
    run_stage(main)
