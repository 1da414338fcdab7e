"""README.md shows the committed results, and the pipeline as it is."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_graph_is_the_one_that_dvc_draws():
    command = [sys.executable, "-m", "dvc", "dag", "--collapse-foreach-matrix", "--md"]
    drawn = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout
    assert drawn.strip() in (ROOT / "README.md").read_text()


def test_results_are_not_stale():
    command = [sys.executable, "-m", "checks.readme", "--check"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
