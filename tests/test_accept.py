"""`make accept` in a small project of its own: what it accepts DVC does not run, what it refuses stays as it was."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from commands import ROOT, commit, run
from dvc.repo import Repo

from checks import accept, code
from src.core.errors import UserError

PROJECT = {
    ".gitignore": "__pycache__/\n/models/\n",
    ".dvcignore": "__pycache__/\n",
    "params.yaml": "download: {source: official, path: null}\ntrain: {rate: 3}\n"
    "compress: {recipes: {dense: {step: keep}, thin: {step: factorize}}}\n",
    "dvc.yaml": """
stages:
  train:
    cmd: python -m stages.train
    deps: [src/core, src/training, stages/train.py]
    params: [train.rate]
    outs: [models/networks/trained.safetensors]
  compress:
    foreach: ${compress.recipes}
    do:
      cmd: python -m stages.compress ${key}
      deps: [models/networks/trained.safetensors, src/core, "src/techniques/${item.step}.py", stages/compress.py]
      params: ["compress.recipes.${key}"]
      outs: ["models/${key}.txt"]
""",
    "src/core/numbers.py": '"""Numbers."""\n\n\ndef half(x):\n    """Return a half."""\n    return x / 2\n',
    "src/training/loop.py": '"""The loop."""\n\nSTEPS = 2  # few\n\n\ndef step(x):\n    return x * STEPS\n',
    "src/techniques/keep.py": '"""No change."""\n\n\nclass Settings:\n    """None."""\n\n    share = 1\n',
    "src/techniques/factorize.py": '"""Thin layers."""\n\n\nclass Settings:\n    share = 0.5\n',
    "stages/download.py": "",
    "stages/split.py": "",
    "stages/train.py": """
import numpy, yaml
from pathlib import Path
from safetensors.numpy import save_file
from src.core.numbers import half
from src.training.loop import step

rate = yaml.safe_load(Path("params.yaml").read_text())["train"]["rate"]
Path("models/networks").mkdir(parents=True, exist_ok=True)
save_file({"weights": numpy.array([half(step(rate))])}, "models/networks/trained.safetensors")
""",
    "stages/compress.py": """
import importlib, sys, yaml
from pathlib import Path
from src.core.numbers import half

name = sys.argv[1]
step = yaml.safe_load(Path("params.yaml").read_text())["compress"]["recipes"][name]["step"]
share = importlib.import_module("src.techniques." + step).Settings.share
Path(f"models/{name}.txt").write_text(str(half(share)))
""",
}


def write(files):
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A project that ran and was committed."""
    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write(PROJECT)
        run(".", "git", "init", "--quiet")
        run(".", "dvc", "init", "--quiet")
        run(".", "dvc", "repro", "--quiet")
        commit(".", "state")
    return folder


@pytest.fixture
def project(ran, tmp_path, monkeypatch):
    """A copy of the project, as working folder."""
    shutil.copytree(ran, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(accept, "SAMPLE", ROOT / accept.SAMPLE)


def edit(path, old, new):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def accepted(monkeypatch, capsys, *arguments):
    """The last line that `make accept` prints."""
    monkeypatch.setattr(sys, "argv", ["accept", *arguments])
    accept.main()
    return capsys.readouterr().out.splitlines()[-1]


def refusal(monkeypatch, *arguments):
    """The error of `make accept`, which must leave dvc.lock alone."""
    before = Path("dvc.lock").read_bytes()
    monkeypatch.setattr(sys, "argv", ["accept", *arguments])
    with pytest.raises(UserError) as error:
        accept.main()
    assert Path("dvc.lock").read_bytes() == before
    return str(error.value)


def stale():
    """The stages that DVC would run."""
    with Repo() as repo:
        return sorted(repo.status())


@pytest.mark.parametrize(
    ("path", "old", "stages"),
    [
        ("src/core/numbers.py", "Return a half", "train, compress (2)"),
        ("src/training/loop.py", "# few", "train"),
        ("src/techniques/keep.py", "None.", "compress@dense"),
    ],
)
def test_comments_and_docstrings_are_accepted_and_nothing_runs(project, monkeypatch, capsys, path, old, stages):
    lock = Path("dvc.lock").read_text().splitlines()
    edit(path, old, "# other words")
    assert stale()
    assert accepted(monkeypatch, capsys) == f"accepted: {stages}"
    assert stale() == []
    changed = {line.split(":")[0].strip() for line in set(Path("dvc.lock").read_text().splitlines()) - set(lock)}
    assert changed <= {"md5", "size"}
    commit(".", "state")
    edit(path, "# other words", "# others again")  # and so on from there
    assert accepted(monkeypatch, capsys) == f"accepted: {stages}"


def test_a_clone_without_any_output_accepts_and_would_run_nothing(project, monkeypatch, capsys):
    run(".", "git", "clone", "--quiet", ".", "../clone")
    monkeypatch.chdir("../clone")
    edit("src/core/numbers.py", "Return a half", "Return one half")
    assert accepted(monkeypatch, capsys) == "accepted: train, compress (2)"
    assert "Data and pipelines are up to date." in run(".", "dvc", "repro", "--dry", "--allow-missing")
    assert not Path("models").exists()


def test_a_number_is_refused_and_told_what_would_run(project, monkeypatch):
    edit("src/core/numbers.py", "x / 2", "x / 3")
    assert refusal(monkeypatch).splitlines() == [
        "would run again: train, compress (2), because of",
        "src/core/numbers.py (half): train, compress (2)",
        "other bytes after a short training (weights): train",
    ]
    assert stale() == ["compress@dense", "compress@thin", "train"]


def test_only_the_stages_that_differ_are_refused(project, monkeypatch):
    edit("src/techniques/keep.py", "None.", "Nothing.")
    edit("src/techniques/factorize.py", "0.5", "0.25")
    monkeypatch.setattr(sys, "argv", ["accept"])
    with pytest.raises(UserError, match=r"\nsrc/techniques/factorize.py \(Settings\): compress@thin$"):
        accept.main()
    assert stale() == ["compress@thin"]


def test_training_with_the_same_bytes_is_accepted(project, monkeypatch, capsys):
    edit("src/training/loop.py", "x * STEPS", "x + x")
    assert accepted(monkeypatch, capsys) == "accepted: train"
    assert stale() == []


def test_another_form_of_params_needs_overrides(project, monkeypatch, capsys):
    edit("params.yaml", "{rate: 3}", "{speed: 4}")
    edit("dvc.yaml", "[train.rate]", "[train.speed]")
    edit("stages/train.py", '["rate"]', '["speed"] - 1')
    assert "params.yaml (not in dvc.lock): train" in refusal(monkeypatch)
    new = ["--new", "train.speed=5"]
    assert "other bytes after a short training" in refusal(monkeypatch, *new)
    assert re.match("--old: [^\n]*train.pace[^\n]*$", refusal(monkeypatch, "--old", "train.pace=4"))
    assert accepted(monkeypatch, capsys, "--old", "train.rate=4", *new) == "accepted: train"
    assert stale() == []
    assert yaml.safe_load(Path("dvc.lock").read_text())["stages"]["train"]["params"] == {
        "params.yaml": {"train.speed": 4}
    }


def test_other_changes_are_refused(project, monkeypatch):
    edit("src/techniques/keep.py", "None.", "Nothing.")
    edit("params.yaml", "{step: keep}", "{step: keep, more: 1}")
    assert "changes outside the code, which `dvc status` names: compress@dense" in refusal(monkeypatch)


def test_an_output_that_the_lock_does_not_have_is_refused(project, monkeypatch):
    edit("src/training/loop.py", "# few", "# two")
    edit("dvc.yaml", "[models/networks/trained.safetensors]", "[models/networks/root.safetensors]")
    assert "models/networks/root.safetensors (not in dvc.lock): train" in refusal(monkeypatch)


def test_recorded_code_that_no_commit_has_is_refused(project, monkeypatch, capsys):
    edit("src/techniques/keep.py", "None.", "Nothing.")
    accepted(monkeypatch, capsys)
    edit("src/techniques/keep.py", "Nothing.", "Nothing at all.")
    assert "recorded code that no commit has" in refusal(monkeypatch)


def test_a_new_file_counts_where_it_is_imported(project, monkeypatch, capsys):
    write({"src/core/more.py": "TWO = 2\n"})
    assert accepted(monkeypatch, capsys) == "accepted: train, compress (2)"
    commit(".", "state")
    edit("stages/compress.py", "from src.core.numbers", "import src.core.more\nfrom src.core.numbers")
    assert {"src/core/more.py (new): compress (2)", "stages/compress.py (imports): compress (2)"} <= set(
        refusal(monkeypatch).splitlines()
    )


def test_broken_code_is_named(project, monkeypatch):
    edit("src/techniques/keep.py", "class", "klass")
    assert refusal(monkeypatch).startswith("src/techniques/keep.py: no valid Python: ")


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ('class A:\n    """One."""\n    x = 1  # one\n', "class A:\n\n    x = (1)\n", None),
        ("def f():\n    return 1\n", 'def f():\n    "Doc."\n    return 1\n', None),
        ("def f():\n    return 1\n", "def f():\n    return 1.0\n", "f"),
        ("X: int = 1\nf(2)\n", "X: int = 2\nf(3)\n", "X: int, f(2), f(3)"),
        ("import a\n", "import b\n", "imports"),
        ("a = 1\na = 2\n", "a = 2\na = 1\n", "order"),
    ],
)
def test_what_counts_as_a_change(old, new, names):
    changes = code.code_changes({"x.py": old.encode()}, {"x.py": new.encode()})
    assert changes == ([f"x.py ({names})"] if names else [])


def test_nothing_changed(project, monkeypatch, capsys):
    assert accepted(monkeypatch, capsys) == "accepted: nothing"


def test_what_python_loads_for_train_is_reached(monkeypatch):
    monkeypatch.chdir(ROOT)
    listing = (
        "import sys, stages.train; print(*(getattr(m, '__file__', '') for m in [*sys.modules.values()]), sep='\\n')"
    )
    files = {Path(line) for line in run(".", sys.executable, "-c", listing).splitlines()}
    loaded = {file.relative_to(ROOT).as_posix() for file in files if file.is_relative_to(ROOT / "src")}
    assert "src/training/loop.py" in loaded
    assert loaded <= code.reached(code.files_here("src") | code.files_here("stages"), ["stages/train.py"]).keys()
