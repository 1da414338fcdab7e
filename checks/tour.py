"""Run the commands of docs/experiments.md in a fresh clone, and compare what they print: python -m checks.tour.

In the page, a block ```console holds commands, each after `$ ` and followed by what it printed. A block whose first
line is ```console slow takes minutes; --quick leaves it out. A block ```python goes into the file that its first line
names. Numbers, hashes and times are not compared: they differ from machine to machine and from run to run.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from src.core.errors import UserError, exit_cleanly

PAGE = Path("docs/experiments.md")
HOME = "/home/student"  # stands in the page for the temporary folder
LONGEST = 30  # lines of output in the page; of a longer one the middle is left out
END = 10  # lines that are left at both ends of it
LEFT_OUT = re.compile(  # lines that the page does not show
    r"\s*$|> |Updating lock file|.*%\||.* on this machine"
    r"|.*: \d+ \w+ in \d+\.\d s$|export \w+: "  # how far a stage has come
)
CHANGING = re.compile(  # words that are not compared
    r"[-+]?\d[\d.,:e+-]*|[0-9a-f]{7,40}"  # numbers and hashes
    r"|AM|PM|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"  # times
    r"|\S*accuracy|within|chance"  # no row where an accuracy did not change; what follows from numbers
)
FENCE = re.compile(r"```(console|python)( slow)?$")
PLACE = "TOUR_PLACE"  # the environment variable that names the file with the folder that a command ended in


@dataclass(frozen=True)
class Step:
    """A command of the page; its output is in the lines from ``start`` to before ``stop``, counted from 0."""

    command: str
    start: int
    stop: int
    shown: tuple[str, ...] = ()
    slow: bool = False


def main() -> None:
    """Run the steps of the page, and compare their outputs, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the commands that take seconds")
    parser.add_argument("--write", action="store_true", help="write the outputs into the page instead of comparing")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    steps = [step for step in steps_of(page) if not (options.quick and step.slow)]
    with tempfile.TemporaryDirectory(prefix="tour-", ignore_cleanup_errors=True) as folder:
        outputs = walk(steps, Path(folder).resolve(), compare=not options.write)
    if options.write:
        PAGE.write_text(with_outputs(page, steps, outputs), encoding="utf-8")


def steps_of(page: str) -> list[Step]:
    """Return the steps of ``page`` in order; `UserError` if a block does not end."""
    lines, steps, number = page.splitlines(), [], 0
    while number < len(lines):
        opening = FENCE.match(lines[number])
        number += 1
        if opening:
            if "```" not in lines[number:]:
                raise UserError(f"{PAGE}, line {number}: this block does not end")
            stop, read = lines.index("```", number), _file if opening[1] == "python" else _commands
            steps += read(lines, number, stop, slow=bool(opening[2]))
            number = stop + 1
    return steps


def _file(lines: list[str], start: int, stop: int, slow: bool) -> list[Step]:
    """Return the step that writes the lines from ``start`` to before ``stop`` into the file that the first names."""
    text = "\n".join(lines[start + 1 : stop])
    return [Step(f"cat > {lines[start].removeprefix('# ')} <<'END'\n{text}\nEND", stop, stop, slow=slow)]


def _commands(lines: list[str], start: int, stop: int, slow: bool) -> list[Step]:
    """Return a step for each command in the lines from ``start`` to before ``stop``; a backslash continues a line."""
    begins = [number for number in range(start, stop) if lines[number].startswith("$ ")]
    steps = []
    for begin, end in zip(begins, [*begins[1:], stop], strict=True):
        first = begin + 1
        while lines[first - 1].endswith("\\"):
            first += 1
        command = "\n".join(lines[begin:first]).removeprefix("$ ")
        steps.append(Step(command, first, end, tuple(lines[first:end]), slow))
    return steps


def walk(steps: list[Step], folder: Path, compare: bool) -> list[list[str]]:
    """Run ``steps`` one after the other, the first in ``folder``, and return their shortened outputs.

    Raises `UserError` if a command fails, or if ``compare`` and its output differs in what matters.
    """
    place, outputs = folder, []
    for step in steps:
        began = time.monotonic()
        printed, place = run(step, place, environment(folder))
        outputs.append(shortened(printed, folder))
        print(f"{time.monotonic() - began:6.1f} s  {title(step)}", flush=True)
        difference = differing(step.shown, outputs[-1])
        if compare and difference:
            raise UserError(f"{PAGE}, line {step.start}: `{title(step)}` {difference}")
    return outputs


def environment(folder: Path) -> dict[str, str]:
    """Return the variables that every command gets: those of this process, and what makes outputs comparable."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_"))}
    return own | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "REPOSITORY": str(Path.cwd()),
        "GIT_AUTHOR_NAME": "student",
        "GIT_AUTHOR_EMAIL": "student@example.org",
        "GIT_COMMITTER_NAME": "student",
        "GIT_COMMITTER_EMAIL": "student@example.org",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",  # Git clones a repository of another user too
        "GIT_CONFIG_VALUE_0": "*",
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "config"),
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",  # lines come in the order in which they were printed
        "CUDA_VISIBLE_DEVICES": "",
        "COLUMNS": "120",
        "LC_ALL": "C.UTF-8",
        PLACE: str(folder / "place"),
    }


def run(step: Step, place: Path, variables: dict[str, str]) -> tuple[str, Path]:
    """Run a command in the folder ``place``; return what it printed, and the folder it ended in (it may use cd).

    Raises `UserError` with its last lines if it does not end with 0.
    """
    script = f'{step.command}\ncode=$?\npwd > "${PLACE}"\nexit $code'
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(["bash", "-c", script], cwd=place, env=variables, check=False, **streams)
    printed = done.stdout.decode(errors="replace")
    if done.returncode:
        last = " ".join(" ".join(printed.splitlines()[-8:]).split())[-400:]
        raise UserError(f"{PAGE}, line {step.start}: `{title(step)}` ended with {done.returncode}: {last}")
    return printed, Path(Path(variables[PLACE]).read_text(encoding="utf-8").strip())


def title(step: Step) -> str:
    """Return the first line of the command."""
    return f"$ {step.command.splitlines()[0]}"


def shortened(printed: str, folder: Path) -> list[str]:
    """Return the lines of ``printed`` that the page shows; ``folder`` is written as `HOME`."""
    states = [line.split("\r")[-1].rstrip() for line in printed.replace(str(folder), HOME).split("\n")]
    lines = [line.expandtabs(4) for line in states if not LEFT_OUT.match(line)]
    if len(lines) <= LONGEST:
        return lines
    return [*lines[:END], f"[{len(lines) - 2 * END} lines left out]", *lines[-END:]]


def differing(shown: tuple[str, ...], printed: list[str]) -> str:
    """Return what ``printed`` has less and more than ``shown``, in words; "" if nothing that matters differs."""
    before, now = words(shown), words(printed)
    parts = {"no longer prints": before - now, "now prints": now - before}
    return "; ".join(f"{what}: {' '.join(found.elements())[:200]}" for what, found in parts.items() if found)


def words(lines: list[str] | tuple[str, ...]) -> Counter[str]:
    """Return how often each word is in ``lines``, without numbers, hashes and times."""
    found = (word.strip("[](){},.:;'\"") for line in lines for word in line.split())
    return Counter(word for word in found if re.search("[A-Za-z0-9]", word) and not CHANGING.fullmatch(word))


def with_outputs(page: str, steps: list[Step], outputs: list[list[str]]) -> str:
    """Return ``page`` with ``outputs`` in the places of what it shows for ``steps``."""
    lines = page.splitlines()
    for step, output in reversed([*zip(steps, outputs, strict=True)]):
        lines[step.start : step.stop] = output
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    exit_cleanly(main)
