"""README.md shows the committed results, and the pipeline as it is."""

import re
import sys
from itertools import pairwise, product

import networkx as nx
from commands import ROOT, run


def test_the_graph_is_that_of_dvc_without_arrows_that_follow_from_others():
    edges = re.findall(r'"(\w+)" -> "(\w+)"', run(ROOT, "dvc", "dag", "--collapse-foreach-matrix", "--dot"))
    graph = nx.DiGraph((first, second) for first, second in edges if first != second)
    block = (ROOT / "README.md").read_text().partition("```mermaid\nflowchart TD\n")[2].partition("```")[0]
    chains = [line.strip().split(" --> ") for line in re.sub(r"\[.*?\]", "", block).splitlines()]
    drawn = [
        edge for chain in chains for ends in pairwise(chain) for edge in product(*(end.split(" & ") for end in ends))
    ]
    assert sorted(drawn) == sorted(nx.transitive_reduction(graph).edges)


def test_results_are_not_stale():
    run(ROOT, sys.executable, "-m", "checks.readme", "--check")
