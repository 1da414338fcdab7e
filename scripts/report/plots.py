"""The plots of a revision, as DVC makes them."""

import json
import subprocess
import sys
import tempfile
from typing import Any

from scripts.revision import Revision, missing
from src.core.errors import UserError


def plots_of(revision: Revision) -> dict[str, dict[str, Any]]:
    """Return the Vega specifications of the plots that dvc.yaml names, by name; `UserError` if DVC fails.

    DVC also lists each of DVCLive's files as a plot, under the path of the file. They are parts of the named plots.
    """
    if revision.commit and missing(f"{revision.commit}:./"):  # DVC would wait for ever
        reason = "this clone lacks files of it (git clone --filter), and DVC does not fetch them"
        raise UserError(f"{revision.label}: {reason}; first run `git archive {revision.commit[:10]} > /dev/null`")
    which = ["diff", revision.label, revision.label] if revision.commit else ["show"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dvc", "plots", *which, "--json", "--out", folder]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{revision.label}: `dvc plots` failed: {reason}")
    found = json.loads(done.stdout)["data"]
    drawn = {name: plot for name, plots in found.items() for plot in plots if plot["type"] == "vega"}
    return {name: plot["content"] for name, plot in drawn.items() if "/" not in name}
