"""Print what `make repro` would run in this working tree, and how many minutes that took last time.

python -m scripts.plan: a line for each stage whose code, settings or input differ from dvc.lock, or whose results are
neither here nor in the cache of DVC. "only if" stands beside the stages below them, which DVC skips if the files that
they read come out with the same bytes as last time. The minutes are those of docs/minutes.csv. Then come the longest
chain of stages that surely run and wait for each other, and what the training of all recipes costs. Nothing runs.
"""

import argparse
from collections.abc import Container, Iterable, Mapping
from typing import Any

import networkx as nx
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import Stage

from checks.minutes import known, summed
from scripts.jobs import pipeline
from scripts.pull import pulled
from src.compression.tree import Recipe, budget_of, read_tree
from src.core.errors import exit_cleanly
from src.core.params import PARAMS, read_yaml, validate
from src.data.cifar import CLASSES
from src.data.prepared import INFO, PREPARED, load_info
from src.network.vgg import VGG, ModelSettings, vgg_plan
from src.training.budget import StepCost
from src.training.recipe import Training

OFFICIAL_IMAGES = 50_000  # of CIFAR-10, for training and validation
ONLY_IF = "only if its input changes"


def main() -> None:
    """Print a line for each stage, and the sums."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    recipes, needed = read_tree(), pipeline()
    stages, rows = to_run(), known()
    print(plan(stages, rows))
    sure = [name for name, runs in stages.items() if runs]
    if rows.keys() & sure:
        print(longest(sure, rows, needed))
    print(cost(recipes))


def to_run() -> dict[str, bool]:
    """Return the stages that `make repro` runs in this folder, in order; with False: only if their input changes."""
    found: dict[str, bool] = {}
    with Repo() as repo:
        graph = repo.index.graph  # from a stage to those that it needs
        made: list[Output] = []  # what is made again, or comes back from the cache, before the next stage is looked at
        for stage in nx.dfs_postorder_nodes(graph):
            changed = [out for out in stage.outs if out.status()]
            lost = not stage.outs_cached() and not all(map(pulled, changed))
            if stage.changed_stage() or lost or _reads_a_change(stage, made):
                found[stage.addressing] = True
                made += stage.outs
            else:
                if any(needed.addressing in found for needed in graph.successors(stage)):
                    found[stage.addressing] = False
                made += changed
    return found


def _reads_a_change(stage: Stage, made: list[Output]) -> bool:
    """Return whether ``stage`` depends on something that differs from dvc.lock, and that none of ``made`` replaces."""
    changed = [dep for dep in stage.deps if dep.status()]
    return not all(any(dep.fs.overlaps(dep.fs_path, out.fs_path) for out in made) for dep in changed)


def plan(stages: Mapping[str, bool], rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a line for each of ``stages`` (see `to_run`) with its minutes from ``rows``, and lines with their sums."""
    if not stages:
        return "Nothing would run: the results are those of the code, the data and params.yaml."
    lines = []
    for stage, runs in stages.items():
        spent = f"{rows[stage]['minutes']:.1f}" if stage in rows else "?"
        lines.append(f"{stage:<32}{spent:>8}{'' if runs else '  ' + ONLY_IF}")
    sure, perhaps = ([name for name in stages if stages[name] is runs] for runs in (True, False))
    lines.append(summed(sure, rows))
    if perhaps:
        lines.append(f"{ONLY_IF}: {summed(perhaps, rows)}")
    return "\n".join(lines)


def longest(stages: Container[str], rows: Mapping[str, Mapping[str, Any]], needed: Mapping[str, Iterable[str]]) -> str:
    """Return a line with the chain of ``stages`` that takes longest by ``rows``: with many machines it takes as long.

    ``needed``: those that each stage of the pipeline needs.
    """
    minutes = {stage: rows[stage]["minutes"] if stage in stages and stage in rows else 0.0 for stage in needed}
    graph = nx.DiGraph()
    for stage, before in needed.items():
        graph.add_weighted_edges_from((name, stage, minutes[stage]) for name in ("", *before))
    chain = [stage for stage in nx.dag_longest_path(graph) if stage in stages]
    return f"At least {sum(map(minutes.get, chain)):.0f} minutes with JOBS or many machines: {', '.join(chain)}"


def cost(recipes: Mapping[str, Recipe]) -> str:
    """Return a line with what the training of all ``recipes`` costs, by their budgets."""
    epochs = sum(budget_of(recipe, recipes) for recipe in recipes.values())
    return (
        f"All recipes together train for {epochs:g} epochs of the trained network, {epochs * epoch_pflop():.2f} PFLOP"
    )


def epoch_pflop() -> float:
    """Return what an epoch of the whole network costs, in PFLOP, by params.yaml (CIFAR-10, if no images are here)."""
    params = read_yaml(PARAMS)
    fraction = params["split"]["validation_fraction"]
    images, classes, side = round(OFFICIAL_IMAGES * (1 - fraction)), len(CLASSES), params["download"]["side"]
    if (PREPARED / INFO).exists():
        info = load_info()
        images, classes, side = info.images["train"], len(info.classes), info.side
    training = Training(**params["train"]["defaults"] | params["compress"]["train"]["refine"])
    network = VGG(vgg_plan(validate(ModelSettings, params["model"], "model"), classes, side))
    return StepCost(network, training, images).full_epoch / 1e15


if __name__ == "__main__":
    exit_cleanly(main)
