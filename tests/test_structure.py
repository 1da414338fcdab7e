"""The house: deps in dvc.yaml are the wings that scripts reach, imports run downward, outs and plots as designed."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = {name: stage.get("do", stage) for name, stage in PIPELINE["stages"].items()}
TECHNIQUES = sorted(path for path in Path(ROOT / "src/techniques").glob("*.py") if path.stem != "__init__")
OURS = [stage for stage in STAGES if stage != "release"]  # release runs no script: it copies a file
STEP = "${item.step}"
GROUND = {"core"}
MAY_IMPORT = {  # besides itself
    "core": set(),
    "network": GROUND,
    "data": GROUND,
    "training": GROUND | {"network"},
    "analysis": GROUND | {"network"},
    "deployment": GROUND | {"network"},
    "compression": GROUND | {"network", "training"},
    "techniques": GROUND | {"network", "training", "compression"},
    "report": GROUND,
    "pictures": GROUND | {"network", "training", "analysis", "report"},
}


def module_file(name):
    """First-party file of a dotted module name; None if it is not ours."""
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


@cache
def imports(path):
    """First-party files that ``path`` imports, packages apart."""
    files = {module_file(name) for name in imported_names(ast.parse((ROOT / path).read_text()))}
    return {file for file in files if file and file.name != "__init__.py"}


def reached(path, seen=None):
    seen = set() if seen is None else seen
    seen.add(path)
    for file in imports(path) - seen:
        reached(file, seen)
    return seen


def wing(file):
    """What stands for ``file`` among the deps of a stage: its wing, or itself if it is a technique or a script."""
    return "/".join(file.parts[:2]) if file.parts[0] == "src" and file.parts[1] != "techniques" else str(file)


def script(stage):
    return Path("stages") / f"{stage}.py"


def code_deps(stage):
    """Code among the deps of ``stage``, data left out."""
    return {dep for dep in STAGES[stage]["deps"] if dep.startswith(("src/", "stages/"))}


@pytest.mark.parametrize("stage", [stage for stage in OURS if stage != "compress"])
def test_deps_are_the_wings_that_the_script_reaches(stage):
    expected, declared = {wing(file) for file in reached(script(stage))}, code_deps(stage)
    assert declared == expected, f"missing: {sorted(expected - declared)}; surplus: {sorted(declared - expected)}"


def test_deps_of_compress_are_the_wings_of_its_script_and_of_its_one_technique():
    shared = {wing(file) for file in reached(script("compress"))}
    declared = code_deps("compress")
    for technique in TECHNIQUES:
        file = technique.relative_to(ROOT)
        expected = shared | {wing(found) for found in reached(file)}
        own = {dep.replace(STEP, technique.stem) for dep in declared}
        assert own == expected, f"missing: {sorted(expected - own)}; surplus: {sorted(own - expected)}"


def test_an_edit_in_one_technique_schedules_its_own_recipes_alone():
    with_techniques = {stage: dep for stage in STAGES for dep in code_deps(stage) if dep.startswith("src/techniques")}
    assert with_techniques == {"compress": f"src/techniques/{STEP}.py"}


def test_no_edit_outside_core_network_data_and_training_schedules_a_training():
    assert code_deps("train") <= {"src/core", "src/network", "src/data", "src/training", "stages/train.py"}


@pytest.mark.parametrize("stage", OURS)
def test_the_script_that_runs_is_the_one_declared(stage):
    assert f"-m stages.{stage}" in STAGES[stage]["cmd"]
    assert STAGES[stage]["desc"]


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_imports_run_downward(name):
    for path in (ROOT / "src" / name).rglob("*.py"):
        for file in imports(path.relative_to(ROOT)):
            assert file.parts[0] == "src", f"{path.name} imports {file}"
            assert file.parts[1] in MAY_IMPORT[name] | {name}, f"{path.name} imports {file}"


def test_every_wing_says_in_two_lines_what_may_live_there():
    folders = {path.name for path in (ROOT / "src").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(MAY_IMPORT)
    for name in folders:
        text = ast.get_docstring(ast.parse((ROOT / "src" / name / "__init__.py").read_text()))
        assert len([line for line in text.splitlines() if line]) == 2, name
        assert "ay import" in text, name


def test_techniques_import_no_other_technique():
    for technique in TECHNIQUES:
        others = {file for file in imports(technique.relative_to(ROOT)) if file.parts[1] == "techniques"}
        assert not others, f"{technique.stem} imports {others}"


def test_training_knows_nothing_of_dvc():
    for file in reached(Path("src/training/loop.py")):
        names = set(imported_names(ast.parse((ROOT / file).read_text())))
        assert not [name for name in names if name.split(".")[0] in ("dvc", "dvclive")], file


def test_no_function_is_longer_than_40_lines():
    for folder in ("src", "stages", "scripts", "studies", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 40, f"{path}: {node.name}"


def test_plots_of_templates_name_their_axes_and_pictures_are_png():
    for plot in PIPELINE["plots"]:
        ((name, settings),) = plot.items() if isinstance(plot, dict) else ((plot, None),)
        if settings:
            assert {"template", "x", "y", "title"} <= settings.keys(), name
        else:
            assert name.endswith(".png"), name


def test_gitignored_outs_are_the_cached_ones():
    for stage in STAGES.values():
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get(kind, []):
                ((path, settings),) = out.items() if isinstance(out, dict) else ((out, {}),)
                assert path.startswith(("data/", "models/")) == settings.get("cache", True), path
