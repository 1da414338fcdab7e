"""Try what can go wrong around a stage: python -m checks.faults [--only FAULT ...] [--stages STAGE ...].

A tiny project, on 1,600 images of the bundled sample, is made in a folder with a strange name. Its stages run without
DVC; what they write undisturbed is the reference. Then each fault of `FAULTS` strikes each stage at its first write, in
the middle and at the last one, and is held if

- the stage ends well with all its outputs, or with the exit code of the table and one line of error that says why;
  there is no traceback, and it takes at most `SECONDS`;
- nothing lies in the project then that is not in the reference, byte for byte: no half output, no temporary file;
- the stage, run again without the fault, ends well with all its outputs.

Two exceptions: kill -9 leaves files with hidden names, and DVCLive's curves grow while the training runs. Ends with 1
if something was not held.
"""

import argparse
import importlib
import multiprocessing
import os
import re
import resource
import runpy
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from checks.sample import cut
from scripts.check_tree import lines_of, override
from src.core.errors import UserError, exit_cleanly
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
OVERRIDES = (
    *("download.source=path", "download.path=data/tiny", "model.width=0.125", "coded=[flagship]", "~compress.recipes"),
    "+compress.recipes.dense={from:trained,step:keep}",
    "+compress.recipes.longer={from:trained,step:fine_tune}",
    "+compress.recipes.tuned={from:longer,step:train_on}",
    "+compress.recipes.flagship={from:longer,step:quantize}",
)
TIMED = ("metrics/benchmark.json", "metrics/comparison.csv", "plots/pictures/pareto_latency.png")  # other in each run
GROWING = "plots/training/"
NOT_COUNTED = ("logs", "scratch", "temporary/torchinductor", "temporary/.ses")  # caches of PyTorch and ONNX Runtime
SECONDS = 300
PRINTED = 1 << 16  # bytes, which a pipe holds; no stage prints so much
VARIABLES = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
FORK = multiprocessing.get_context("fork")  # PyTorch is imported once only
Content = dict[str, bytes | None]


class Fault(NamedTuple):
    """``strike`` is called in the process of the stage; ``code`` and ``words`` say how it may end other than well."""

    strike: Callable[[], object] | None
    code: int = 0
    words: str = ""


NOTHING = Fault(None)
FAULTS = {
    "kill -9": Fault(partial(signal.raise_signal, signal.SIGKILL), -signal.SIGKILL),
    "SIGTERM": Fault(partial(signal.raise_signal, signal.SIGTERM), 130, "terminated|interrupted"),
    "Ctrl-C": Fault(partial(signal.raise_signal, signal.SIGINT), 130, "interrupted"),
    # From then on no file takes a byte. A disk that is full says it in other words, but needs root
    "full disk": Fault(partial(resource.setrlimit, resource.RLIMIT_FSIZE, (0, 0)), 1, "File too large"),
}


class Done(NamedTuple):
    """A stage that has ended: its exit code (None: it hung), what it printed, and how often it wrote."""

    code: int | None
    printed: str
    writes: int


@dataclass(frozen=True)
class Project:
    """A project in which stages ran undisturbed; ``reference`` is what lies in it then, as `state` returns it.

    ``outs`` are the files that each stage made, ``writes`` is how often it wrote.
    """

    folder: Path
    reference: Content
    outs: dict[str, list[str]]
    writes: dict[str, int]


def main() -> None:
    """Print for each fault how often it was held, and what was not; `UserError` if something was not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FAULTS, nargs="+", default=list(FAULTS), metavar="FAULT")
    parser.add_argument("--stages", choices=STRUCK, nargs="+", default=STRUCK, metavar="STAGE")
    given, broken = parser.parse_args(), []
    with tempfile.TemporaryDirectory() as folder:
        project = undisturbed(Path(folder) / STRANGE, given.stages)
        for name in given.only:
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
        for write in sorted({1, (last + 1) // 2, last}):
            done = run(project.folder, stage, project.outs[stage], fault, write)
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
        same = path in project.reference and content == project.reference[path]
        hidden = done.code == -signal.SIGKILL and "/." in f"/{path}"
        if not same and not path.startswith(excepted) and not hidden:
            wrong.append(f"leaves {path}")
    return wrong


def state(folder: Path) -> Content:
    """Return the bytes of each file in ``folder``, and None for each folder in it, by path."""
    paths = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    counted = {name: path for name, path in paths.items() if not name.startswith(NOT_COUNTED)}
    return {name: path.read_bytes() if path.is_file() else None for name, path in counted.items()}


def clean(project: Project) -> None:
    """Remove what is not in the reference."""
    for name in sorted(state(project.folder).keys() - project.reference.keys(), reverse=True):  # files before folders
        path = project.folder / name
        path.rmdir() if path.is_dir() else path.unlink()


def run(folder: Path, stage: str, outs: Iterable[str] = (), fault: Fault = NOTHING, write: int = 0) -> Done:
    """Return how ``stage`` ends, in a fork of this process, which ``fault`` strikes at its write number ``write``.

    ``outs`` are removed before, as DVC does it.
    """
    for out in outs:
        (folder / out).unlink(missing_ok=True)
    writes, (printed, output) = FORK.Value("i", 0), os.pipe()
    process = FORK.Process(target=begin, args=(folder, stage.split(), fault, write, writes, output))
    process.start()
    process.join(SECONDS)
    code = process.exitcode
    process.kill()
    process.join()
    os.close(output)
    with open(printed, "rb", buffering=0) as pipe:  # noqa: PTH123 - no path
        return Done(code, pipe.read(PRINTED).decode(errors="replace"), writes.value)


def begin(folder: Path, stage: list[str], fault: Fault, write: int, writes: Any, output: int) -> None:
    """Run a stage to the end of this process, which prints to ``output``."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = sys.stderr = open(output, "w", buffering=1, encoding="utf-8")  # noqa: SIM115 - no path
    os.chdir(folder)
    tempfile.tempdir, sys.dont_write_bytecode = str(folder / "temporary"), True
    os.environ.update(VARIABLES, TMPDIR=tempfile.tempdir)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [f"stages.{stage[0]}", *stage[1:]]
    count(writes, write, fault)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def count(writes: Any, write: int, fault: Fault) -> None:
    """Count in ``writes`` how often this process opens a file in this folder to write, or renames something to it.

    ``fault`` strikes before the one with the number ``write``. Logs do not count.
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
            if fault.strike and writes.value == write:
                fault.strike()

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
        outs[stage] = [path for path in after if after[path] is not None and path not in before]
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
    override(folder / "params.yaml", [*lines_of(ROOT / "demo.overrides"), *OVERRIDES], "overrides")


if __name__ == "__main__":
    exit_cleanly(main)
