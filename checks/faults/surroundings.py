"""Faults of what lies around the project: no HOME, the name of its folder, the clock."""

import os
import time
from collections.abc import Iterator

from checks.faults.judge import Bench, Case, differences, failed, line_of
from checks.faults.processes import STEPS
from checks.faults.project import Project, module, remove

DAYS = 10 * 24 * 3600  # seconds


def _forced(project: Project, bench: Bench, stages: tuple[str, ...], **changes: str | None) -> Case:
    """Return the case that DVC runs ``stages`` again, in one command."""
    done = project.dvc("repro", "--force", "--single-item", *stages, **changes)
    return Case(", ".join(stages), tuple(failed(done) + differences(project, bench)), line_of(done))


def no_home(bench: Bench) -> Iterator[Case]:
    """HOME and XDG_* are not set, or HOME names a folder that is not there: split, train, export
    and draw, whose libraries keep files there, end with the right bytes.
    """
    project = bench.copy("home")
    nothing = dict.fromkeys(("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"))
    keeping = tuple(stage for stage in bench.stages if stage in ("split", "train", "export@flagship", "draw"))
    yield _forced(project, bench, keeping, **nothing)
    yield _forced(project, bench, keeping, **nothing | {"HOME": str(bench.folder / "nobody")})


def strange_path(bench: Bench) -> Iterator[Case]:
    """The project lies in a folder whose name has spaces, umlauts and signs of the shell: every stage ends with the
    right bytes.
    """
    project = bench.copy("Käse & Brötchen, 'ß' $HOME (1)")
    yield _forced(project, bench, bench.stages)


def clock_backwards(bench: Bench) -> Iterator[Case]:
    """The clock goes backwards in DVC and in every stage, and all files are from the future: checkpoints are written
    and taken up after kill -9, and the bytes are right.
    """
    project = bench.copy("clock")
    remove(project.folder / ".dvc/cache")
    future = time.time() + DAYS
    for path in project.folder.rglob("*"):
        os.utime(path, (future, future), follow_symlinks=False)
    side = project.side.with_name("side-clock")
    side.mkdir()
    text = (project.side / "sitecustomize.py").read_text()
    (side / "sitecustomize.py").write_text(f"{text}\nbackwards()\n")
    late = Project(project.folder, side)
    for stage in [stage for stage in bench.stages if stage in STEPS]:
        fault = f"kill|step {STEPS[stage]}|{module(stage)}"
        killed = late.dvc("repro", "--force", "--single-item", stage, FAULT=fault)
        again = late.dvc("repro", "--single-item", stage)
        wrong = [] if killed.code else ["was not killed"]
        wrong += failed(again) + ([] if "going on after step" in again.output else ["does not go on from a checkpoint"])
        yield Case(stage, tuple(wrong + differences(project, bench)), line_of(again))
    others = tuple(stage for stage in bench.stages if stage not in STEPS)
    yield _forced(late, bench, others if bench.short else ("split", "evaluate", "export@flagship", "compare"))
