"""Try what can go wrong around a stage: python -m checks.faults [--only FAULT ...] [--stages STAGE ...].

A tiny project, on 1,600 images of the bundled sample, is made in a folder with a strange name. Its stages run without
DVC; what they write undisturbed is the reference. Then each fault of `FAULTS` strikes each stage, and is held if

- the stage ends well with all its outputs, or with the exit code of the table and one line of error that says why;
  there is no traceback, and it takes at most `SECONDS`;
- nothing lies in the project then that is not in the reference, byte for byte: no half output, no temporary file;
- the stage, run again without the fault, ends well with all its outputs.

Two exceptions: kill -9 leaves files with hidden names, and DVCLive's curves grow while the training runs. A fault at a
write strikes at the first one of the stage, in the middle and at the last one. Ends with 1 if something was not held.
"""

import argparse
import contextlib
import ctypes
import hashlib
import importlib
import multiprocessing
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from checks.make_sample import cut
from scripts.check_tree import lines_of, override, without_comments
from src.core.errors import UserError, exit_cleanly
from src.core.recipes import ROOT as TRAINED
from src.data.fetch import SAMPLE

ROOT = Path(__file__).parent.parent
STRANGE = "Käse & Brötchen, 'ß' $HOME (1)"
COPIED = ("src", "stages", "data/reference", "docs/trials.csv", "dvc.yaml", "params.yaml")
RECIPES = ("dense", "longer", "tuned", "flagship")
STAGES = (
    *("download", "split", "train", "evaluate", "csi"),
    *(f"{stage} {recipe}" for stage in ("compress", "export", "test") for recipe in RECIPES),
    *("coded flagship", "benchmark", "compare", "draw"),
)
STRUCK = tuple(stage for stage in STAGES if not stage.endswith((" dense", " longer")))
OVERRIDES = f"""
download.source=path
download.path=data/tiny
model.width=0.125
~compress.recipes
+compress.recipes.dense={{from:{TRAINED},step:keep}}
+compress.recipes.longer={{from:{TRAINED},step:fine_tune}}
+compress.recipes.tuned={{from:longer,step:train_on}}
+compress.recipes.flagship={{from:longer,step:quantize}}
coded=[flagship]
"""
TIMED = (
    "metrics/benchmark.json",
    "metrics/comparison.csv",
    "plots/pictures/pareto_latency.png",
)  # differ from run to run
GROWING = "plots/training/"
NOT_COUNTED = ("logs", "scratch", "temporary/torchinductor", "temporary/.ses")  # caches of PyTorch and ONNX Runtime
SECONDS = 300
MEGABYTES = 100  # of the disk that becomes full
CLONE_NEWNS = 0x00020000  # of sched.h; Python has os.unshare from 3.12 on
VARIABLES = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
FORK = multiprocessing.get_context("fork")  # PyTorch is imported once only
Strike = Callable[[Path], object]


@dataclass(frozen=True)
class Fault:
    """``strike`` gets the folder of the project, in the process of the stage: at a write, or before the stage begins.

    ``code`` and ``words`` say how a stage may end other than well. ``mounts``: only root on Linux can try it.
    """

    strike: Strike
    code: int = 0
    words: str = ""
    at_write: bool = True
    mounts: bool = False


@dataclass(frozen=True)
class Done:
    """A stage that has ended: its exit code (None: it hung), what it printed, and how often it wrote."""

    code: int | None
    printed: str
    writes: int


@dataclass(frozen=True)
class Project:
    """A project in which stages ran undisturbed; ``reference`` are its files and folders as `state` returns them.

    ``outs`` are the files that each stage made, ``writes`` is how often it wrote.
    """

    folder: Path
    reference: dict[str, str]
    outs: dict[str, list[str]]
    writes: dict[str, int]


def main() -> None:
    """Print for each fault how often it was held, and what was not; `UserError` if something was not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FAULTS, nargs="+", default=list(FAULTS), metavar="FAULT")
    parser.add_argument("--stages", choices=STRUCK, nargs="+", default=STRUCK, metavar="STAGE")
    given = parser.parse_args()
    broken = []
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk") as mounted:
        project = undisturbed(Path(folder) / "disk" / STRANGE, given.stages)
        for name in given.only:
            if FAULTS[name].mounts and not mounted:
                print(f"{name}: not tried, it needs root on Linux")
                continue
            tried = dict(tries(project, FAULTS[name], given.stages))
            wrong = [f"\n  {case}: {'; '.join(mistakes)}" for case, mistakes in tried.items() if mistakes]
            print(f"{name}: {len(tried) - len(wrong)} of {len(tried)} held{''.join(wrong)}", flush=True)
            broken += [name] if wrong else []
    if broken:
        raise UserError(f"not held: {', '.join(broken)}; see above")


def tries(project: Project, fault: Fault, stages: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield for each try of ``fault`` on ``stages`` its name, and what went wrong."""
    for stage in stages:
        last = project.writes[stage]
        for write in sorted({1, (last + 1) // 2, last}) if fault.at_write else [0]:
            done = run(project.folder, stage, project.outs[stage], fault.strike, write)
            wrong = judged(project, stage, done, fault) + ["not struck"] * (done.writes < write)
            clean(project)
            again = judged(project, stage, run(project.folder, stage, project.outs[stage]), NOTHING)
            yield f"{stage}, write {write} of {last}", [*wrong, *(f"then {mistake}" for mistake in again)]


def judged(project: Project, stage: str, done: Done, fault: Fault) -> list[str]:
    """Return what is wrong with how ``stage`` ended, and with what lies in the project now."""
    wrong = [] if done.code in (0, fault.code) else [f"ends with {done.code}: {done.printed[-300:]}"]
    wrong += ["prints a traceback"] if "Traceback (most recent call last)" in done.printed else []
    lines, now = re.findall(r"^error: .*", done.printed, re.MULTILINE), state(project.folder)
    if done.code == 0:
        wrong += [f"lacks {path}" for path in project.outs[stage] if path not in now]
    elif fault.words and (len(lines) != 1 or not re.search(fault.words, lines[0])):
        wrong.append(f"says {lines}")
    excepted = TIMED if done.code == 0 else (*TIMED, GROWING)
    for path, content in now.items():
        hidden = done.code == -signal.SIGKILL and "/." in f"/{path}"
        if content != project.reference.get(path) and not path.startswith(excepted) and not hidden:
            wrong.append(f"leaves {path}")
    return wrong


def state(folder: Path) -> dict[str, str]:
    """Return a hash of each file in ``folder``, and "" for each folder in it, by path."""
    paths = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for name, path in paths.items()
        if not name.startswith(NOT_COUNTED)
    }


def clean(project: Project) -> None:
    """Remove what is not in the reference, and what filled the disk."""
    project.folder.with_name("ballast").unlink(missing_ok=True)
    for name in sorted(state(project.folder).keys() - project.reference.keys(), reverse=True):  # files before folders
        path = project.folder / name
        path.rmdir() if path.is_dir() else path.unlink()


def run(folder: Path, stage: str, outs: Iterable[str] = (), strike: Strike | None = None, write: int = 0) -> Done:
    """Return how ``stage`` ends, in a fork of this process; ``outs`` are removed before, as DVC does it.

    ``strike`` happens at the write number ``write``, or before the stage begins if that is 0.
    """
    for out in outs:
        (folder / out).unlink(missing_ok=True)
    writes, printed = FORK.Value("i", 0), folder.parents[1] / "printed.txt"
    process = FORK.Process(target=begin, args=(folder, stage.split(), strike, write, writes, printed))
    process.start()
    process.join(SECONDS)
    code = process.exitcode
    process.kill()
    process.join()
    return Done(code, printed.read_text(encoding="utf-8", errors="replace"), writes.value)


def begin(folder: Path, stage: list[str], strike: Strike | None, write: int, writes: Any, printed: Path) -> None:
    """Run a stage to the end of this process, whose output goes to ``printed``."""
    sys.stdout = sys.stderr = printed.open("w", buffering=1, encoding="utf-8")
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    os.chdir(folder)
    tempfile.tempdir, sys.dont_write_bytecode = str(folder / "temporary"), True
    os.environ.update(VARIABLES, TMPDIR=tempfile.tempdir)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [f"stages.{stage[0]}", *stage[1:]]
    if strike and not write:
        strike(folder)
    count(writes, write, strike)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def count(writes: Any, write: int, strike: Strike | None) -> None:
    """Count in ``writes`` how often this process opens a file in this folder to write, or renames something to it.

    ``strike`` happens before the one with the number ``write``. Logs do not count.
    """
    folder = Path.cwd()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename"):
            return
        path = arguments[0] if event == "open" else arguments[1]
        if isinstance(path, int) or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = os.path.abspath(os.fspath(path))  # noqa: PTH100 - needs no Path for each file that Python opens
        if path.startswith(f"{folder}/") and not path.startswith(f"{folder}/logs"):
            writes.value += 1
            if strike and writes.value == write:
                strike(folder)

    sys.addaudithook(hook)


def undisturbed(folder: Path, stages: Iterable[str]) -> Project:
    """Return a new project in ``folder`` in which all stages up to the last of ``stages`` have run."""
    needed = STAGES[: 1 + max(map(STAGES.index, stages))]
    torch.set_num_threads(1)
    for name in {f"stages.{stage.split()[0]}" for stage in needed}:
        importlib.import_module(name)  # so that no fork has to import PyTorch
        del sys.modules[name]  # a fork runs it
    make(folder)
    outs, writes, before = {}, {}, state(folder)
    for stage in needed:
        done = run(folder, stage)
        if done.code:
            raise UserError(f"{stage}: ends with {done.code} without any fault: {done.printed[-3000:]}")
        after = state(folder)
        outs[stage] = [path for path in after if after[path] and path not in before]
        before, writes[stage] = after, done.writes
    return Project(folder, before, outs, writes)


def make(folder: Path) -> None:
    """Make a tiny project in the new ``folder``."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    (folder / "temporary").mkdir()
    cut(ROOT / SAMPLE, folder / "data/tiny", train=240, test=400)
    for lines in (lines_of(ROOT / "demo.overrides"), without_comments(OVERRIDES)):
        override(folder / "params.yaml", lines, "overrides")


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Make the new ``folder`` a small disk of its own, and yield whether this process may; others do not see it."""
    folder.mkdir()
    mounted = own_mounts() and mount("-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", folder)
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


def own_mounts() -> bool:
    """Give this process its own table of mounts, which ends with it; return whether it may."""
    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    return unshare is not None and unshare(CLONE_NEWNS) == 0 and mount("--make-rprivate", "/")


def mount(*arguments: str | Path) -> bool:
    """Call mount, and return whether that worked."""
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


def fill(folder: Path) -> None:
    """Fill the disk to the last byte."""
    with folder.with_name("ballast").open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def read_only(folder: Path) -> None:
    """Make the disk read-only for this process."""
    assert own_mounts()
    assert mount("-o", "remount,bind,ro", folder.parent)


def anew(folder: Path, **changes: str | None) -> None:
    """Run the stage in a new process with ``changes`` of the variables; one that is None is not set."""
    variables = {name: value for name, value in (os.environ | changes).items() if value is not None}
    os.execve(sys.executable, [sys.executable, "-m", *sys.argv], variables)


NOTHING = Fault(lambda _: None)
NO_HOME = dict.fromkeys(("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"))
IN_ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
FAULTS = {
    "kill -9": Fault(lambda _: signal.raise_signal(signal.SIGKILL), -signal.SIGKILL),
    "SIGTERM": Fault(lambda _: signal.raise_signal(signal.SIGTERM), 130, "terminated|interrupted"),
    "Ctrl-C": Fault(lambda _: signal.raise_signal(signal.SIGINT), 130, "interrupted"),
    "full disk": Fault(fill, 1, "No space left on device", mounts=True),
    "read-only": Fault(read_only, 1, "Read-only file system", at_write=False, mounts=True),
    "no HOME": Fault(partial(anew, **NO_HOME), at_write=False),
    "ASCII, HOME of nobody": Fault(partial(anew, HOME="/nowhere", **IN_ASCII), at_write=False),
}


if __name__ == "__main__":
    exit_cleanly(main)
