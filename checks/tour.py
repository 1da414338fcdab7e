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
    r"|WARNING: No file hash info found"  # DVC, of each output that a stage has not made yet
)
CHANGING = re.compile(  # words that are not compared
    r"[-+]?\d[\d.,:e+-]*|[0-9a-f]{7,40}"  # numbers and hashes
    r"|AM|PM|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"  # times
    r"|\S*accuracy|inside|outside|not|decided"  # no row where an accuracy did not change; what follows from numbers
)
BLOCK = re.compile(r"^```(console|python)( slow)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"^\$ ((?:.*\\\n)*.*\n)((?:(?!\$ ).*\n)*)", re.MULTILINE)  # a command, and what it printed
SCRIPT = """cd "$(cat "$TOUR_PLACE")"
{}
code=$?
pwd > "$TOUR_PLACE"
exit $code"""


@dataclass(frozen=True)
class Tour:
    """A walk along the page in the folder ``folder``, whose file ``place`` names the folder of the next command.

    ``quick`` leaves out the slow blocks; with ``write`` outputs are not compared with those of the page.
    """

    folder: Path
    quick: bool = False
    write: bool = False

    def walked(self, page: str) -> str:
        """Return ``page`` with the outputs of its commands.

        Raises `UserError` if a command fails, or if its output differs from the page in what matters.
        """
        (self.folder / "place").write_text(str(self.folder), encoding="utf-8")
        return BLOCK.sub(self._block, page)

    def _block(self, block: re.Match[str]) -> str:
        kind, slow, text = block.groups()
        if slow and self.quick:
            return block[0]
        if kind == "console":
            return f"```console{slow or ''}\n{STEP.sub(self._step, text)}```"
        name, code = text.split("\n", 1)
        here = (self.folder / "place").read_text(encoding="utf-8").strip()
        Path(here, name.removeprefix("# ")).write_text(code, encoding="utf-8")
        return block[0]

    def _step(self, step: re.Match[str]) -> str:
        began, title = time.monotonic(), f"$ {step[1].splitlines()[0]}"
        try:
            shown = shortened(self._printed(step[1]), self.folder)
            print(f"{time.monotonic() - began:6.1f} s  {title}", flush=True)
            if (difference := differing(step[2].splitlines(), shown)) and not self.write:
                raise UserError(difference)
        except UserError as error:
            raise UserError(f"{PAGE}: `{title}` {error}") from None
        return "".join(f"{line}\n" for line in (f"$ {step[1].strip()}", *shown))

    def _printed(self, command: str) -> str:
        """Return what ``command`` prints; `UserError` with its last lines if it does not end with 0."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        script = ["bash", "-c", SCRIPT.format(command)]
        done = subprocess.run(script, env=environment(self.folder), check=False, **streams)
        printed = done.stdout.decode(errors="replace")
        if done.returncode:
            last = " ".join(" ".join(printed.splitlines()[-8:]).split())[-400:]
            raise UserError(f"ended with {done.returncode}: {last}")
        return printed


def main() -> None:
    """Walk along the page, and compare the outputs, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the commands that take seconds")
    parser.add_argument("--write", action="store_true", help="write the outputs into the page instead of comparing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tour-", ignore_cleanup_errors=True) as folder:
        page = Tour(Path(folder).resolve(), options.quick, options.write).walked(PAGE.read_text(encoding="utf-8"))
    if options.write:
        PAGE.write_text(page, encoding="utf-8")


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
        "TOUR_PLACE": str(folder / "place"),
    }


def shortened(printed: str, folder: Path) -> list[str]:
    """Return the lines of ``printed`` that the page shows; ``folder`` is written as `HOME`."""
    states = [line.split("\r")[-1].rstrip() for line in printed.replace(str(folder), HOME).split("\n")]
    lines = [line.expandtabs(4) for line in states if not LEFT_OUT.match(line)]
    if len(lines) <= LONGEST:
        return lines
    return [*lines[:END], f"[{len(lines) - 2 * END} lines left out]", *lines[-END:]]


def differing(shown: list[str], printed: list[str]) -> str:
    """Return what ``printed`` has less and more than ``shown``, in words; "" if nothing that matters differs."""
    before, now = words(shown), words(printed)
    parts = {"no longer prints": before - now, "now prints": now - before}
    return "; ".join(f"{what}: {' '.join(found.elements())[:200]}" for what, found in parts.items() if found)


def words(lines: list[str]) -> Counter[str]:
    """Return how often each word is in ``lines``, without numbers, hashes and times."""
    found = (word.strip("[](){},.:;'\"") for line in lines for word in line.split())
    return Counter(word for word in found if re.search("[A-Za-z0-9]", word) and not CHANGING.fullmatch(word))


if __name__ == "__main__":
    exit_cleanly(main)
