"""The activation stream: the output of each module of a network, while it runs.

    stream(model, images, [receiver])

calls ``receiver(name, output, index)`` for each module and batch. Nothing is stored: what a receiver wants to keep, it
must copy, because an in-place module overwrites the output of the module before it. The network may be any
`nn.Module` whose modules give [N, C, H, W] or [N, D].
"""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from src.network.inference import evaluating, to_unit

BATCH_SIZE = 100  # keeps the output of VGG16's widest layer below 32 MB: malloc reuses blocks of this size
# CUDA computes convolutions in float32, without TF32, and with the same algorithm every time
FULL_PRECISION = {"enabled": True, "benchmark": False, "deterministic": True, "allow_tf32": False}
OutputReceiver = Callable[[str, Tensor], None]  # gets the name of a module and its output
Receiver = Callable[[str, Tensor, Tensor], None]  # and int64 [N], the places of the batch's images among all images


class _EnoughError(Exception):
    """Every module that was asked for has run; the rest of the network need not run."""


def stream(
    model: nn.Module,
    images: Tensor,
    receivers: Sequence[Receiver],
    modules: Collection[str] | None = None,
    batch_size: int = BATCH_SIZE,
    description: str = "activations",
) -> None:
    """Run ``images`` through ``model`` and send the output of each module to ``receivers``.

    ``images``: the input [N, ...] of ``model``; uint8 becomes float32 in 0..1. ``modules``: names of the modules that
    are received, by default all that have no modules inside; each batch stops after the last of them. The network runs
    in evaluation mode, in full float32, without gradients. Raises ValueError if ``model`` has no module of a name.
    """
    device = device_of(model)
    index = torch.arange(len(images)).split(batch_size)
    bar = tqdm(index, desc=f"CSI: {description}", unit="batch", leave=False, disable=None)
    with torch.no_grad(), torch.backends.cudnn.flags(**FULL_PRECISION), contextlib.closing(bar):
        for rows in bar:
            batch = images[rows[0] : rows[-1] + 1].to(device)
            with output_hooks(model, partial(_send, receivers, rows), modules), contextlib.suppress(_EnoughError):
                model(batch if batch.is_floating_point() else to_unit(batch))


def _send(receivers: Sequence[Receiver], index: Tensor, name: str, output: Tensor) -> None:
    for receive in receivers:
        receive(name, output, index)


def device_of(model: nn.Module) -> torch.device:
    """Return the device on which ``model`` lies; the CPU for a network without tensors."""
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if tensor is None else tensor.device


def home_of(device: torch.device) -> torch.device:
    """Return where activations from ``device`` are added up: there, or on the CPU, as MPS has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


@contextmanager
def output_hooks(model: nn.Module, receive: OutputReceiver, modules: Collection[str] | None = None) -> Iterator[None]:
    """Put ``model`` into evaluation mode and call ``receive`` with the output of each of ``modules`` as it runs.

    With ``modules`` the network stops (by an exception that `stream` takes) once all of them have run. At the end the
    hooks are gone, and the network is in the mode in which it was.
    """
    chosen = _chosen(model, modules)
    left = set(chosen) if modules is not None else {""}  # {""}: never empty, the network runs to its end
    with evaluating(model), contextlib.ExitStack() as hooks:
        for name, module in chosen.items():
            hooks.enter_context(module.register_forward_hook(partial(_receive, receive, name, left)))
        yield


def _chosen(model: nn.Module, modules: Collection[str] | None) -> dict[str, nn.Module]:
    """Return the modules that are received, by name."""
    known = dict(model.named_modules())
    if modules is None:
        return {name: module for name, module in known.items() if not list(module.children())}
    if unknown := [name for name in modules if name not in known]:
        raise ValueError(f"modules: found {', '.join(unknown)}; wanted names among {', '.join(filter(None, known))}")
    return {name: known[name] for name in modules}


def _receive(
    receive: OutputReceiver, name: str, left: set[str], _module: nn.Module, _inputs: Any, output: Tensor
) -> None:
    receive(name, output)
    left.discard(name)
    if not left:
        raise _EnoughError
