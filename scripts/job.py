"""Run one stage for `scripts.jobs`: python -m scripts.job STAGE.

That is `dvc repro --single-item STAGE`, interrupted as by Ctrl-C when standard input ends: whoever started this command
holds the other end, so the stage does not outlive it, however it dies. What is printed goes to logs/jobs/STAGE.running,
which is renamed to STAGE.log when nothing of the stage runs any more.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

LOGS = Path("logs/jobs")
GRACE = 60  # seconds to write a checkpoint
DVC = (sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item")


def main(stage: str) -> int:
    """Return the exit code of DVC for ``stage``."""
    if child := os.fork():  # Ray kills what its workers started when they end, but not what that started
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # Ray blocks Ctrl-C
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # in the background of a shell script it is ignored
    log = LOGS / f"{stage}.running"
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen([*DVC, stage], stdin=subprocess.DEVNULL, stdout=out, stderr=out, process_group=0)
    while process.poll() is None and not select.select([sys.stdin], [], [], 0.1)[0]:
        pass
    with contextlib.suppress(ProcessLookupError):  # nothing runs any more
        os.killpg(process.pid, signal.SIGINT)
        for _ in range(10 * GRACE):
            process.poll()  # so that it counts as ended
            os.killpg(process.pid, 0)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    log.replace(log.with_suffix(".log"))
    return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
