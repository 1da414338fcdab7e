"""Try what can go wrong around the pipeline: python -m checks.faults [--only NAME] [--short].

A tiny project, a copy of the working tree on 400 images of the bundled sample, is made in a temporary folder, and
`dvc repro` runs in it without disturbance. Then each fault is tried on copies of it, and each try is judged by what it
prints and by the bytes of all outputs. The table goes to docs/machines.md; with --only the other rows stay, and with
--short (downloading and splitting alone) nothing is written. Ends with 1 if a promise was not held.
"""

import argparse
import tempfile
import time
from pathlib import Path

from checks.faults import disks, inputs, processes, surroundings
from checks.faults.bench import undisturbed
from checks.faults.judge import Bench, Case, Skipped
from checks.faults.page import PAGE, Fault, row, written
from src.core.errors import UserError, exit_cleanly
from src.core.files import atomic

FAULTS: dict[str, Fault] = {
    "kill -9": processes.kill,
    "SIGTERM": processes.terminate,
    "Ctrl-C": processes.interrupt,
    "two at once": processes.two_at_once,
    "full disk": disks.disk_full,
    "read-only": disks.read_only,
    "corrupt cache": disks.corrupt_cache,
    "no HOME": surroundings.no_home,
    "strange path": surroundings.strange_path,
    "clock backwards": surroundings.clock_backwards,
    "damaged files": inputs.damaged_files,
    "strange params": inputs.strange_params,
}


def main() -> None:
    """Try the faults, print what each one found, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=FAULTS, nargs="+", default=list(FAULTS), metavar="NAME")
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    rows, broken = {}, []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        bench = undisturbed(Path(folder), arguments.short)
        for name in arguments.only:
            start = time.monotonic()
            cases, reason = tried(FAULTS[name], bench)
            print(f"{name}: {report(cases, reason)} ({time.monotonic() - start:.0f} s)", flush=True)
            rows[name] = row(name, FAULTS[name], cases, reason)
            broken += [name] if any(case.mistakes for case in cases) else []
            if not arguments.short:
                with atomic(PAGE) as temporary:
                    temporary.write_text(written(PAGE.read_text(), rows, FAULTS))
    if broken:
        raise UserError(f"promises that were not held: {', '.join(broken)}; see above")


def tried(fault: Fault, bench: Bench) -> tuple[list[Case], str]:
    """Return the cases of ``fault``, and why it was not tried to its end (nothing if it was)."""
    cases: list[Case] = []
    try:
        cases.extend(fault(bench))
    except Skipped as reason:
        return cases, str(reason)
    return cases, ""


def report(cases: list[Case], reason: str) -> str:
    """Return how many of ``cases`` were held, and a line for each one that was not."""
    held = sum(not case.mistakes for case in cases)
    lines = [f"  {case.name}: {'; '.join(case.mistakes)}" for case in cases if case.mistakes]
    return "\n".join([f"held {held} of {len(cases)}{f'; skipped: {reason}' if reason else ''}", *lines])


if __name__ == "__main__":
    exit_cleanly(main)
