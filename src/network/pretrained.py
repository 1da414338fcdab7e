"""Weights from elsewhere: a state dict with torchvision's names, in a file of PyTorch or safetensors."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from src.core.errors import UserError, one_line
from src.network.vgg import VGG, Plan, rebuild

NESTED = ("state_dict", "model", "net")  # where the checkpoints of other programs have the tensors
PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before all names
COUNTER = "num_batches_tracked"  # of BatchNorm: without effect here, and old files lack it
NAMED = 3  # of the tensors that do not fit
Normalization = Mapping[str, Sequence[float]]


def load_pretrained(path: Path, plan: Plan, given: Normalization, otherwise: Normalization) -> VGG:
    """Return the network of ``plan`` with the weights in ``path``, in evaluation mode, on the CPU, in float32.

    ``given`` has the mean and std (one number per channel) by which the weights expect images in 0..1 to be
    normalized. What is not given comes from the file, if it is one of ours, or from ``otherwise``. Raises `UserError`
    if the file cannot be read, or if its tensors are not those of ``plan``.
    """
    tensors = _tensors(otherwise) | read_tensors(path) | _tensors(given)
    tensors = {name: tensor.float() for name, tensor in tensors.items() if not name.endswith(COUNTER)}
    with torch.device("meta"):
        expected = VGG(plan).state_dict()
    if mistakes := _mistakes(tensors, {name: own for name, own in expected.items() if not name.endswith(COUNTER)}):
        network = f"VGG{plan.depth} of {plan.classes} classes with this head and width (params.yaml: model)"
        raise UserError(f"{path}: these are not the weights of a {network}; {one_line(mistakes)}")
    counters = {name: torch.zeros(()).long() for name in expected if name.endswith(COUNTER)}
    return rebuild(plan, tensors | counters)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors in ``path`` by name, without what other programs put around them.

    Loading runs no code from the file. Raises `UserError` if it cannot be read or holds no tensors.
    """
    try:
        content = _content(path)
        for name in NESTED:
            if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
                content = content[name]
        if not isinstance(content, Mapping) or not content:
            raise TypeError(f"it holds no tensors by name (found {type(content).__name__})")
        if other := [name for name, value in content.items() if not (isinstance(name, str) and _is_plain(value))]:
            raise TypeError(f"{other[0]!r} is no tensor")
    except pickle.UnpicklingError:
        raise UserError(f"{path}: holds more than tensors, or is damaged; save model.state_dict() alone") from None
    except Exception as error:  # a damaged file can raise almost anything
        raise UserError(f"{path}: no weights that can be read: {one_line(error)}") from None
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): tensor for name, tensor in content.items()}
    return dict(content)


def _content(path: Path) -> Any:
    """Return what ``path`` holds, by the form that its first bytes show."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":  # the header of safetensors is JSON, after its length in eight bytes
        return load_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # PyTorch does not check the checksums itself
                raise ValueError(f"{damaged} has a wrong checksum")
    with warnings.catch_warnings(action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=True)


def _tensors(normalization: Normalization) -> dict[str, Tensor]:
    return {name: torch.tensor(values) for name, values in normalization.items()}


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and not value.is_quantized


def _mistakes(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Return how ``tensors`` differ from the names and shapes of ``expected``; "" if they do not."""
    shapes = [
        f"{name} {[*tensors[name].shape]}, not {[*own.shape]}"
        for name, own in expected.items()
        if name in tensors and tensors[name].shape != own.shape
    ]
    found = {
        "missing": [name for name in expected if name not in tensors],
        "surplus": [name for name in tensors if name not in expected],
        "other shapes": shapes,
    }
    return "; ".join(f"{kind}: {_few(names)}" for kind, names in found.items() if names)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(islice(names, NAMED)) + more
