"""A fault inside a process: Python imports a copy of this file as ``sitecustomize`` when it starts.

The environment variable FAULT holds ``ACTION|EVENT|PROCESS``. PROCESS is what follows ``python -m``, for example
``stages.export flagship``; it may end in ``*``. EVENT is ``open PATH``, ``rename PATH`` or ``mkdir PATH``, where PATH
lies in the working folder and each number in it is ``#``, or ``step N``, the step N of a training in this process.
ACTION happens at the first such event:

- kill: SIGKILL to all processes of the group, as if the power failed; kill-stage: to this process alone
- interrupt: SIGINT to the group, as Ctrl-C does; terminate: SIGTERM to this process
- full: the disk of the file in FAULT_FILE becomes full; hold: wait until there is no file FAULT_FILE
- note: at each event, a line in FAULT_FILE
- clock: at no event; ``time.time`` goes backwards from the start, one minute at each call
"""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR
HELD_SECONDS = 300
Act = Callable[[str], None]


def written(event: str, arguments: tuple[Any, ...]) -> str | None:
    """Return the path that an audit event of Python is about to make or change; None if it is not about that."""
    if event == "open" and isinstance(arguments[0], str | os.PathLike) and arguments[2] & WRITING:
        return os.fspath(arguments[0])
    if event == "os.mkdir":
        return os.fspath(arguments[0])
    return os.fspath(arguments[1]) if event == "os.rename" else None


def name(event: str, path: str, folder: str) -> str | None:
    """Return the name of an event in ``folder``; None outside, and for the code that Python compiles."""
    path = os.path.abspath(path)  # noqa: PTH100
    if not path.startswith(f"{folder}/") or "__pycache__" in path:
        return None
    path = re.sub(r"/tmp[^/]*", "/tmp#", path.removeprefix(folder))
    return f"{event.removeprefix('os.')} {re.sub('[0-9]+', '#', path[1:])}"


def on_writes(act: Act) -> None:
    """Call ``act`` with the name of each event that writes in the working folder."""
    folder, acting = os.getcwd(), []  # noqa: PTH109

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if acting or event not in ("open", "os.mkdir", "os.rename"):
            return
        path = written(event, arguments)
        found = name(event, path, folder) if isinstance(path, str) else None
        if found:
            acting.append(True)
            act(found)
            acting.clear()

    sys.addaudithook(hook)


def on_steps(act: Act) -> None:
    """Call ``act`` with ``step N`` after each step of a training, which looks at the clock then."""
    clock, steps = time.monotonic, [0]

    def monotonic() -> float:
        caller = sys._getframe(1)
        if caller.f_globals.get("__name__") == "src.training.loop" and caller.f_code.co_name == "save_if_due":
            steps[0] += 1
            act(f"step {steps[0]}")
        return clock()

    time.monotonic = monotonic


def backwards() -> None:
    """Let ``time.time`` and ``time.time_ns`` go backwards."""
    now = [time.time()]

    def earlier() -> float:
        now[0] -= 60
        return now[0]

    time.time, time.time_ns = earlier, lambda: int(earlier() * 1e9)


def fill(path: str) -> None:
    """Fill the disk of the file ``path`` to the last byte."""
    with open(path, "ab", buffering=0) as ballast:  # noqa: PTH123
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    ballast.write(bytes(size))
            except OSError:
                pass


def hold(path: str) -> None:
    """Wait until there is no file ``path``; at most `HELD_SECONDS`."""
    with open(f"{path}.reached", "w"):  # noqa: PTH123
        pass
    for _ in range(20 * HELD_SECONDS):
        if not os.path.exists(path):  # noqa: PTH110
            return
        time.sleep(0.05)


def do(action: str, event: str) -> None:
    """Let the fault ``action`` happen now, at ``event``."""
    file = os.environ.get("FAULT_FILE", "")
    if action == "kill":
        os.killpg(0, signal.SIGKILL)
    elif action == "interrupt":
        os.killpg(0, signal.SIGINT)
    elif action in ("kill-stage", "terminate"):
        os.kill(os.getpid(), signal.SIGKILL if action == "kill-stage" else signal.SIGTERM)
    elif action == "note":
        with open(file, "a") as notes:  # noqa: PTH123
            notes.write(f"{' '.join(sys.orig_argv[2:])}\t{event}\n")
    else:
        {"full": fill, "hold": hold}[action](file)


def prepare(spec: str) -> None:
    """Prepare the fault ``spec``, the value of FAULT, if it concerns this process."""
    action, wanted, process = spec.split("|")
    if action == "clock":
        backwards()
        return
    own = " ".join(sys.orig_argv[2:])
    if own != process and not (process.endswith("*") and own.startswith(process[:-1])):
        return
    done: list[bool] = []

    def act(event: str) -> None:
        if action == "note" or (event == wanted and not done):
            done.append(True)
            do(action, event)

    (on_steps if wanted.startswith("step") else on_writes)(act)


if os.environ.get("FAULT"):
    prepare(os.environ["FAULT"])
