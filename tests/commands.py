"""Commands run as a user runs them, in folders that a test makes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "tester",
    "GIT_AUTHOR_EMAIL": "tester@example.org",
    "GIT_COMMITTER_NAME": "tester",
    "GIT_COMMITTER_EMAIL": "tester@example.org",
    "DVC_NO_ANALYTICS": "1",
}


def run(folder, *command, code=0, whole=False, **environment):
    """What ``command`` prints in ``folder``; for a failure the line on standard error; if ``whole``, both streams.

    A module of this project, as scripts.table, runs with its code, wherever ``folder`` is.
    """
    if command[0].startswith("scripts."):
        command, environment = [sys.executable, "-m", *command], {"PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == code, f"{command} gave {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
    if whole:
        return done.stdout + done.stderr
    if not code:
        return done.stdout
    (line,) = done.stderr.splitlines()
    return line


def commit(folder, message):
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", message)
