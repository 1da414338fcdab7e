"""Accept the committed results for code that computes the same as before: make accept.

For each stage whose code differs from what dvc.lock records, the files that run are compared with those of the commit
that has the recorded code, without comments and docstrings. Where all agree, dvc.lock gets the hashes of the new code,
and DVC does not run the stage again. Data and outputs need not be here. The other stages keep their lines in dvc.lock;
the command names the definitions that differ, and ends with 1.

Where the code of the stage train differs, its arithmetic may still be the same. So the old and the new code train the
chosen recipe on 603 images of the bundled sample, each with its own params.yaml. This takes some minutes. If all bytes
of weights and curves agree, train is accepted as well. With --old or --new, which change params.yaml as `dvc exp run
-S` does, train's params may differ too: so a change in the form of params.yaml is bridged.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from dvc.dependency import Dependency
from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.utils.serialize import load_yaml
from safetensors import safe_open

from checks.code import code_changes, commit_with, files_at, files_here, reached
from checks.sample import cut
from scripts.check_tree import override
from scripts.revision import git
from src.core.errors import UserError, exit_cleanly, one_line
from src.data.fetch import SAMPLE

LOCK = "dvc.lock"
CODE = ("src/", "stages/")
TRAINS = ("src", "stages", "params.yaml", "dvc.yaml")  # what a training needs
RECORDS = 134  # of each batch file: 603 training images, two batches of 300
Overrides = tuple[list[str], list[str]]  # of the old and of the new params.yaml


def main() -> None:
    """Write the stages that compute the same to dvc.lock; name the others, and end with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("old", "new"):
        parser.add_argument(f"--{name}", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")
    given = parser.parse_args()
    try:
        accepted, reasons = accept((given.old, given.new))
    except DvcException as error:
        raise UserError(f"DVC: {one_line(error)}") from error
    print(f"accepted: {_listed(accepted) or 'nothing'}")
    if reasons:
        refused = dict.fromkeys(stage for stages in reasons.values() for stage in stages)
        lines = [f"{reason}: {_listed(stages)}" for reason, stages in reasons.items()]
        raise UserError("\n".join([f"would run again: {_listed(refused)}, because of", *lines]))


def _listed(stages: Iterable[str]) -> str:
    """Return the names of ``stages`` in one line; several instances of a foreach are counted."""
    groups = defaultdict(list)
    for stage in stages:
        groups[stage.split("@")[0]].append(stage)
    return ", ".join(names[0] if len(names) == 1 else f"{group} ({len(names)})" for group, names in groups.items())


def accept(overrides: Overrides) -> tuple[list[str], dict[str, list[str]]]:
    """Write the stages that compute the same to dvc.lock; return their names, and the others by reason."""
    accepted, reasons = [], defaultdict(list)
    with Repo() as repo, repo.lock:
        recorded = _recorded_code()
        for stage in repo.index.stages:
            old = recorded.get(stage.addressing)
            if not old or not any(dep.workspace_status() for dep in _code(stage)):
                continue
            objections = _objections(stage, old, overrides)
            for objection in objections:
                reasons[objection].append(stage.addressing)
            if not objections:
                accepted.append(stage)
        if accepted:
            accepted[0].dvcfile.dump_stages(accepted, update_pipeline=False)
        for stage in accepted:
            if not stage.changed():  # all its files are here: DVC's run cache may know them by the new code as well
                repo.stage_cache.save(stage)
    return [stage.addressing for stage in accepted], reasons


def _recorded_code() -> dict[str, dict[str, str]]:
    """Return for each stage in dvc.lock the MD5s of its code deps, by path."""
    stages = load_yaml(LOCK).get("stages", {}) if Path(LOCK).exists() else {}
    return {
        name: {dep["path"]: dep["md5"] for dep in stage.get("deps", []) if dep["path"].startswith(CODE)}
        for name, stage in stages.items()
    }


def _code(stage: Stage) -> list[Dependency]:
    return [dep for dep in stage.deps if dep.def_path.startswith(CODE)]


def _objections(stage: Stage, recorded: Mapping[str, str], overrides: Overrides) -> list[str]:
    """Return why ``stage`` must run again; none if it need not, and then it has the new hashes, in memory only.

    ``recorded``: the MD5s of its code in dvc.lock.
    """
    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    own_params = stage.addressing == "train" and any(overrides)
    for dep in [*_code(stage), *(params if own_params else [])]:
        dep.save()
    if unknown := {str(item) for item in (*stage.deps, *stage.outs) if not item.hash_info}:
        return [f"{path} (not in {LOCK})" for path in sorted(unknown)]
    if stage.changed(allow_missing=True, upstream=stage.repo.index.stages):
        return ["changes outside the code, which `dvc status` names"]
    if not (commit := commit_with(recorded, LOCK)):
        return [f"recorded code that no commit has (commit {LOCK} and the code after a run)"]
    differing = _differences(commit, list(recorded), [dep.def_path for dep in _code(stage)])
    if not differing or stage.addressing != "train":
        return differing
    unequal = _unequal_bytes(commit, overrides)
    return [*differing, f"other bytes after a short training ({unequal[0]})"] if unequal else []


def _differences(commit: str, before: list[str], now: list[str]) -> list[str]:
    """Return where the code that runs of the deps ``before``, at ``commit``, is not that of the deps ``now``."""
    old = {name: content for path in before for name, content in files_at(commit, path).items()}
    new = {name: content for path in now for name, content in files_here(path).items()}
    return code_changes(reached(old, before), reached(new, now))


def _unequal_bytes(commit: str, overrides: Overrides) -> list[str]:
    """Train with the code of ``commit`` and of the working tree; return the names of tensors and curves that differ."""
    print(f"train: its code differs from {commit[:7]}; both train now, which takes some minutes", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        data, before, now = (Path(scratch) / name for name in ("data", "old", "new"))
        cut(SAMPLE, data, train=RECORDS, test=RECORDS)
        with tarfile.open(fileobj=io.BytesIO(git("archive", commit, *TRAINS))) as archive:
            archive.extractall(before, filter="data")
        for path in map(Path, TRAINS):
            shutil.copytree(path, now / path) if path.is_dir() else shutil.copy(path, now)
        old, new = (_train(tree, data, changes) for tree, changes in zip((before, now), overrides, strict=True))
    names = sorted(old.keys() | new.keys())
    unequal = [name for name in names if old.get(name) != new.get(name)]
    print(f"train: {len(unequal)} of {len(names)} tensors and curves differ")
    return unequal


def _train(tree: Path, data: Path, overrides: list[str]) -> dict[str, bytes]:
    """Train in ``tree`` on the batch files in ``data``; return every tensor and every curve as bytes, by name.

    Raises `UserError` if one of the ``overrides`` cannot be applied, or if a stage fails.
    """
    override(tree / "params.yaml", ["download.source=path", f"download.path={data}", *overrides], f"--{tree.name}")
    for stage in ("download", "split", "train"):
        command = [sys.executable, "-m", f"stages.{stage}"]
        done = subprocess.run(command, cwd=tree, capture_output=True, encoding="utf-8", check=False)
        if done.returncode:
            raise UserError(f"{stage} failed with the {tree.name} code: {done.stderr.strip()[-500:]}")
    (network,) = (tree / "models/networks").glob("*.safetensors")
    with safe_open(network, framework="numpy") as file:
        tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
    curves = tree / "plots/training/plots/metrics"
    return tensors | {str(path.relative_to(curves)): path.read_bytes() for path in curves.rglob("*.tsv")}


if __name__ == "__main__":
    exit_cleanly(main)
