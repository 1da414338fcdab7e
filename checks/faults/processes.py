"""Faults of processes: killed, interrupted, two at once."""

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from checks.faults.judge import Bench, Case, Skipped, differences, failed, halves, left, line_of, not_told, unclean
from checks.faults.project import Done, Project, ended, module, remove

STEPS = {"train": 12, "compress@tuned": 4}  # a step in the middle of a training
CP = """#!/bin/sh
head -c 1000 "$1" > "$2"
kill -9 0
"""


def kill(bench: Bench) -> Iterator[Case]:
    """kill -9 in the middle of each stage, to the stage alone or to DVC as well; then `dvc repro` ends with the
    bytes of an undisturbed run, and before that no output is there by half.
    """
    project = bench.copy("kill")
    remove(project.folder / ".dvc/cache")  # DVC shall run the stages again, and not take their outputs from there
    found = {}
    for number, stage in enumerate(reversed(bench.stages)):  # a stage needs the outputs of those before it
        done = _killed(project, bench, stage, "kill" if number % 2 else "kill-stage")
        survived = [] if done.code else ["was not killed"]
        found[stage] = (unclean(done) + survived + halves(project, bench, [stage]), line_of(done))
    again = project.dvc("repro", *_target(bench))
    wrong = failed(again) + differences(project, bench)
    for stage, (mistakes, line) in found.items():
        own = [mistake for mistake in wrong if _concerns(mistake, stage, bench)]
        if not stage.startswith("release"):  # its file is that of export, which DVC has in its cache by then
            own += [] if f"Running stage '{stage}'" in again.output else ["was not run again"]
        yield Case(stage, (*mistakes, *own), line)
    yield Case("all again", tuple(failed(again) or wrong))


def _killed(project: Project, bench: Bench, stage: str, action: str) -> Done:
    command = ("repro", "--force", "--single-item", stage)
    if stage.startswith("release"):  # runs cp and no Python
        cp = project.side / "bin/cp"
        cp.parent.mkdir(exist_ok=True)
        cp.write_text(CP)
        cp.chmod(0o755)
        return project.dvc(*command, PATH=f"{cp.parent}:{project.environment()['PATH']}")
    event = f"step {STEPS[stage]}" if stage in STEPS else writes(bench, stage)[1]
    return project.dvc(*command, FAULT=f"{action}|{event}|{module(stage)}")


def writes(bench: Bench, stage: str) -> tuple[str, str, str]:
    """Return the first, a middle and the last event of ``stage`` that writes what is not a log."""
    events = [event for event in bench.writes[stage] if " logs" not in event]
    return events[0], events[len(events) // 2], events[-1]


def _target(bench: Bench) -> list[str]:
    return ["split"] if bench.short else []


def _concerns(mistake: str, stage: str, bench: Bench) -> bool:
    return mistake.endswith((f" {stage}", *(f" {out}" for out in bench.base.outs(stage))))


def terminate(bench: Bench) -> Iterator[Case]:
    """SIGTERM at the first write, in the middle and at the last write of download, split and export: one line, and
    nothing is left behind.
    """
    project = bench.copy("terminate")
    for stage in [stage for stage in bench.stages if stage.split("@")[0] in ("download", "split", "export")]:
        for event in dict.fromkeys(writes(bench, stage)):
            done = project.stage(stage, f"terminate|{event}")
            wrong = [*not_told(done, ""), *left(project), *halves(project, bench, [stage])]
            yield Case(f"{stage}, {event}", tuple(wrong), line_of(done))
            for name in left(project):
                remove(project.folder / name.removeprefix("leaves "))
        project.stage(stage)


def interrupt(bench: Bench) -> Iterator[Case]:
    """Ctrl-C at three steps at random, two of them in the training and one in a fine-tuning; then `dvc repro` ends
    with the bytes of an undisturbed run.
    """
    if bench.short:
        raise Skipped("the short pass trains nothing")
    project = bench.copy("interrupt")
    remove(project.folder / ".dvc/cache")
    numbers = random.Random(0)
    for stage, steps in (("train", 12), ("train", 12), ("compress@tuned", 8)):
        step = numbers.randrange(1, steps)
        if stage == "compress@tuned":
            project.dvc("repro", "--single-item", "train")  # goes on to its end
        fault = f"interrupt|step {step}|{module(stage)}"
        done = project.dvc("repro", "--force", "--single-item", stage, FAULT=fault)
        line = line_of_stage(done.output)
        wrong = [*unclean(done), *([] if "interrupted in epoch" in line else ["was not interrupted"])]
        yield Case(f"{stage}, step {step}", tuple(wrong + halves(project, bench, [stage])), line)
    again = project.dvc("repro")
    resumed = [] if "going on after step" in again.output else ["does not go on from a checkpoint"]
    yield Case("the run afterwards", tuple(failed(again) + resumed + differences(project, bench)))


def line_of_stage(output: str) -> str:
    """Return the line ``error: ...`` of a stage in what DVC printed."""
    return next((line[line.index("error: ") :] for line in output.splitlines() if "error: " in line), "")


def two_at_once(bench: Bench) -> Iterator[Case]:
    """A second `dvc repro` while the first is in the middle of a stage: it ends in one line or well, the first one
    ends well, and the bytes are right.
    """
    project = bench.copy("two")
    for stage in ("split",) if bench.short else ("split", "train", "compare"):
        held = bench.folder / f"held-{stage}"
        held.touch()
        command = (sys.executable, "-m", "dvc", "repro", "--force", "--single-item", stage)
        fault = f"hold|{writes(bench, stage)[1]}|{module(stage)}"
        first = project.start(*command, FAULT=fault, FAULT_FILE=str(held))
        reached = _wait_for(Path(f"{held}.reached"))
        second = project.dvc("repro", *_target(bench))
        held.unlink()
        wrong = [*unclean(second), *failed(ended(first)), *([] if reached else ["the first one did not come so far"])]
        if second.code and not line_of(second):
            wrong.append(f"the second ends with {second.code} and no line")
        again = project.dvc("repro", *_target(bench))
        yield Case(stage, tuple(wrong + failed(again) + differences(project, bench)), line_of(second))


def _wait_for(path: Path) -> bool:
    """Return whether the file ``path`` has come within five minutes."""
    for _ in range(3000):
        if path.exists():
            return True
        time.sleep(0.1)
    return False
