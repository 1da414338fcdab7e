"""The commands wherever the project lies: behind a URL, in clones without some of the history, in a larger repository,
as another user's, without Git."""

import shutil
import socket
import subprocess
import time
from pathlib import Path

import dvc.api
import onnx
import pandas as pd
import pytest
import yaml
from commands import ENVIRONMENT, ROOT, commit, run
from networks import plan, trained
from PIL import Image
from test_report import repository

from scripts.revision import commit_of, open_revision
from src.export.onnx import export

COMPARISON = Path("metrics/comparison.csv")
FLAGSHIP = "released/flagship.onnx"
OTHER_OWNER = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}  # a switch of Git's own tests


def advice(line):
    """The command that ``line`` ends with."""
    return ("sh", "-c", line.split("`")[-2])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The results of this repository and what is released, tagged old; and a commit with one recipe and no curves."""
    folder = tmp_path_factory.mktemp("clones") / "project"
    folder.mkdir()
    run(folder, "git", "init", "-q", "-b", "main")
    repository(folder)
    (folder / "released").mkdir()
    for name in (".dvc/config", "dvc.lock", FLAGSHIP):
        shutil.copy(ROOT / name, folder / name)
    commit(folder, "All recipes")
    run(folder, "git", "tag", "old")
    pd.read_csv(folder / COMPARISON).head(1).to_csv(folder / COMPARISON, index=False)
    shutil.rmtree(folder / "plots/training")
    commit(folder, "One recipe")
    return folder


@pytest.fixture(scope="module")
def hub(project):
    """A bare repository, as a server holds it."""
    run(project.parent, "git", "clone", "-q", "--bare", project, "hub.git")
    run(project.parent / "hub.git", "git", "config", "uploadpack.allowFilter", "true")
    return project.parent / "hub.git"


@pytest.fixture
def cloned(hub, tmp_path):
    """A function that clones the bare repository with the options given."""

    def clone(*options):
        run(tmp_path, "git", "clone", "-q", *options, f"file://{hub}", "clone")
        return tmp_path / "clone"

    return clone


@pytest.fixture
def daemon(hub):
    """The URL of the bare repository at a daemon of Git."""
    if not (Path(run(hub, "git", "--exec-path").strip()) / "git-daemon").exists():
        pytest.skip("Git has no daemon here")
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    options = (f"--base-path={hub.parent}", "--export-all", "--listen=127.0.0.1", f"--port={port}")
    process = subprocess.Popen(["git", "daemon", *options], env=ENVIRONMENT)
    try:
        for _ in range(600):
            with socket.socket() as visitor:
                if visitor.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"git://127.0.0.1:{port}/{hub.name}"
    finally:
        process.terminate()
        process.wait()


def test_what_is_released_is_tracked_by_git_and_is_what_dvc_made():
    outs = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["release"]["do"]["outs"]
    assert outs == [{f"released/${{item}}.{kind}": {"cache": False}} for kind in ("onnx", "coded")]
    recipes = yaml.safe_load((ROOT / "params.yaml").read_text())["release"]
    here = {str(path.relative_to(ROOT)) for name in recipes for path in ROOT.glob(f"released/{name}.*")}
    assert FLAGSHIP in here
    tracked = set(run(ROOT, "git", "-c", "safe.directory=*", "ls-files", "released").splitlines())
    assert here <= tracked
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    made = {f"released/files/md5/{out['md5'][:2]}/{out['md5'][2:]}" for stage in lock.values() for out in stage["outs"]}
    assert {path for path in tracked if path.startswith("released/files/")} <= made


def test_the_flagship_comes_from_any_url(hub, daemon, tmp_path):
    wanted = (ROOT / FLAGSHIP).read_bytes()
    for number, url in enumerate((f"file://{hub}", str(hub), daemon)):
        run(tmp_path, "dvc", "get", url, FLAGSHIP, "-o", f"{number}.onnx")
        assert (tmp_path / f"{number}.onnx").read_bytes() == wanted
    assert dvc.api.read(FLAGSHIP, repo=f"file://{hub}", mode="rb") == wanted
    run(tmp_path, "sh", "-c", f"git archive --remote='file://{hub}' HEAD {FLAGSHIP} | tar x")
    assert (tmp_path / FLAGSHIP).read_bytes() == wanted


def test_old_results_in_a_clone_without_old_files(cloned):
    clone = cloned("--filter=blob:none")
    assert "flagship" in run(clone, "scripts.table", "--rev", "old")
    line = run(clone, "scripts.report", "--rev", "old", code=1)
    assert line.startswith("error: old: this clone lacks files of it (git clone --filter)")
    run(clone, *advice(line))
    run(clone, "scripts.report", "--rev", "old")
    assert 'data-plot="Loss"' in (clone / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("options", [["--filter=blob:none"], ["--filter=tree:0"], ["--depth=1"]])
def test_what_a_clone_lacks_for_experiments_is_said_with_what_mends_it(cloned, options):
    clone = cloned(*options)
    run(clone, "scripts.check_clone")
    line = run(clone, "scripts.check_clone", "--history", code=1)
    assert f"(git clone {options[0].partition('=')[0]})" in line
    run(clone, *advice(line))
    run(clone, "scripts.check_clone", "--history")


def test_a_project_inside_a_larger_repository(project, tmp_path, monkeypatch):
    shutil.copytree(project, tmp_path / "some/folder", ignore=shutil.ignore_patterns(".git"))
    run(tmp_path, "git", "init", "-q")
    (tmp_path / "other").touch()
    commit(tmp_path, "Everything")
    monkeypatch.chdir(tmp_path / "some/folder")
    assert "dense" in run(".", "scripts.table", "--rev", "HEAD")
    run(".", "scripts.check_clone", "--history")
    (tmp_path / "other").write_text("edited")
    assert open_revision("HEAD").pictures().keys() == {path.stem for path in (ROOT / "plots/pictures").glob("*.png")}
    assert not commit_of(open_revision(None))["changed"]
    Path("params.yaml").write_text("edited")
    assert commit_of(open_revision(None))["changed"]


@pytest.mark.parametrize("command", [["scripts.table", "--rev", "old"], ["scripts.report"], ["scripts.check_clone"]])
def test_a_repository_of_another_user(project, command):
    line = run(project, *command, code=1, **OTHER_OWNER)
    assert line.endswith(f"git config --global --add safe.directory {project}")


def test_without_git_the_table_and_the_flagship_work_and_the_rest_says_what_to_do(project, tmp_path):
    folder = tmp_path / "unpacked"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".git"))
    Image.new("RGB", (9, 9)).save(folder / "picture.png")
    assert "dense" in run(folder, "scripts.table")
    assert "%" in run(folder, "scripts.predict", "picture.png")
    assert "not a git repository" in run(folder, "scripts.table", "--rev", "HEAD", code=1)
    run(folder, *advice(run(folder, "scripts.check_clone", code=1)))
    run(folder, "scripts.check_clone", "--history")


def test_without_the_program_git_too(project):
    bare = {"PATH": "/nowhere"}
    assert run(project, "scripts.check_clone", code=1, **bare).startswith("error: git: not installed")
    assert "dense" in run(project, "scripts.table", **bare)


def test_an_experiment_is_found_by_its_name(cloned):
    clone = cloned()
    head, old = run(clone, "git", "rev-parse", "HEAD", "old").split()
    experiment = "refs/exps/{}/{}/demo"
    run(clone, "git", "update-ref", experiment.format(old[:2], old[2:]), old)
    run(clone, "git", "update-ref", "refs/exps/exec/EXEC_HEAD", head)
    assert "flagship" in run(clone, "scripts.table", "--rev", "demo")
    run(clone, "git", "update-ref", experiment.format(head[:2], head[2:]), head)
    assert "flagship" not in run(clone, "scripts.table", "--rev", "demo")
    for name in ("dem", "EXEC_HEAD", "--help", ""):
        line = run(clone, "scripts.table", f"--rev={name}", code=1)
        assert line == f"error: {name}: no commit, branch, tag or experiment has this name"


def test_onnx_runtime_1_18_reads_the_files(tmp_path):
    """1.18 knows IR version 10 and opset 21, and was tried with the flagship; 1.17 stops at IR version 9."""
    export(trained(plan(8, "pool")), tmp_path / "new.onnx")
    for path in (ROOT / FLAGSHIP, tmp_path / "new.onnx"):
        file = onnx.load(path)
        assert file.ir_version <= 10
        assert {entry.domain: entry.version for entry in file.opset_import}[""] <= 21


@pytest.mark.parametrize("settings", [{}, {"user.name": "Me"}, {"user.email": "me@here"}, {"user.name": ""}])
@pytest.mark.parametrize("variables", [{}, {"GIT_AUTHOR_EMAIL": "you@there"}, {"GIT_COMMITTER_NAME": ""}])
def test_make_gives_git_a_name_and_an_address(tmp_path, settings, variables):
    run(tmp_path, "git", "init", "-q")
    for name, value in settings.items():
        run(tmp_path, "git", "config", name, value)
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith(("GIT_A", "GIT_COMM"))}
    command = ["make", "-f", ROOT / "Makefile", "--eval=show: ; @env", "show"]
    shown = subprocess.run(
        command, cwd=tmp_path, env=environment | variables, check=True, capture_output=True, text=True
    )
    found = dict(line.split("=", 1) for line in shown.stdout.splitlines() if line.startswith("GIT_"))
    name = settings.get("user.name") or "nobody"
    email = variables.get("GIT_AUTHOR_EMAIL") or settings.get("user.email") or "nobody@localhost"
    assert [found[f"GIT_{who}_{what}"] for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")] == 2 * [
        name,
        email,
    ]


def test_a_path_that_dvc_cannot_write_is_named(tmp_path):
    folder = tmp_path / "Ördner"
    run(tmp_path, "git", "init", "-q", folder)
    run(folder, "git", "commit", "-q", "--allow-empty", "-m", "start")
    run(folder, "scripts.check_clone")
    assert "Ördner: DVC makes no experiment" in run(folder, "scripts.check_clone", "--history", code=1)
