"""The house: deps in dvc.yaml are what the scripts import, imports run downward, plots and outs are as designed."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = {name: stage.get("do", stage) for name, stage in PIPELINE["stages"].items()}


def module_file(name):
    """First-party file of a dotted module name; None if it has no code or is not ours."""
    base = ROOT.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path.relative_to(ROOT)
    return None


def imported_names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def with_parents(name):
    parts = name.split(".")
    return [".".join(parts[: length + 1]) for length in range(len(parts))]


@cache
def imports(path):
    """First-party files that ``path`` imports, the packages they lie in included."""
    names = imported_names(ast.parse((ROOT / path).read_text()))
    files = {module_file(parent) for name in names for parent in with_parents(name)}
    return {file for file in files if file and (ROOT / file).read_text().strip()}


def reached(path, seen=None):
    seen = set() if seen is None else seen
    seen.add(path)
    for file in imports(path) - seen:
        reached(file, seen)
    return seen


def script(stage):
    return Path("stages") / f"{stage}.py"


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_what_the_script_reaches(stage):
    package = {file for file in (Path("stages/__init__.py"),) if (ROOT / file).read_text().strip()}
    expected = {str(file) for file in reached(script(stage)) | package}
    declared = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert declared == expected, f"missing: {sorted(expected - declared)}; surplus: {sorted(declared - expected)}"


@pytest.mark.parametrize("stage", STAGES)
def test_the_script_that_runs_is_the_one_declared(stage):
    assert f"-m stages.{stage}" in STAGES[stage]["cmd"]


def test_no_training_for_a_change_in_compression_export_or_pictures():
    files = {str(file) for file in reached(script("train"))}
    foreign = ("src/compression", "src/export", "src/pictures", "src/separation", "src/latency", "src/evaluation")
    assert not [file for file in files if file.startswith(foreign)]


def test_src_imports_no_stage():
    assert not [
        file
        for file in (ROOT / "src").rglob("*.py")
        if any(str(found).startswith("stages") for found in imports(file.relative_to(ROOT)))
    ]


def test_training_knows_nothing_of_dvc():
    for file in reached(Path("src/training.py")):
        names = set(imported_names(ast.parse((ROOT / file).read_text())))
        assert not [name for name in names if name.split(".")[0] in ("dvc", "dvclive")], file


def test_every_plot_is_declared_once_at_the_top_level():
    assert not [name for name, stage in STAGES.items() if "plots" in stage]
    for plot in PIPELINE["plots"]:
        ((name, settings),) = plot.items() if isinstance(plot, dict) else ((plot, None),)
        if settings:
            assert {"template", "x", "y", "title"} <= settings.keys(), name
        else:
            assert name.endswith(".png"), name


def test_gitignored_outs_are_the_cached_ones():
    for stage in STAGES.values():
        for out in stage.get("outs", []):
            ((path, settings),) = out.items() if isinstance(out, dict) else ((out, {}),)
            assert path.startswith(("data/", "models/")) == settings.get("cache", True), path
