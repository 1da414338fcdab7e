"""Showing a training run: DVCLive curves, a progress bar, a line per epoch in the terminal and the log."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from src.training.estimate import in_words, matrix_rate
from src.training.loop import Reporter, Row

if TYPE_CHECKING:
    from dvclive import Live

LOGS = Path("logs")


class Tracker(Reporter):
    """A progress bar, and a line per epoch in the terminal and ``logs/<name>.log``.

    With a folder ``curves`` DVCLive writes the curves there. ``first`` is the number of the first epoch.
    """

    def __init__(self, name: str, images_per_epoch: int, curves: Path | None = None, first: int = 1) -> None:
        self.live = _live(curves) if curves else None
        self.images_per_epoch = images_per_epoch
        LOGS.mkdir(exist_ok=True)
        self.log = (LOGS / f"{name}.log").open("a", encoding="utf-8")
        self.epochs = first - 1
        self.bar: tqdm | None = None
        self.started, self.share = time.monotonic(), 0.0

    def start(self, epochs: int, flops: int, device: torch.device, bfloat16: bool) -> None:
        """Print how much work is left, and roughly how long it takes at the rate of this machine's matrix products."""
        time_left = in_words(flops / matrix_rate(device, bfloat16))
        precision = "bfloat16" if bfloat16 else "float32"
        print(
            f"{epochs} epochs to train, {flops / 1e15:.3g} PFLOP in {precision}: about {time_left} on this machine, "
            "if it runs as fast as a matrix product does now; Ctrl-C is safe, the next run resumes",
            flush=True,
        )

    def step(self, epoch: int, done: int, total: int) -> None:
        """Move the bar on; there is one at a terminal only. ``share`` is the part of the epoch that ran here."""
        if self.bar is None:
            self.started, self.share = time.monotonic(), 0.0
            description = f"epoch {epoch}"
            self.bar = tqdm(total=total, initial=done - 1, desc=description, unit="step", leave=False, disable=None)
        self.share += 1 / total
        self.bar.update()

    def epoch(self, row: Row) -> None:
        """Write the epoch's row to the curves, and a line with the pace to terminal and log."""
        self.epochs += 1
        if self.live:
            self.live.step = self.epochs
            for name, value in row.items():
                self.live.log_metric(name, value)
            self.live.next_step()
        line = f"epoch {self.epochs:3d}  " + "  ".join(f"{name} {value:.4g}" for name, value in row.items())
        if self.bar is not None:
            seconds = time.monotonic() - self.started
            line += f"  {seconds:.0f} s, {self.images_per_epoch * self.share / seconds:.0f} images/s"
            self.bar.close()
            self.bar = None
        print(line, flush=True)
        print(line, file=self.log, flush=True)

    def close(self) -> None:
        """Close bar, curves and log."""
        if self.bar is not None:
            self.bar.close()
        if self.live:
            self.live.end()
        self.log.close()


def _live(folder: Path) -> "Live":
    from dvclive import Live  # its import takes a second, and only the training of the root writes curves

    return Live(dir=str(folder), dvcyaml=False, save_dvc_exp=False)
