"""What do the tools do alone? python -m studies.alone (or: make study NAME=alone); about 40 minutes.

Does to the trained network what the documentation of torch-pruning and of ONNX Runtime shows, with the settings shown
there, and measures the ONNX files as the pipeline measures its own. Pruned networks are fine-tuned for `BUDGET`.
Nothing is chosen by the results. The recipe int8 of this project is made beside them. Writes
studies/results/alone.csv.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch_pruning as tp
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import FineTuned
from src.compression.training import fine_tune
from src.core.device import seed_everything
from src.core.files import write_csv
from src.core.params import PARAMS, layered, read_yaml, validate
from src.core.recipes import DENSE, ROOT
from src.data.prepared import PREPARED, SPLITS, Split, load_split
from src.export.latency import THREADS, BenchmarkSettings, latencies
from src.export.onnx import Calibration, export
from src.export.runtime import feeds, logits, session
from src.network.cost import macs
from src.network.folding import folded
from src.network.record import load_recorded, network_path
from src.network.vgg import VGG
from src.results.accuracy import as_text, from_text
from src.results.intervals import paired_difference
from src.training.recipe import DEFAULTS, Training
from studies.items import Items, Row, computed, results_folder, run

RESULTS = Path("studies/results/alone.csv")
OURS, PRUNING, RUNTIME = "this project", "torch-pruning", "onnxruntime"
CALIBRATION_IMAGES = 1000  # as many as the recipe int8 takes, and the same ones
# STEPS and SGD are those of torch-pruning's example for CIFAR-10, but the learning rate falls to zero
STEPS = 400
SGD = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "lr_start": 0.01, "lr_peak": 0.01, "warmup": 0.0}
SGD |= {"batch_size": 128, "label_smoothing": 0.0, "ema_decay": 0.0, "flip": "random", "crop_padding": 4}
BUDGET = 1  # epochs of the trained network
SEED = 0


@dataclass(frozen=True)
class Lab:
    """The folder of the ONNX files, the trained network and its images, how to fine-tune, and the test images."""

    folder: Path
    context: Context
    fine_tuning: FineTuned
    test: Split

    @property
    def network(self) -> VGG:
        """The trained network."""
        return self.context.root.network

    def path(self, name: str) -> Path:
        """Return where the ONNX file ``name`` lies."""
        return self.folder / f"{name}.onnx"

    def calibration(self) -> np.ndarray:
        """Return the training images on which the ranges of the activations are found."""
        return self.context.sample(CALIBRATION_IMAGES).images.numpy()


def main() -> None:
    """Compute what is missing, time all files in turn, then write the table."""
    seed_everything(SEED)
    params = read_yaml(PARAMS)
    training = layered(Training, {DEFAULTS: params["train"]["defaults"], "SGD of studies/alone.py": SGD})
    fine_tuning = FineTuned(train=training, budget=BUDGET)
    inputs = [network_path(ROOT), *(PREPARED / f"{name}.npz" for name in SPLITS)]
    folder = results_folder("alone", inputs, fine_tuning, version(PRUNING), version(RUNTIME))
    root, (train, validation, test) = Candidate(*load_recorded(network_path(ROOT))), map(load_split, SPLITS)
    lab = Lab(folder, Context(train, validation, SEED, root), fine_tuning, test)
    rows = computed(folder, items(lab))
    write_csv(RESULTS, compared(rows, lab, validate(BenchmarkSettings, params["benchmark"], "benchmark")))


def items(lab: Lab) -> Items:
    """Return what there is to compute; dense comes first, because ONNX Runtime's tools start from its file."""

    def written(name: str, tool: str, done: str, write: Callable[[Path], None]) -> list[Row]:
        return [measured(lab, lab.network, name, tool, done, write)]

    return {
        DENSE: partial(written, DENSE, OURS, "the trained network", partial(export, lab.network)),
        "half": partial(pruned, lab, "half", "half of the channels of every layer", prune_half),
        "global": partial(pruned, lab, "global", "channels of least norm in all layers", prune_globally),
        "int8": partial(written, "int8", OURS, "recipe int8", partial(write_int8, lab)),
        "static": partial(written, "static", RUNTIME, "quantize_static, defaults", partial(write_static, lab)),
        "dynamic": partial(written, "dynamic", RUNTIME, "quantize_dynamic, defaults", partial(write_dynamic, lab)),
    }


def pruned(lab: Lab, name: str, done: str, prune: Callable[[VGG], None]) -> list[Row]:
    """Return rows of the network after ``prune``, and after fine-tuning it."""
    network = copy.deepcopy(lab.network)
    prune(network)
    before = measured(lab, network, name, PRUNING, done, partial(export, network))
    tuned = fine_tune(lab.context.root, network, f"{done}, ", lab.context, lab.fine_tuning)
    done, write = tuned.record.steps[-1], partial(export, tuned.network)
    return [before, measured(lab, tuned.network, f"{name}_tuned", PRUNING, done, write)]


def measured(lab: Lab, network: VGG, name: str, tool: str, done: str, write: Callable[[Path], None]) -> Row:
    """Let ``write`` write the file ``name``, which holds ``network``, and return its row."""
    path, validation = lab.path(name), lab.context.validation
    write(path)
    predicted = logits(path, lab.test.images.numpy()).argmax(1)
    return {
        "name": name,
        "tool": tool,
        "version": "" if tool == OURS else version(tool),
        "done": done,
        "val_accuracy": float(np.mean(logits(path, validation.images.numpy()).argmax(1) == validation.labels.numpy())),
        "test_accuracy": float(np.mean(predicted == lab.test.labels.numpy())),
        "bytes": path.stat().st_size,
        "macs": macs(network),
        "predicted": as_text(predicted),
    }


def compared(rows: Sequence[Row], lab: Lab, settings: BenchmarkSettings) -> list[Row]:
    """Return ``rows`` with the difference from dense on test (points, 95 % interval) and how many times faster."""
    sessions = {row["name"]: session(lab.path(row["name"]), THREADS) for row in rows}
    timed = latencies(sessions, 1, settings.blocks, settings.calls)
    labels = lab.test.labels.numpy()
    right = {row["name"]: from_text(row.pop("predicted"), len(labels), row["name"]) == labels for row in rows}
    differences = {name: paired_difference(own, right[DENSE]) for name, own in right.items()}
    return [{**row, **vars(differences[row["name"]]), "ms_ratio": timed[row["name"]]["ratio"]} for row in rows]


def prune_half(network: VGG) -> None:
    """Remove half of the channels of every layer of ``network``, as torch-pruning's README shows."""
    tp.pruner.BasePruner(network, **_settings(network), pruning_ratio=0.5, round_to=8).step()


def prune_globally(network: VGG) -> None:
    """Remove the channels of least norm in all layers of ``network``, until it has the MACs that `prune_half` leaves.

    Takes small steps, without a limit for a single layer, as torch-pruning's example for CIFAR-10 does.
    """
    half = copy.deepcopy(network)
    prune_half(half)
    steps = {"pruning_ratio": 1.0, "iterative_steps": STEPS, "global_pruning": True}
    pruner = tp.pruner.GroupNormPruner(network, **_settings(network), **steps)
    while macs(network) > macs(half) and pruner.current_step < STEPS:
        pruner.step()


def _settings(network: VGG) -> dict[str, object]:
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    last = network.classifier[-1]
    image = torch.zeros(1, 3, network.plan.side, network.plan.side)
    return {"example_inputs": image, "importance": importance, "ignored_layers": [last]}


def write_int8(lab: Lab, path: Path) -> None:
    """Write the recipe int8 of this project to ``path``."""
    export(folded(lab.network), path, calibration=Calibration(lab.calibration(), "minmax"))


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


class _Reader(CalibrationDataReader):
    """Batches of calibration images."""

    def __init__(self, images: np.ndarray) -> None:
        self.feeds = feeds(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None after the last."""
        return next(self.feeds, None)


if __name__ == "__main__":
    run(main, __doc__)
