"""What counts as a promise kept: one line instead of a traceback, whole outputs or none, the bytes of the reference."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from checks.faults.project import GROWING, TEMPORARY, TIMED, Done, Project, contents, leftovers

TRACEBACK = "Traceback (most recent call last)"


class Skipped(Exception):  # noqa: N818 - no error
    """A fault that cannot be tried on this machine; the message says why."""


@dataclass(frozen=True)
class Case:
    """One try of a fault: what was tried, how it broke the promise (nothing if it held), the line a user sees."""

    name: str
    mistakes: tuple[str, ...] = ()
    line: str = ""


@dataclass(frozen=True)
class Bench:
    """Where faults are tried: the project ``base`` after an undisturbed run, and what is known of that run.

    ``stages`` are tried; ``writes`` has for each of them the events that write (see `checks.faults.inside`).
    """

    base: Project
    folder: Path
    stages: tuple[str, ...]
    writes: dict[str, list[str]]
    reference: dict[str, str]
    short: bool = False

    def copy(self, name: str) -> Project:
        """Return a copy of the project after its undisturbed run, in a new folder."""
        return self.base.copied(self.folder / name)


def line_of(done: Done) -> str:
    """Return the last line of an error that a command printed; nothing if there is none."""
    lines = [line for line in re.split(r"[\r\n]+", done.output) if re.match(r"(error|ERROR): ", line)]
    return lines[-1] if lines else ""


def unclean(done: Done) -> list[str]:
    """Return what no command may do, whatever goes wrong."""
    hang = ["hangs"] if done.code is None else []
    return hang + ["prints a traceback"] * (TRACEBACK in done.output)


def not_told(done: Done, words: str) -> list[str]:
    """Return what is wrong with a stage that should have ended in one line that has the ``words``."""
    lines = re.findall(r"^error: .*", done.output, re.MULTILINE)
    wrong = [] if done.code in (1, 2, 130, 143) else [f"ends with {done.code}"]
    wrong += [] if len(lines) == 1 else [f"{len(lines)} lines of error"]
    return unclean(done) + wrong + ([] if re.search(words, "\n".join(lines)) else ["does not say why"])


def told_or_right(done: Done, words: str, project: Project, bench: Bench, stage: str) -> list[str]:
    """Return what is wrong with ``stage``, which should have ended as in `not_told`, or with all its right outputs."""
    outs = [out for out in bench.base.outs(stage) if out not in TIMED and not out.startswith(GROWING)]
    right = done.code == 0 and contents(project.folder, outs) == contents(bench.base.folder, outs)
    wrong = unclean(done) if right else not_told(done, words)
    return wrong + left(project) + halves(project, bench, [stage])


def failed(done: Done) -> list[str]:
    """Return what is wrong with a command that should have ended well."""
    return unclean(done) + ([f"ends with {done.code}: {done.output[-300:]}"] if done.code else [])


def halves(project: Project, bench: Bench, stages: Iterable[str]) -> list[str]:
    """Return the outputs of ``stages`` that are there, and are not the whole ones of the undisturbed run."""
    wrong = []
    for out in (out for stage in stages for out in bench.base.outs(stage)):
        found = contents(project.folder, [out])
        expected = {path: md5 for path, md5 in bench.reference.items() if path == out or path.startswith(f"{out}/")}
        if found and found != expected and out not in TIMED and not out.startswith(GROWING):
            wrong.append(f"half an output: {out}")
    return wrong


def left(project: Project) -> list[str]:
    """Return what a stage has left behind under a temporary name or among temporary files."""
    temporary = [str(path.relative_to(project.folder)) for path in (project.folder / TEMPORARY).glob("*")]
    temporary = [name for name in temporary if "torchinductor" not in name]  # a cache of PyTorch
    return [f"leaves {name}" for name in leftovers(project.folder) + temporary]


def differences(project: Project, bench: Bench) -> list[str]:
    """Return the outputs that are not those of the undisturbed run, and the stages whose line in dvc.lock is not."""
    found = contents(project.folder, bench.reference)
    wrong = [
        f"other bytes: {path}" for path, md5 in bench.reference.items() if path not in TIMED and found.get(path) != md5
    ]
    ours, theirs = project.lock(), bench.base.lock()
    return wrong + [
        f"dvc.lock: other {part} of {stage}"
        for stage in theirs
        for part in ("deps", "outs")
        if _hashes(ours.get(stage, {}), part) != _hashes(theirs[stage], part)
    ]


def _hashes(stage: dict, part: str) -> dict[str, str]:
    return {entry["path"]: entry["md5"] for entry in stage.get(part, []) if entry["path"] not in TIMED}
