"""The pipeline as its users run it: real DVC commands in a throw-away repository, on a few hundred sample images."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from functools import partial

import commands
import onnx
import psutil
import pytest
import yaml
from commands import ROOT, commit
from dvc.utils.hydra import apply_overrides
from PIL import Image

from checks.sample import cut
from src.core.files import read_csv
from src.results.columns import COLUMNS

SAMPLE = ROOT / "data/sample/cifar-10-sample.tar.xz"
TRAIN_RECORDS, TEST_RECORDS = 60, 100  # of each train file, and of the test file
EPOCHS = 20  # long enough to be interrupted on a busy machine
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # the other core belongs to the other tests
    "CUDA_VISIBLE_DEVICES": "",
    "SHELL": "/bin/sh",  # runs the stages
    "PYTHONDONTWRITEBYTECODE": "",  # Python leaves __pycache__ beside the code, as it does at a user's
}
run = partial(commands.run, whole=True, **ENVIRONMENT)
TIMED = ("metrics/benchmark.json", "metrics/comparison.csv", "plots/pictures")
RECIPES = {
    "dense": {"from": "trained", "step": "keep"},
    "truncated": {"from": "trained", "step": "truncate"},
    "slim": {"from": "truncated", "step": "prune_channels", "ratio": 0.5},
    "tuned": {"from": "slim", "step": "train_on"},
    "flagship": {"from": "slim", "step": "quantize"},
}

pytestmark = pytest.mark.timeout(1800)  # the first test's time holds a whole run of the pipeline


def small_params(data):
    """The committed params with a narrow network, short training and few images."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {"source": "path", "path": str(data)}
    params["model"]["width"] = 0.125
    params["train"]["recipe"] = "demo"
    params["train"]["recipes"]["demo"] |= {"epochs": EPOCHS, "phases": [{"side": 0.5, "epochs": 0.1}]}
    params["train"]["recipes"]["demo"] |= {"batch_size": 30, "dropout": 0.1, "ema_decay": 0.5}
    params["csi"] |= {"in_sample_train": 100, "in_sample_test": 50, "neighbour_images": 100, "probe_images": 100}
    params["benchmark"] = {"blocks": 2, "calls": 3, "batch_calls": 1}
    params["compress"]["recipes"] = RECIPES
    params["coded"] = ["flagship"]
    params["compress"]["budget"] = 1
    for training in params["compress"]["train"].values():
        training["batch_size"] = 30
    params["compress"]["steps"]["prune_channels"] |= {"importance_images": 100}
    params["compress"]["steps"]["quantize"] |= {"calibration_images": 50}
    return params


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the working tree, committed, in which `dvc repro` has run."""
    base = tmp_path_factory.mktemp("pipeline")
    folder = base / "project"
    for name in run(
        ROOT, "git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"
    ).split("\0")[:-1]:
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith(("metrics/", "plots/", "released/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    cut(SAMPLE, base / "cifar", TRAIN_RECORDS, TEST_RECORDS)
    write_params(folder, small_params(base / "cifar"))
    run(folder, "git", "init", "-q", "-b", "main")
    commit(folder, "start")
    run(folder, "dvc", "repro")
    commit(folder, "results")
    return folder


@pytest.fixture
def restored(project):
    """For a test that changes the project: whatever its end, the next test finds it as committed."""
    yield
    run(project, "git", "checkout", "-q", ".")
    shutil.rmtree(project / "scratch", ignore_errors=True)
    run(project, "dvc", "checkout", "-q")


def write_params(folder, params):
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def outs(folder):
    """Hash of every out in dvc.lock and of every picture, those apart that hold timings."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text())["stages"].values()
    hashes = {out["path"]: out["md5"] for stage in stages for out in stage["outs"]}
    pictures = {path.name: path.read_bytes() for path in folder.glob("plots/pictures/*.png")} | {
        "pareto_latency.png": b""
    }
    return pictures | {path: md5 for path, md5 in hashes.items() if not path.startswith(TIMED)}


def would_run(folder):
    """Stages that `dvc repro` would run."""
    lines = run(folder, "dvc", "repro", "--dry", "--allow-missing", "--ignore-errors").splitlines()
    return {line.split("'")[1] for line in lines if line.startswith("Running stage")}


def test_repro_leaves_nothing_to_do_and_git_clean(project):
    assert "Data and pipelines are up to date" in run(project, "dvc", "status")
    assert "Data and pipelines are up to date" in run(project, "dvc", "repro")
    assert run(project, "git", "status", "--porcelain") == ""


def test_results_say_their_edition(project):
    edition = json.loads((project / "data/prepared/dataset_info.json").read_text())["edition"]
    assert re.fullmatch("[0-9a-f]{8}", edition)
    for name in ("train", "benchmark", "recipes", "predictions", "dataset"):
        assert json.loads((project / f"metrics/{name}.json").read_text())["edition"] == edition, name
    for name in ("metrics/comparison.csv", "plots/splits.csv"):
        assert {row["edition"] for row in read_csv(project / name)} == {edition}, name


def test_experiments_show_at_most_28_numbers_and_none_of_them_is_a_time(project):
    found = json.loads(run(project, "dvc", "metrics", "show", "--json"))[""]["data"]
    names = [f"{path}:{name}" for path, file in found.items() for name in leaves(file["data"])]
    assert len(names) <= 28, names
    assert not [name for name in names if "latency" in name or "_ms" in name]


def leaves(tree, path=""):
    """Names of the values in nested mappings."""
    if not isinstance(tree, dict):
        return [path]
    return [leaf for name, branch in tree.items() for leaf in leaves(branch, f"{path}.{name}")]


def test_shown_as_users_look_at_it(project):
    metrics = run(project, "dvc", "metrics", "show")
    assert "precision" in metrics
    assert "failed" not in metrics
    assert "flagship_bytes" in metrics
    assert "compress@flagship" in run(project, "dvc", "dag")
    run(project, "dvc", "plots", "show")
    page = (project / "dvc_plots/index.html").read_text()
    assert "Center Separation Index across layers" in page
    assert "workspace_plots_pictures_csi.png" in page
    assert "download.source" in run(project, "dvc", "params", "diff", "--all")


def test_comparison_has_a_row_for_each_recipe(project):
    header, *rows = (project / "metrics/comparison.csv").read_text().splitlines()
    assert header == ",".join(column.name for column in COLUMNS)
    assert [row.split(",")[0] for row in rows] == list(RECIPES)
    history = json.loads((project / "metrics/recipes.json").read_text())["recipes"]
    assert len(history["flagship"]["steps"]) == 3
    spent = {name: history[name]["pflop_after_root"] for name in ("dense", "slim", "flagship", "tuned")}
    assert spent["dense"] == 0 < spent["slim"] == spent["flagship"]
    assert spent["tuned"] == pytest.approx(spent["slim"], rel=0.5)  # whole epochs of two networks


def test_files_are_folded_apart_from_dense_and_tuned(project):
    for recipe in RECIPES:
        nodes = onnx.load(project / f"models/onnx/{recipe}.onnx").graph.node
        with_batch_norm = any(node.op_type == "BatchNormalization" for node in nodes)
        assert with_batch_norm == (recipe in ("dense", "tuned")), recipe


@pytest.mark.parametrize(
    ("override", "stages"),
    [
        (("evaluate", "mistakes", 6), {"evaluate"}),
        (("train", "target_accuracy", 0.5), {"evaluate", "draw"}),
        (("draw", "pictured", 3), {"draw"}),
        (("benchmark", "calls", 4), {"benchmark"}),
        (("compress", "recipes", "flagship", "method", "percentile"), {"compress@flagship", "benchmark", "compare"}),
        (("compress", "steps", "quantize", "method", "percentile"), {"compress@flagship"}),
        (("compress", "recipes", "slim", "ratio", 0.3), {"compress@slim", "benchmark", "compare"}),
        (("compress", "recipes", "slim", "budget", 3), {"compress@slim", "benchmark", "compare"}),
        (("compress", "budget", 3), {f"compress@{name}" for name in RECIPES}),
        (
            ("compress", "recipes", "new", {"from": "truncated", "step": "fold"}),
            {"compress@new", "benchmark", "compare"},
        ),
        (("compress", "steps", "prune_channels", "round_to", 4), {"compress@slim"}),
        (("train", "recipes", "fast", "batch_size", 99), set()),
    ],
)
@pytest.mark.usefixtures("restored")
def test_a_changed_param_reruns_what_depends_on_it_alone(project, override, stages):
    params = yaml.safe_load((project / "params.yaml").read_text())
    branch = params
    *path, leaf, value = override
    for part in path:
        branch = branch[part]
    branch[leaf] = value
    write_params(project, params)
    assert would_run(project) == stages


def test_a_changed_file_of_the_user_reruns_the_download(project):
    batch = project.parent / "cifar/test_batch.bin"
    before = batch.read_bytes()
    try:
        batch.write_bytes(bytes([9]) + before[1:])
        assert "download" in would_run(project)
    finally:
        batch.write_bytes(before)
    assert "download" not in would_run(project)


@pytest.mark.usefixtures("restored")
def test_another_budget_reruns_its_branch_and_the_controls_below_it_alone(project):
    apply_overrides(project / "params.yaml", ["+compress.recipes.slim.budget=3"])
    lines = run(project, "python", "-m", "scripts.plan").splitlines()
    planned = {line.split()[0] for line in lines if re.match(r"\w+(@\w+)? +(\?|[0-9.]+)( |$)", line)}
    branch = {f"{stage}@{name}" for stage in ("compress", "export", "test") for name in ("slim", "tuned", "flagship")}
    assert planned == branch | {"benchmark", "compare", "draw", "coded@flagship", "release@flagship"}


def test_a_forced_second_run_gives_the_same_bytes(project):
    before = outs(project)
    run(project, "dvc", "repro", "--force")
    assert outs(project) == before
    commit(project, "timings")


@pytest.mark.usefixtures("restored")
def test_interrupted_training_resumes_and_gives_the_same_bytes(project):
    before = outs(project)
    with started(project, "dvc", "repro", "--force", "--single-item", "train") as process:
        wait_for_checkpoint(project)
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does at Ctrl-C
        output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "error: interrupted in epoch" in output
    assert re.search(r"exited with (130|-2)", output)  # -2 from a shell such as dash, which dies of the signal itself
    assert not (project / "models/networks/trained.safetensors").exists()
    assert "resuming after step" in run(project, "dvc", "repro", "--force", "--single-item", "train")
    assert outs(project) == before
    assert not list(project.glob("scratch/train/*"))


@pytest.mark.usefixtures("restored")
def test_two_processes_under_torchrun_and_the_death_of_one(project):
    apply_overrides(project / "params.yaml", ["train.launcher=torchrun --standalone --nproc-per-node 2"])  # as -S does
    command = ["dvc", "repro", "--single-item", "train"]
    with started(project, *command) as process:
        wait_for_checkpoint(project)
        victim, survivor = worker(process.pid, rank=1), worker(process.pid, rank=0)
        agent = victim.parent()
        agent.suspend()  # its SIGTERM could silence the survivor
        victim.kill()
        wait_for(lambda: survivor.status() == psutil.STATUS_ZOMBIE, "the survivor did not end")
        agent.resume()
        output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "error: another process of this run died" in output
    assert not (project / "models/networks/trained.safetensors").exists()
    assert "resuming after step" in run(project, *command)
    resumed = outs(project)
    run(project, *command, "--force")
    assert outs(project) == resumed
    _, *rows = (project / "plots/training/plots/metrics/val/accuracy.tsv").read_text().splitlines()
    assert [row.split()[0] for row in rows] == [str(epoch) for epoch in range(1, EPOCHS + 1)]  # written by one process


@pytest.mark.usefixtures("restored")
def test_two_jobs_give_the_same_bytes_as_one(project):
    pytest.importorskip("ray", reason="Ray is not installed (requirements-parallel.txt)")
    before, tree = outs(project), ("compress", "export", "test")
    recorded = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    for out in (out for name, stage in recorded.items() if name.startswith(tree) for out in stage["outs"]):
        for path in (out["path"], f".dvc/cache/files/md5/{out['md5'][:2]}/{out['md5'][2:]}"):
            (project / path).unlink(missing_ok=True)
    (project / "metrics/benchmark.json").unlink()
    runs, aside = (project / ".dvc/cache" / name for name in ("runs", "runs-before"))
    runs.rename(aside)
    apply_overrides(project / "params.yaml", ["threads=1"])
    printed = run(project, "python", "-m", "scripts.jobs", "1" if os.cpu_count() == 1 else "2")
    assert f"\n{3 * len(RECIPES) + 3} of " in printed  # besides the tree's: benchmark, compare and draw
    assert outs(project) == before
    assert "up to date" in run(project, "dvc", "repro")
    shutil.rmtree(runs)
    aside.rename(runs)


@pytest.mark.usefixtures("restored")
def test_an_edit_of_code_schedules_what_its_package_feeds(project):
    compressed = {f"compress@{name}" for name in RECIPES}
    measured = {f"{stage}@{name}" for stage in ("export", "test") for name in RECIPES}
    measured |= {"coded@flagship", "benchmark", "compare"}
    expected = {
        "src/techniques/prune_channels.py": {"compress@slim"},
        "src/export/latency.py": measured,
        "src/pictures/style.py": {"draw"},
        "src/results/comparison.py": {"evaluate", "compare", "draw"},
        "src/separation/neighbours.py": {"csi"},
        "src/separation/scores.py": {"csi", "draw"} | compressed,
        "src/training/loop.py": {"train", "draw"} | compressed,
        "src/compression/training.py": compressed,
    }
    for name, stages in expected.items():
        path = project / name
        before = path.read_text()
        path.write_text(f"{before}# edited\n")
        assert would_run(project) == stages, name
        path.write_text(before)


@pytest.mark.usefixtures("restored")
def test_old_settings_come_back_from_the_run_cache(project):
    """Training and compression are not computed again where params.yaml goes back to what was run before."""
    for path, value, stages in (
        ("train.recipes.demo.momentum", 0.5, ["train"]),
        ("compress.steps.quantize.method", "percentile", ["compress@flagship", "export@flagship"]),
    ):
        before = (project / "params.yaml").read_text()
        apply_overrides(project / "params.yaml", [f"{path}={value}"])
        run(project, "dvc", "repro", "--single-item", *stages)
        (project / "params.yaml").write_text(before)
        output = run(project, "dvc", "repro", "--single-item", *stages)
        for stage in stages:
            assert f"Stage '{stage}' is cached - skipping run" in output


@pytest.mark.usefixtures("restored")
def test_a_mistake_in_the_tree_is_told_by_the_stage_too(project):
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["compress"]["recipes"] = params["compress"]["recipes"] | {"late": {"from": "flagship", "step": "fold"}}
    write_params(project, params)
    output = run(project, "dvc", "repro", "--single-item", "compress@dense", "--force", code=255)
    assert (
        "error: params.yaml: compress.recipes.late.from: flagship ends in quantize, which nothing may follow" in output
    )


@pytest.mark.usefixtures("restored")
def test_weights_from_elsewhere_are_not_trained_and_dvc_sees_another_file(project):
    weights = project.parent / "weights"
    shutil.copy(project / "models/networks/trained.safetensors", weights)
    given = [f"train.weights={weights}", "train.weights_mean=[0.5,0.4,0.3]"]
    apply_overrides(project / "params.yaml", given)  # as -S does
    run(project, "dvc", "repro", "--single-item", "train", "evaluate")
    assert json.loads((project / "metrics/train.json").read_text())["precision"] == "float32"
    assert not {"train", "evaluate"} & would_run(project)
    weights.write_bytes(weights.read_bytes() + b"more")
    assert "train" in would_run(project)


@contextlib.contextmanager
def started(folder, *command):
    """The process of a command running in ``folder``, in a session of its own; nothing of it is left afterwards."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = commands.ENVIRONMENT | ENVIRONMENT
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True, start_new_session=True, **streams
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                for left in (*psutil.Process(process.pid).children(recursive=True), process):
                    left.kill()


def wait_for_checkpoint(project):
    wait_for(
        lambda: any(int(path.stem) > 0 for path in project.glob("scratch/train/*/[0-9]*.pt")),
        "no checkpoint",
    )


def wait_for(condition, complaint):
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


def worker(ancestor, rank):
    """The process of that rank below ``ancestor``."""
    for process in psutil.Process(ancestor).children(recursive=True):
        if process.environ().get("RANK") == str(rank):
            return process
    raise AssertionError(f"no process of rank {rank}")


def test_stages_run_by_hand_without_a_home_give_what_dvc_commit_accepts(project):
    before = outs(project)
    bare = ["env", "-u", "HOME", "-u", "USER", "-u", "LOGNAME", "-u", "XDG_CACHE_HOME", "-u", "XDG_CONFIG_HOME"]
    bare += ["LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0"]
    for stage, *arguments in (("train",), ("compress", "slim"), ("draw",)):
        run(project, *bare, "python", "-m", f"stages.{stage}", *arguments)
        run(project, "dvc", "commit", "--force", "@".join([stage, *arguments]))
    assert outs(project) == before
    assert "up to date" in run(project, "dvc", "status")


@pytest.mark.usefixtures("restored")
def test_an_experiment_and_its_difference(project):
    before = run(project, "git", "rev-parse", "HEAD")
    run(project, "dvc", "exp", "run", "--temp", "--name", "trial", "-S", "evaluate.calibration_bins=5")
    assert run(project, "git", "rev-parse", "HEAD") == before
    assert run(project, "git", "status", "--porcelain") == ""
    assert "trial" in run(project, "dvc", "exp", "show", "--csv")
    assert "expected_calibration_error" in run(project, "dvc", "metrics", "diff", "HEAD", "trial")
    assert "calibration_bins" in run(project, "dvc", "params", "diff", "HEAD", "trial")
    run(project, "dvc", "plots", "diff", "HEAD", "trial")
    run(project, "dvc", "exp", "apply", "trial")
    assert yaml.safe_load((project / "params.yaml").read_text())["evaluate"]["calibration_bins"] == 5


def test_a_network_for_a_folder_of_pictures(project, tmp_path):
    for name, color in (("a pear", "yellow"), ("cherry", "red"), ("plum", "purple")):
        (tmp_path / "fruits" / name).mkdir(parents=True)
        for number in range(24):
            Image.new("RGB", (30 + number, 40), color).save(tmp_path / "fruits" / name / f"{number}.jpg")
    changes = ["model.width=0.125", "train.recipes.fast.epochs=4", "compress.budget=1", "benchmark.calls=1"]
    options = [part for change in changes for part in ("-S", change)]
    printed = run(project, "python", "-m", "scripts.mine", str(tmp_path / "fruits"), *options)
    assert re.search(r"^fruits, \w{8} edition: 3 classes; 51 train, 6 validation, 15 test images", printed, re.M)
    assert re.search(r"^ *flagship +\d", printed, re.M)
    picture = str(tmp_path / "fruits/cherry/0.jpg")
    told = run(project, "python", "-m", "scripts.predict", "--model", "mine/flagship.onnx", picture)
    assert sorted(line[:10].strip() for line in told.splitlines()[:3]) == ["a pear", "cherry", "plum"]
    assert not run(project, "git", "status", "--porcelain")
    run(project, "dvc", "exp", "remove", "mine")


def test_queued_experiments(project):
    run(project, "dvc", "exp", "run", "--queue", "--name", "queued", "-S", "evaluate.mistakes=5,7")
    run(project, "dvc", "queue", "start", "-j", "1")
    wait_for(lambda: run(project, "dvc", "queue", "status").count("Success") == 2, "the queue did not end well")
    assert "queued" in run(project, "dvc", "exp", "show", "--csv")


def test_a_release_travels_with_the_clone(project, tmp_path):
    run(project, "dvc", "push")
    network = "models/networks/trained.safetensors"
    pushed = [path.read_bytes() for path in (project / "released/files").rglob("*") if path.is_file()]
    assert pushed == [(project / network).read_bytes()]
    commit(project, "release")
    clone = tmp_path / "clone"
    run(project, "git", "clone", "-q", str(project), str(clone))
    for kind in ("onnx", "coded"):
        made = project / f"models/{kind}/flagship.{kind}"
        assert (clone / f"released/flagship.{kind}").read_bytes() == made.read_bytes()
    assert "up to date" in run(clone, "dvc", "repro", "--dry", "--allow-missing")
    run(clone, "dvc", "pull", "train")
    assert (clone / network).read_bytes() == pushed[0]
    run(tmp_path, "dvc", "get", str(clone), network, "-o", "got.safetensors")
    assert (tmp_path / "got.safetensors").read_bytes() == pushed[0]


def test_one_recipe_tried_beside_dense(project):
    output = run(project, "python", "-m", "scripts.try_recipe", "slim")
    rows = {line.split()[0]: line.split() for line in output.splitlines() if re.match(r" *(dense|slim) +\d", line)}
    compared = {row["recipe"]: row for row in read_csv(project / "metrics/comparison.csv")}
    for name in ("dense", "slim"):
        assert rows[name][1] == f"{100 * compared[name]['val_accuracy']:.2f}"
        assert f"{compared[name]['bytes_ratio']:.2f}" in rows[name]
    assert "slim was trained for longer than dense: the whole table compares it with tuned." in output


def test_each_stage_logged_its_minutes(project):
    stages = {row["stage"] for row in read_csv(project / "logs/minutes.csv")}
    assert {"download", "train", "compress@slim", "test@flagship", "benchmark", "draw"} <= stages


def test_mistakes_end_with_one_line(project):
    for command, code, said in (
        (["stages.compress", "flagshop"], 2, "flagshop"),
        (["stages.compress"], 2, "recipe"),
        (["scripts.predict", "no-such-picture.png"], 1, "no-such-picture.png"),
    ):
        output = run(project, "python", "-m", *command, code=code)
        assert said in output
        assert "Traceback" not in output
