"""README.md shows the committed results, and the pipeline as it is."""

import sys

from commands import ROOT, run


def test_the_graph_is_the_one_that_dvc_draws():
    drawn = run(ROOT, "dvc", "dag", "--collapse-foreach-matrix", "--md")
    assert drawn.strip() in (ROOT / "README.md").read_text()


def test_results_are_not_stale():
    run(ROOT, sys.executable, "-m", "checks.readme", "--check")
