"""A tiny project in a temporary folder: the working tree, with a narrow network and 400 images of the sample."""

import contextlib
import hashlib
import importlib
import io
import multiprocessing
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from checks.faults import inside

ROOT = Path(__file__).parent.parent.parent
SAMPLE = ROOT / "data/sample/cifar-10-sample.tar.xz"
DATA = Path("data/tiny.tar.gz")
RECORD_BYTES, TRAIN_RECORDS, TEST_RECORDS = 3073, 60, 100  # records of each file of the training images, and of test
SECONDS = 600  # after which a command counts as hanging
TIMED = ("metrics/benchmark.json", "metrics/comparison.csv", "plots/pareto_latency.png")  # differ from run to run
TEMPORARY = Path("scratch/temporary")
GROWING = "plots/training/"  # DVCLive's curves, which grow while the training runs
LEFT = re.compile(r"^\..*\.\d+(\.\w+)?$")  # a temporary name (src/core/files.py)
RECIPES = {
    "dense": {"from": "vgg16", "step": "keep"},
    "tuned": {"from": "vgg16", "step": "fine_tune"},
    "slim": {"from": "vgg16", "step": "prune_channels"},
    "flagship": {"from": "slim", "step": "quantize"},
}
FOREIGN = ("GIT_", "DVC_", "FAULT", "CIFAR10_", "SCRATCH_", "PYTHONDONTWRITE")


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit code (None: it took too long), and what it printed."""

    code: int | None
    output: str


@dataclass(frozen=True)
class Project:
    """A copy of the project in ``folder``; ``side`` is a folder beside it for what does not belong to it."""

    folder: Path
    side: Path
    changes: dict[str, str | None] = field(default_factory=dict)

    def environment(self, **changes: str | None) -> dict[str, str]:
        """Return the variables of a command; one that is None in ``changes`` is not set."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}"
        ours |= {f"GIT_{who}_{what}": "faults@example.org" for who in ("AUTHOR", "COMMITTER") for what in WHAT}
        ours |= {"PATH": path, "GIT_CONFIG_GLOBAL": os.devnull, "DVC_NO_ANALYTICS": "1", "SHELL": "/bin/sh"}
        ours |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": self._python_path(ours)}
        ours["DVC_SITE_CACHE_DIR"] = str(self.side / "dvc")
        return {name: value for name, value in (ours | self.changes | changes).items() if value is not None}

    def _python_path(self, ours: dict[str, str]) -> str:
        return os.pathsep.join([str(self.side), *filter(None, [ours.get("PYTHONPATH")])])

    def start(self, *command: str, **changes: str | None) -> subprocess.Popen[str]:
        """Start a command in a session of its own."""
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        environment = self.environment(**changes)
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, text=True, errors="replace", start_new_session=True, **streams
        )

    def run(self, *command: str, **changes: str | None) -> Done:
        """Run a command to its end."""
        return ended(self.start(*command, **changes))

    def dvc(self, *arguments: str, **changes: str | None) -> Done:
        """Run a command of DVC."""
        return self.run(sys.executable, "-m", "dvc", *arguments, **changes)

    def stage(self, stage: str, fault: str = "", **changes: str) -> Done:
        """Run a stage without DVC, in a fork of this process; its outs are removed before, as DVC does it.

        ``fault`` is what `checks.faults.inside` is to do: ``ACTION|EVENT``.
        """
        for out in self.outs(stage):
            remove(self.folder / out)
        return forked(lambda: run_stage(self, stage, fault, **changes), self.side / "printed.txt")

    def lock(self) -> dict[str, Any]:
        """Return the stages of dvc.lock."""
        return yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"]

    def outs(self, stage: str) -> list[str]:
        """Return the outs of ``stage`` in dvc.lock."""
        return [out["path"] for out in self.lock()[stage]["outs"]]

    def copied(self, folder: Path) -> "Project":
        """Return a copy of this project in the new ``folder``."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder, self.side)


WHAT = ("NAME", "EMAIL")


def preload() -> None:
    """Import what the stages import, so that a fork of this process need not; the stages are imported by the fork."""
    for path in sorted((ROOT / "stages").glob("*.py")):
        importlib.import_module(f"stages.{path.stem}")
        del sys.modules[f"stages.{path.stem}"]
    torch.set_num_threads(1)


def forked(work: Callable[[], None], printed: Path) -> Done:
    """Return how ``work`` ends in a fork of this process, in a session of its own."""

    def begin() -> None:
        os.setsid()
        with printed.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        work()

    process = multiprocessing.get_context("fork").Process(target=begin)
    process.start()
    process.join(SECONDS)
    code = process.exitcode
    if code is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return Done(code, printed.read_text(errors="replace"))


def run_stage(project: Project, stage: str, fault: str = "", **changes: str) -> None:
    """Run a stage in this process, which is a fork; temporary files go to `TEMPORARY`."""
    temporary = project.folder / TEMPORARY
    with contextlib.suppress(OSError):
        temporary.mkdir(parents=True, exist_ok=True)
    os.chdir(project.folder)
    environment = project.environment(TMPDIR=str(temporary), **changes)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None
    name, *arguments = module(stage).split()
    sys.argv = [f"{name.replace('.', '/')}.py", *arguments]
    sys.orig_argv = ["python", "-m", name, *arguments]
    if fault:
        inside.prepare(f"{fault}|{module(stage)}")
    runpy.run_module(name, run_name="__main__")


def ended(process: subprocess.Popen[str]) -> Done:
    """Return ``process`` when it has ended; it is killed after `SECONDS`."""
    try:
        output, _ = process.communicate(timeout=SECONDS)
        return Done(process.returncode, output)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return Done(None, process.communicate()[0])


def module(stage: str) -> str:
    """Return what follows ``python -m`` in the command of ``stage``: ``stages.export flagship``."""
    return f"stages.{stage.replace('@', ' ')}"


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def new_project(folder: Path, side: Path) -> Project:
    """Return a tiny project in the new ``folder``, committed to Git; nothing has run in it."""
    listed = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")[:-1]
    for name in names:
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith(("metrics/", "plots/", "released/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / DATA).write_bytes(_tiny_archive())
    (folder / "params.yaml").write_text(yaml.safe_dump(tiny_params(), sort_keys=False))
    side.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("inside.py"), side / "sitecustomize.py")
    project = Project(folder, side)
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        if (done := project.run("git", *command)).code:
            raise RuntimeError(f"git {command}: {done.output}")
    return project


def _tiny_archive() -> bytes:
    """Return a .tar.gz with the first records of each file of the sample."""
    buffer = io.BytesIO()
    with tarfile.open(SAMPLE) as sample, tarfile.open(fileobj=buffer, mode="w:gz") as tiny:
        for member in filter(tarfile.TarInfo.isfile, sample):
            member.name = Path(member.name).name
            content = sample.extractfile(member)
            records = TEST_RECORDS if member.name.startswith("test") else TRAIN_RECORDS
            member.size = records * RECORD_BYTES
            tiny.addfile(member, content)
    return buffer.getvalue()


def tiny_params() -> dict[str, Any]:
    """Return the params of the working tree with a narrow network, 27 steps of training and four recipes."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"]["source"] = str(DATA)
    params["model"]["width"] = 0.125
    params["train"]["recipe"] = "demo"
    params["train"]["recipes"]["demo"] |= {"phases": [{"size": 16, "epochs": 1}, {"size": 32, "epochs": 2}]}
    params["train"]["recipes"]["demo"] |= {"batch_size": 30, "dropout": 0.1, "ema_decay": 0.5}
    params["csi"] |= {"in_sample_train": 100, "in_sample_test": 50, "neighbour_images": 100, "probe_images": 100}
    params["benchmark"] = {"blocks": 1, "calls": 2, "batch_calls": 1}
    params["compress"]["recipes"] = RECIPES
    params["compress"]["fine_tune"] |= {"epochs": 1, "batch_size": 30}
    params["compress"]["steps"]["prune_channels"] |= {"importance_images": 100}
    params["compress"]["steps"]["quantize"] |= {"calibration_images": 50}
    return params


def contents(folder: Path, outs: Iterable[str]) -> dict[str, str]:
    """Return a hash of each file of ``outs`` that is there."""
    roots = [folder / out for out in outs]
    files = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def leftovers(folder: Path) -> list[str]:
    """Return the files and folders in ``folder`` with a temporary name."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".*") if LEFT.match(path.name)]
