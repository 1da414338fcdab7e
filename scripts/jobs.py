"""Run the pipeline with several stages at once: python -m scripts.jobs JOBS (`make repro JOBS=2`).

Ray starts a stage when those that it needs are done. Each is `dvc repro --single-item STAGE`: DVC decides whether it
must run, and writes dvc.lock. The stages of the recipes run side by side, JOBS at a time; any other has its machine
alone. With RAY_ADDRESS Ray uses the machines of that cluster. The first failure, Ctrl-C, and the death of a worker or
of this command end all that runs: trainings write a checkpoint, and the next run resumes.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
from dvc.exceptions import DvcException
from dvc.repo import Repo
from rich.live import Live
from rich.text import Text

from scripts.job import GRACE, LOGS
from src.core.errors import ParamsError, UserError, exit_cleanly, one_line
from src.core.params import PARAMS, read_yaml
from src.core.signals import interruption

INSTALL = ".venv/bin/python -m pip install -r requirements-parallel.txt"
OBJECTS = 80 * 2**20  # bytes, the least that Ray takes for the values of tasks


def main() -> None:
    """Run all stages, and say how many had to run; `UserError` names the one that failed and its log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", help="how many stages run at once")
    jobs = checked(parser.parse_args().jobs, read_yaml(PARAMS).get("threads"), os.cpu_count() or 1)
    needed = pipeline()
    ray = connected(jobs)
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    try:
        with interruption() as interrupted:
            follow(ray, submitted(ray, needed), interrupted)
    finally:
        ray.shutdown()
        for _ in range(20 * GRACE):  # a stage outlives its worker until it has written a checkpoint
            if any(LOGS.glob("*.running")):
                time.sleep(0.1)
    ran = sum("Running stage" in log.read_text(encoding="utf-8", errors="replace") for log in LOGS.iterdir())
    print(f"{ran} of {len(needed)} stages had to run")


def checked(jobs: str, threads: Any, cores: int) -> int:
    """Return ``jobs`` as a number; `UserError` if it is none, or if so many stages have too many ``threads``."""
    if not jobs.isdecimal() or not 1 <= int(jobs) <= cores:
        raise UserError(f"JOBS: must be a whole number from 1 to {cores}, the cores of this machine (found {jobs!r})")
    most = cores // int(jobs)
    if int(jobs) > 1 and not (isinstance(threads, int) and 1 <= threads <= most):
        found = "null, all cores" if threads is None else repr(threads)
        raise ParamsError(
            f"{PARAMS}: threads: must be from 1 to {most} for JOBS={jobs} on {cores} cores (found {found})"
        )
    return int(jobs)


def pipeline() -> dict[str, list[str]]:
    """Return for each stage those that it needs, in an order in which they can run."""
    try:
        with Repo() as repo:
            graph = nx.relabel_nodes(repo.index.graph, lambda stage: stage.addressing)
    except DvcException as error:
        raise UserError(f"DVC cannot read the pipeline: {one_line(error)}") from None
    return {stage: list(graph.successors(stage)) for stage in nx.dfs_postorder_nodes(graph)}


def connected(jobs: int) -> Any:
    """Return Ray, connected to RAY_ADDRESS, or started here with ``jobs`` CPUs, the places for stages.

    Raises `UserError` if Ray is not installed, cannot start, or does not answer at that address.
    """
    try:
        import ray
    except ImportError:
        raise UserError(f"JOBS needs Ray, which is not installed: {INSTALL}") from None
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")  # no report; stages as fast as without Ray
    here = {"address": "local", "num_cpus": jobs, "include_dashboard": False, "object_store_memory": OBJECTS}
    address = os.environ.get("RAY_ADDRESS")
    try:
        ray.init(**{} if address else here, logging_level="ERROR", log_to_driver=False)
    except Exception as error:  # Ray raises many types, and documents few
        raise UserError(f"{f'RAY_ADDRESS={address}' if address else 'Ray'}: {one_line(error)}") from None
    return ray


def submitted(ray: Any, needed: Mapping[str, Sequence[str]]) -> dict[Any, str]:
    """Hand all stages to Ray; return the name of each by its task, in order."""
    cpus, gpus = (max(node["Resources"].get(kind, 0.0) for node in ray.nodes()) for kind in ("CPU", "GPU"))
    alone, shared = {"num_cpus": cpus, "num_gpus": gpus}, {"num_cpus": 1, "num_gpus": min(1.0, gpus / cpus)}
    remote, tasks = ray.remote(max_retries=0)(perform), dict[str, Any]()
    for stage, before in needed.items():
        task = remote.options(**(shared if "@" in stage else alone))
        tasks[stage] = task.remote(stage, Path.cwd(), dict(os.environ), *[tasks[name] for name in before])
    return {task: stage for stage, task in tasks.items()}


def perform(stage: str, folder: Path, variables: dict[str, str], *_: None) -> None:
    """Run ``stage`` in ``folder``, in a worker of Ray; RuntimeError if it fails, and Ray skips what needs it."""
    gpus = {name: value for name, value in os.environ.items() if name == "CUDA_VISIBLE_DEVICES"}  # as Ray chose them
    command = [sys.executable, "-m", "scripts.job", stage]
    with subprocess.Popen(
        command, cwd=folder, env=variables | gpus, stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        if process.wait():
            raise RuntimeError(f"{stage} failed")


def follow(ray: Any, tasks: Mapping[Any, str], interrupted: Callable[[], bool]) -> None:
    """Show what runs until all ``tasks`` are done; `UserError` at the first that fails, KeyboardInterrupt."""
    pending = list(tasks)
    with Live(auto_refresh=False, transient=True) as live:
        while pending:
            if interrupted():
                raise KeyboardInterrupt
            done, pending = ray.wait(pending, timeout=0.5)
            for task in done:
                try:
                    ray.get(task)
                except ray.exceptions.RayError:
                    # The stage or its worker; if all of Ray died, perhaps one that has not begun
                    logs = [*LOGS.glob(f"{tasks[task]}.*"), *LOGS.glob("*.running")]
                    failed = logs[0].stem if logs else tasks[task]
                    raise UserError(f"{failed} failed; its log is {LOGS / failed}.log") from None
                live.console.print(f"{tasks[task]} is done")
            live.update(Text("\n".join(running()), no_wrap=True, overflow="ellipsis"), refresh=True)


def running() -> Iterator[str]:
    """Yield a line for each stage that runs: its name, the share of its epochs that are done, the end of its log."""
    for path in sorted(LOGS.glob("*.running")):
        try:
            log, share = path.read_text(encoding="utf-8", errors="replace"), ""
        except FileNotFoundError:  # the stage has just ended
            continue
        if announced := re.search(r"^(\d+) epochs to train", log, re.MULTILINE):
            done, before = (len(re.findall(r"^epoch +\d", text, re.M)) for text in (log, log[: announced.start()]))
            share = f"{done / (before + int(announced[1])):.0%}"
        yield f"{path.stem:<28}{share:>5}  {(log.splitlines() or [''])[-1]}"


if __name__ == "__main__":
    exit_cleanly(main)
