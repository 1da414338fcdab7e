"""Show that an edit left the arithmetic of training alone: python -m checks.same_training [REVISION].

Trains the chosen recipe for six steps at full width on a part of the bundled sample, once with the code of REVISION
(HEAD without one) and once with that of the working tree. Only if every byte of weights and curves agrees,
`dvc commit --force train` may accept the committed network for the edited code (CONTRIBUTING.md).
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from safetensors import safe_open

from src.core.errors import UserError, exit_cleanly
from src.data.cifar10 import FILES, RECORD_BYTES
from src.data.fetch import SAMPLE, unpack

RECORDS = 220  # of each batch file: 990 training images, three batches of 300
PHASES = "[{size: 24, epochs: 1}, {size: 32, epochs: 1}]"


def main() -> None:
    """Print that both are the same, or end with 1 and the names of what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="?", default="HEAD")
    revision = parser.parse_args().revision
    with tempfile.TemporaryDirectory() as scratch:
        data, before, after = (Path(scratch) / name for name in ("data", "before", "after"))
        _few_records(data)
        _checkout(revision, before)
        _copy_working_tree(after)
        _take_recipe(before, after)
        results = [_train(tree, data) for tree in (before, after)]
    if different := sorted(name for name in results[0] | results[1] if results[0].get(name) != results[1].get(name)):
        raise UserError(f"training differs between {revision} and the working tree in: {', '.join(different)}")
    print(f"training is the same in {revision} and in the working tree: {len(results[0])} tensors and curves agree")


def _few_records(folder: Path) -> None:
    """Write the first records of each batch file of the bundled sample to ``folder``."""
    unpack(SAMPLE, folder)
    for name in FILES:
        path = folder / name
        path.write_bytes(path.read_bytes()[: RECORDS * RECORD_BYTES])


def _checkout(revision: str, folder: Path) -> None:
    done = subprocess.run(["git", "archive", revision], capture_output=True, check=False)
    if done.returncode:
        raise UserError(f"{revision}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def _copy_working_tree(folder: Path) -> None:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0")):
        if Path(name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name)


def _take_recipe(before: Path, after: Path) -> None:
    """Give the tree ``before`` the section ``train`` of params.yaml of ``after``, so that both follow one recipe."""
    from ruamel.yaml import YAML

    yaml = YAML()
    params = yaml.load((before / "params.yaml").read_text())
    params["train"] = yaml.load((after / "params.yaml").read_text())["train"]
    with (before / "params.yaml").open("w") as file:
        yaml.dump(params, file)


def _train(tree: Path, data: Path) -> dict[str, bytes]:
    """Train in ``tree`` on the batch files in ``data``; return every tensor and every curve as bytes, by name."""
    from dvc.utils.hydra import apply_overrides
    from ruamel.yaml import YAML

    recipe = YAML().load((tree / "params.yaml").read_text())["train"]["recipe"]
    apply_overrides(tree / "params.yaml", [f"download.source={data}", f"train.recipes.{recipe}.phases={PHASES}"])
    for stage in ("download", "split", "train"):
        command = [sys.executable, "-m", f"stages.{stage}"]
        done = subprocess.run(command, cwd=tree, env=os.environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{stage} failed in {tree.name}: {done.stderr.strip()[-500:]}")
    (network,) = (tree / "models").rglob("vgg16.safetensors")
    with safe_open(network, framework="numpy") as file:
        tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
    curves = tree / "plots/training/plots/metrics"
    return tensors | {str(path.relative_to(curves)): path.read_bytes() for path in curves.rglob("*.tsv")}


if __name__ == "__main__":
    exit_cleanly(main)
