"""Try what can end `make repro JOBS=2`: python -m checks.jobs [--only FAULT ...]. It needs Ray.

A tiny project (checks/faults.py), run by `dvc repro`, is the reference; two jobs must give its networks, byte by byte.
Then each fault of `FAULTS` strikes while two recipes train, and is held if

- the command ends with one line of error, which names a stage that ran and its log, or says that it was interrupted;
- no stage runs then (after kill -9 of the command: half a minute later), and finished stages stay;
- the command, given again, resumes both trainings, and gives the bytes of the reference.

Ends with 1 if something was not held.
"""

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from checks import faults
from scripts.check_tree import override, without_comments
from scripts.job import LOGS
from src.core.errors import UserError, exit_cleanly
from src.network.record import network_path

TRAINED = ("long", "longer")
OVERRIDES = """
threads=1
compress.budget=20
~compress.recipes
+compress.recipes={dense:{from:trained,step:keep},long:{from:trained,step:fine_tune},longer:{from:trained,step:fine_tune,budget:25}}
~release
+release=[]
"""
DVC, JOBS = ("-m", "dvc"), ("-m", "scripts.jobs", "2")
SECONDS = 600
Strike = Callable[[psutil.Process], object]
FAILED = rf"error: compress@(long|longer) failed; its log is {LOGS}/compress@\1\.log"


def main() -> None:
    """Print what was held and what was not; `UserError` if something was not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FAULTS, nargs="+", default=list(FAULTS), metavar="FAULT")
    given, broken = parser.parse_args(), []
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / faults.STRANGE
        make(folder)
        reference = networks(folder)
        for name in ("nothing", *given.only):
            wrong = tried(folder, reference, *FAULTS.get(name, (None, "")))
            print(f"{name}: {'; '.join(wrong) or 'held'}", flush=True)
            broken += [name] if wrong else []
    if broken:
        raise UserError(f"not held: {', '.join(broken)}; see above")


def make(folder: Path) -> None:
    """Make the project in the new ``folder``, and run it, one stage after the other."""
    faults.make(folder)
    override(folder / "params.yaml", without_comments(OVERRIDES), "overrides")
    for name in ("scripts", "data/sample"):
        shutil.copytree(faults.ROOT / name, folder / name)
    shutil.copy(faults.ROOT / ".dvcignore", folder)
    for command in (("init", "-q", "--no-scm"), ("repro", "-q")):
        done = subprocess.run(
            [sys.executable, *DVC, *command], cwd=folder, env=variables(), capture_output=True, encoding="utf-8"
        )
        if done.returncode:
            raise UserError(f"dvc {command[0]}: fails without any fault: {done.stderr[-3000:]}")


def variables() -> dict[str, str]:
    """Return the variables of the environment in which the project runs."""
    return os.environ | faults.VARIABLES | {"DVC_NO_ANALYTICS": "1"}


def networks(folder: Path) -> dict[str, bytes]:
    """Return the networks of all recipes that there are."""
    return {path.stem: path.read_bytes() for path in (folder / network_path("dense")).parent.iterdir()}


def forget(folder: Path, reference: Mapping[str, bytes]) -> None:
    """Remove the networks of `TRAINED`, here and in the cache of DVC, and checkpoints."""
    for name in (".dvc/cache/runs", "scratch"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in TRAINED:
        md5 = hashlib.md5(reference[name]).hexdigest()
        for path in (folder / network_path(name), folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]):
            path.unlink(missing_ok=True)


def tried(folder: Path, reference: Mapping[str, bytes], strike: Strike | None, words: str) -> list[str]:
    """Return what is wrong after ``strike`` (None: no fault), whose line of error is ``words``."""
    forget(folder, reference)
    wrong = struck(folder, strike, words) if strike else []
    command = [sys.executable, *JOBS]
    again = subprocess.run(
        command, cwd=folder, env=variables(), capture_output=True, encoding="utf-8", timeout=SECONDS, check=False
    )
    wrong += (
        [f"then ends with {again.returncode}: {again.stdout[-500:]}{again.stderr[-500:]}"] if again.returncode else []
    )
    wrong += [f"then other bytes of {name}" for name in reference if networks(folder).get(name) != reference[name]]
    logs = [(folder / LOGS / f"compress@{name}.log").read_text(encoding="utf-8") for name in TRAINED]
    wrong += ["then trains from the start"] if strike and not all("resuming after step" in log for log in logs) else []
    return wrong


def struck(folder: Path, strike: Strike, words: str) -> list[str]:
    """Run the command, strike while both recipes train, and return what is wrong with how it ends."""
    command, printed = [sys.executable, *JOBS], (folder / "printed.txt").open("w+", encoding="utf-8")
    with subprocess.Popen(
        command, cwd=folder, env=variables(), stdout=printed, stderr=printed, start_new_session=True
    ) as driver:
        checkpoints = folder / "scratch/compress"
        if not within(SECONDS, lambda: len({path.parent for path in checkpoints.glob("*/*.pt")}) == len(TRAINED)):
            driver.kill()
            return ["was not struck"]
        strike(psutil.Process(driver.pid))
        driver.wait(SECONDS)
    wrong = []
    if not within(0 if words else 30, lambda: not stages(folder)):
        wrong.append(f"runs on: {stages(folder)}")
    printed.seek(0)
    lines = re.findall("^error: .*", text := printed.read(), re.MULTILINE)
    if "Traceback" in text or (words and not (len(lines) == 1 and re.fullmatch(words, lines[0]))):
        wrong.append(f"says {text[-500:]}")
    return wrong


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Return whether ``condition`` holds in the next ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def stages(folder: Path) -> list[str]:
    """Return the commands that work in ``folder`` as a stage, or for one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if process.cwd() == str(folder) and re.search("stages|dvc|scripts.job", command):
                found.append(command)
    return found


def kill(word: str) -> Strike:
    """Return a strike: kill -9 of one of the command's processes that has ``word`` in its own command."""

    def strike(driver: psutil.Process) -> None:
        next(child for child in driver.children(recursive=True) if word in " ".join(child.cmdline()[:3])).kill()

    return strike


INTERRUPTED = "error: interrupted"
FAULTS = {
    "Ctrl-C": (lambda driver: os.killpg(driver.pid, signal.SIGINT), INTERRUPTED),
    "SIGTERM": (psutil.Process.terminate, INTERRUPTED),
    "a stage dies": (kill("stages.compress"), FAILED),
    "a worker dies": (kill("ray::perform"), FAILED),
    "Ray dies": (kill("raylet"), FAILED),
    "kill -9 of the command": (psutil.Process.kill, ""),
}


if __name__ == "__main__":
    exit_cleanly(main)
