"""One training run in several processes, as ``torchrun`` starts them; without it, the same calls for one process.

Data-parallel: each process computes its share of every batch, and gradients are averaged over processes
(`torch.nn.parallel.DistributedDataParallel`, arXiv:2006.15704). The first process alone writes files.
With more than two processes a run that resumes from a checkpoint may add up gradients in another order.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from src.core.errors import ParamsError, UserError

Value = TypeVar("Value")


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the processes of this run, if torchrun started several; gives the device of this one.

    Tensors travel by NCCL between GPUs and by Gloo between CPUs. Raises `ParamsError` for other devices and
    for more processes than the machine has GPUs, and `UserError` if another process dies during the run (between GPUs
    it is torchrun that notices, and ends all).
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    local = int(os.environ["LOCAL_RANK"])
    if device.type == "mps":
        raise ParamsError("params.yaml: device: several processes run on cpu or cuda, found mps")
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise ParamsError(
                f"params.yaml: train.launcher: one process per GPU, found {torch.cuda.device_count()} GPUs"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise UserError("another process of this run died; start again to resume from the last checkpoint") from None
    else:
        dist.destroy_process_group()


def processes() -> int:
    """Return how many processes share this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(tensor: Tensor) -> Tensor:
    """Return this process's part of ``tensor`` [N, ...]: every ``processes()``-th row."""
    return tensor[rank() :: processes()]


def replicated(model: nn.Module) -> nn.Module:
    """Return ``model``, or a wrapper that averages its gradients over all processes.

    BatchNorm takes the statistics of the whole batch on CUDA, where PyTorch can (SyncBatchNorm, in place),
    and those of the process's share elsewhere; its running statistics are the first process's.
    """
    if processes() == 1:
        return model
    if next(model.parameters()).is_cuda:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return DistributedDataParallel(model)


def unsynchronized(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Return a context in which gradients of a `replicated` network are added up and not yet averaged."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else contextlib.nullcontext()


def mean(tensor: Tensor) -> Tensor:
    """Return ``tensor``, changed in place to the mean over all processes."""
    if processes() > 1:
        dist.all_reduce(tensor)
        tensor /= processes()
    return tensor


def from_first(value: Value | None) -> Value:
    """Return ``value`` as the first process has it; the others may give None."""
    values: list[Any] = [value]
    if processes() > 1:
        dist.broadcast_object_list(values)
    return values[0]
