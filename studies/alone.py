"""What do the tools do alone? python -m studies.alone (or: make study NAME=alone); about a quarter of an hour.

Does to the trained network what the documentation of torch-pruning and of ONNX Runtime shows, with the settings shown
there, and measures the ONNX files as the pipeline measures its own. Nothing is chosen by the results. The recipe int8
of this project is made beside them. Writes studies/results/alone.csv.
"""

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from src.compression.record import network_path
from torch import Tensor

from src.compression.candidate import random_images
from src.compression.tree import ROOT
from src.core.device import autocast, seed_everything
from src.core.errors import exit_cleanly
from src.core.files import write_csv
from src.core.params import load_params
from src.core.recipes import DENSE
from src.data.prepared import PREPARED, SPLITS, Split, load_split
from src.export.latency import THREADS, BenchmarkSettings, latencies
from src.export.onnx import Calibration, export
from src.export.runtime import feeds, logits, session
from src.network.cost import macs
from src.network.folding import folded
from src.network.inference import to_unit
from src.network.vgg import VGG, load
from src.results.intervals import paired_difference
from src.training.augment import Crops
from src.training.checkpoints import SCRATCH
from stages.benchmark import Params
from studies.items import Row, computed, fingerprint

RESULTS = Path("studies/results/alone.csv")
OURS, PRUNING, RUNTIME = "this project", "torch-pruning", "onnxruntime"
CALIBRATION_IMAGES = 1000  # as many as the recipe int8 takes, and the same ones
EPOCHS = 2  # as many as the recipes channels have
SGD = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}  # this, BATCH and STEPS: torch-pruning's CIFAR-10 example
BATCH = 128
STEPS = 400


@dataclass(frozen=True)
class Lab:
    """The folder of the ONNX files, the trained network, and the images."""

    folder: Path
    network: VGG
    train: Split
    validation: Split
    test: Split

    def path(self, name: str) -> Path:
        """Return where the ONNX file ``name`` lies."""
        return self.folder / f"{name}.onnx"

    def calibration(self) -> np.ndarray:
        """Return the training images on which the ranges of the activations are found."""
        return random_images(self.train, CALIBRATION_IMAGES, seed=0).images.numpy()


def main() -> None:
    """Compute what is missing, time all files in turn, then write the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    seed_everything(0)
    files = [network_path(ROOT), *(PREPARED / f"{name}.npz" for name in SPLITS), Path(__file__)]
    depends_on = fingerprint(files, versions=[version(PRUNING), version(RUNTIME)])
    lab = Lab(SCRATCH / "studies/alone" / depends_on, load(network_path(ROOT)), *map(load_split, SPLITS))
    lab.folder.mkdir(parents=True, exist_ok=True)
    rows = computed("alone", depends_on, items(lab))
    write_csv(RESULTS, compared(rows, lab, load_params("benchmark", Params).benchmark))


def items(lab: Lab) -> dict[str, Callable[[], list[Row]]]:
    """Return what there is to compute; dense comes first, because ONNX Runtime's tools start from its file."""
    made = {
        DENSE: (OURS, "the trained network", partial(export, lab.network)),
        "int8": (OURS, "recipe int8", partial(write_ours, lab)),
        "static": (RUNTIME, "quantize_static, defaults", partial(write_static, lab)),
        "dynamic": (RUNTIME, "quantize_dynamic, defaults", partial(write_dynamic, lab)),
    }
    whole = {name: partial(written, lab, name, *how) for name, how in made.items()}
    return {
        DENSE: whole[DENSE],
        "half": lambda: pruned(lab, "half", "half of the channels of every layer", prune_half),
        "global": lambda: pruned(lab, "global", "channels of least norm in all layers", prune_globally),
        **whole,
    }


def written(lab: Lab, name: str, tool: str, done: str, write: Callable[[Path], None]) -> list[Row]:
    """Let ``write`` write the file ``name`` of the trained network, and return its row."""
    minutes = _minutes(partial(write, lab.path(name)))
    return [measured(lab, name, tool, done, lab.network, minutes)]


def measured(lab: Lab, name: str, tool: str, done: str, network: VGG, minutes: float) -> Row:
    """Return the row of the file ``name``, which holds ``network`` and was made in ``minutes``."""
    path = lab.path(name)
    validation, test = (logits(path, split.images.numpy()).argmax(1) for split in (lab.validation, lab.test))
    return {
        "name": name,
        "tool": tool,
        "version": "" if tool == OURS else version(tool),
        "done": done,
        "val_accuracy": float(np.mean(validation == lab.validation.labels.numpy())),
        "test_accuracy": float(np.mean(test == lab.test.labels.numpy())),
        "bytes": path.stat().st_size,
        "macs": macs(network),
        "minutes": minutes,
        "predicted": "".join(map(str, test)),
    }


def compared(rows: Sequence[Row], lab: Lab, settings: BenchmarkSettings) -> list[Row]:
    """Return ``rows`` with the difference from dense on test (points, 95 % interval) and how many times faster."""
    sessions = {row["name"]: session(lab.path(row["name"]), THREADS) for row in rows}
    timed = latencies(sessions, 1, settings.blocks, settings.calls)
    right = {row["name"]: np.array(list(row.pop("predicted")), int) == lab.test.labels.numpy() for row in rows}
    differences = {name: paired_difference(own, right[DENSE]) for name, own in right.items()}
    return [{**row, **vars(differences[row["name"]]), "ms_ratio": timed[row["name"]]["ratio"]} for row in rows]


def pruned(lab: Lab, name: str, done: str, prune: Callable[[VGG], None]) -> list[Row]:
    """Return rows of the network after ``prune``, and after each of `EPOCHS` epochs of plain fine-tuning."""
    network, rows = copy.deepcopy(lab.network).eval(), []
    minutes = _minutes(partial(prune, network))
    optimizer, crops = torch.optim.SGD(network.parameters(), **SGD), Crops(lab.train.images, padding=4)
    for epoch in range(EPOCHS + 1):
        file, tuned = (f"{name}_{epoch}", f"{done}; epochs of SGD: {epoch}") if epoch else (name, done)
        if epoch:
            minutes += _minutes(partial(train_epoch, network, optimizer, crops, lab.train.labels))
        export(network, lab.path(file))
        rows.append(measured(lab, file, PRUNING, tuned, network, minutes))
    return rows


def _minutes(run: Callable[[], object]) -> float:
    """Return how many minutes ``run`` takes."""
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) / 60


def prune_half(network: VGG) -> None:
    """Remove half of the channels of every layer of ``network``, as torch-pruning's README shows."""
    import torch_pruning as tp

    tp.pruner.BasePruner(network, **_settings(network), pruning_ratio=0.5, round_to=8).step()


def prune_globally(network: VGG) -> None:
    """Remove the channels of least norm in all layers of ``network``, until it has the MACs that `prune_half` leaves.

    Takes small steps, without a limit for a single layer, as torch-pruning's example for CIFAR-10 does.
    """
    import torch_pruning as tp

    other = copy.deepcopy(network)
    prune_half(other)
    steps = {"pruning_ratio": 1.0, "iterative_steps": STEPS, "global_pruning": True}
    pruner = tp.pruner.GroupNormPruner(network, **_settings(network), **steps)
    while macs(network) > macs(other) and pruner.current_step < STEPS:
        pruner.step()


def _settings(network: VGG) -> dict[str, object]:
    import torch_pruning as tp

    importance = tp.importance.GroupMagnitudeImportance(p=2)
    return {
        "example_inputs": torch.zeros(1, 3, 32, 32),
        "importance": importance,
        "ignored_layers": [network.classifier[-1]],
    }


def train_epoch(network: VGG, optimizer: torch.optim.Optimizer, crops: Crops, labels: Tensor) -> None:
    """Train ``network`` for one epoch on random crops, half of them flipped; in bfloat16 where that is fast."""
    network.train()
    for chosen in torch.randperm(len(labels)).split(BATCH):
        starts = crops.draw(chosen, torch.rand(len(chosen)) < 0.5, torch.default_generator)
        with autocast(labels.device, "auto"):
            loss = F.cross_entropy(network(to_unit(crops.cut(starts))).float(), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class _Reader(CalibrationDataReader):
    """Batches of calibration images."""

    def __init__(self, images: np.ndarray) -> None:
        self.feeds = feeds(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None after the last."""
        return next(self.feeds, None)


def write_static(lab: Lab, path: Path) -> None:
    """Write the file of dense in int8, with the ranges of training images, to ``path``."""
    quantize_static(_prepared(lab), path, _Reader(lab.calibration()))


def write_dynamic(lab: Lab, path: Path) -> None:
    """Write the file of dense with weights in int8 to ``path``; the ranges of activations are found when it runs."""
    quantize_dynamic(_prepared(lab), path)


def _prepared(lab: Lab) -> Path:
    """Return the file of dense after ONNX Runtime's preprocessing."""
    quant_pre_process(lab.path(DENSE), lab.path("prepared"))
    return lab.path("prepared")


def write_ours(lab: Lab, path: Path) -> None:
    """Write the recipe int8 of this project to ``path``."""
    export(folded(lab.network), path, calibration=Calibration(lab.calibration(), "minmax"))


if __name__ == "__main__":
    exit_cleanly(main)
