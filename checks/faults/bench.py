"""The undisturbed run that all faults are compared with."""

from pathlib import Path

from checks.faults.judge import Bench
from checks.faults.project import contents, module, new_project, preload

STAGES = (  # each stage once; of the recipes one with a fine-tuning and one in int8
    *("download", "split", "train", "evaluate", "csi", "compress@tuned", "export@flagship", "test@flagship"),
    *("benchmark", "compare", "draw", "release@flagship"),
)
SHORT = ("download", "split")


def undisturbed(folder: Path, short: bool) -> Bench:
    """Return a bench in ``folder``: a tiny project in which `dvc repro` has run, up to split if ``short``."""
    stages, notes = SHORT if short else STAGES, folder / "notes"
    base = new_project(folder / "base", folder / "side")
    preload()
    done = base.dvc("repro", *(["split"] if short else []), FAULT="note|*|stages.*", FAULT_FILE=str(notes))
    if done.code:
        raise RuntimeError(f"the undisturbed run ends with {done.code}: {done.output[-3000:]}")
    events = [line.split("\t") for line in notes.read_text().splitlines()]
    writes = {stage: list(dict.fromkeys(e for m, e in events if m == module(stage))) for stage in stages}
    outs = [out for stage in base.lock() for out in base.outs(stage)]
    return Bench(base, folder, stages, writes, contents(base.folder, outs), short)
