"""The layout: code deps in dvc.yaml are what a stage reaches, imports run downward, outs and plots as designed."""

import ast
from pathlib import Path

import pytest
import yaml

from checks import code

ROOT = Path(__file__).parent.parent
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = {name: stage.get("do", stage) for name, stage in PIPELINE["stages"].items()}
TECHNIQUES = sorted(path for path in Path(ROOT / "src/techniques").glob("*.py") if path.stem != "__init__")
OURS = [stage for stage in STAGES if stage != "release"]  # release runs no script: it copies files
FILES = {
    str(path.relative_to(ROOT)): path.read_bytes() for name in ("src", "stages") for path in (ROOT / name).rglob("*.py")
}
STEP = "${item.step}"
LEVELS = (  # a package imports itself and the levels above it in this list
    {"core"},
    {"data", "network"},
    {"training", "separation", "export", "results"},
    {"compression"},
    {"techniques", "pictures"},
)
BY_MODULE = ("data", "separation", "techniques")  # of these a stage has the modules that it reaches as deps, not all


def imports(path):
    """First-party files that ``path`` imports, packages apart."""
    names = code.imports(str(path), FILES[str(path)])
    return {Path(name) for name in names if name in FILES and not name.endswith("__init__.py")}


def reached(path):
    return {Path(name) for name in code.reached(FILES, [str(path)]) if not name.endswith("__init__.py")}


def dep(file):
    """What stands for ``file`` among the deps of a stage: its package, or itself."""
    return "/".join(file.parts[:2]) if file.parts[0] == "src" and file.parts[1] not in BY_MODULE else str(file)


def deps(files):
    """What stands for ``files``; a package of `BY_MODULE` too, where all of its modules are reached."""
    named = {dep(file) for file in files}
    for package in BY_MODULE:
        modules = {f"src/{package}/{path.name}" for path in (ROOT / "src" / package).glob("[!_]*.py")}
        if modules <= named:
            named = named - modules | {f"src/{package}"}
    return named


def script(stage):
    return Path("stages") / f"{stage}.py"


def code_deps(stage):
    """Code among the deps of ``stage``, data left out."""
    return {path for path in STAGES[stage]["deps"] if path.startswith(("src/", "stages/"))}


@pytest.mark.parametrize("stage", [stage for stage in OURS if stage != "compress"])
def test_code_deps_are_what_the_script_reaches(stage):
    expected, declared = deps(reached(script(stage))), code_deps(stage)
    assert declared == expected, f"missing: {sorted(expected - declared)}; surplus: {sorted(declared - expected)}"


def test_code_deps_of_compress_are_what_its_script_and_the_techniques_reach():
    """DVC gives all recipes the same deps, so each has what any technique reaches, and of the techniques its own."""
    files = reached(script("compress")).union(*(reached(technique.relative_to(ROOT)) for technique in TECHNIQUES))
    shared = {file for file in files if file.parts[:2] != ("src", "techniques")}
    expected, declared = deps(shared) | {f"src/techniques/{STEP}.py"}, code_deps("compress")
    assert declared == expected, f"missing: {sorted(expected - declared)}; surplus: {sorted(declared - expected)}"


def test_an_edit_in_one_technique_schedules_its_own_recipes_alone():
    found = {stage: path for stage in STAGES for path in code_deps(stage) if path.startswith("src/techniques")}
    assert found == {"compress": f"src/techniques/{STEP}.py"}


def test_only_training_and_what_lies_below_it_schedules_a_training():
    assert code_deps("train") == {"src/core", "src/data/prepared.py", "src/network", "src/training", "stages/train.py"}


def test_an_edit_of_training_or_techniques_exports_nothing_again():
    found = code_deps("export") | code_deps("test") | code_deps("benchmark")
    assert not found & {"src/training", "src/compression"}


@pytest.mark.parametrize("stage", OURS)
def test_the_script_that_runs_is_the_one_declared(stage):
    assert f"-m stages.{stage}" in STAGES[stage]["cmd"]
    assert STAGES[stage]["desc"]


@pytest.mark.parametrize("level", range(len(LEVELS)))
def test_imports_run_downward(level):
    below = set().union(*LEVELS[:level])
    for name in LEVELS[level]:
        for path in (ROOT / "src" / name).rglob("*.py"):
            for file in imports(path.relative_to(ROOT)):
                assert file.parts[0] == "src", f"{path.name} imports {file}"
                assert file.parts[1] in below | {name}, f"{path.name} imports {file}"


def test_every_package_says_what_may_live_there():
    folders = {path.name for path in (ROOT / "src").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set().union(*LEVELS)
    for name in folders:
        assert ast.get_docstring(ast.parse((ROOT / "src" / name / "__init__.py").read_text())), name


def test_techniques_import_no_other_technique():
    for technique in TECHNIQUES:
        others = {file for file in imports(technique.relative_to(ROOT)) if file.parts[1] == "techniques"}
        assert not others, f"{technique.stem} imports {others}"


def test_training_knows_nothing_of_dvc():
    for file in reached(Path("src/training/loop.py")):
        assert not {"dvc.py", "dvclive.py"} & {*code.imports(str(file), FILES[str(file)])}, file


def test_imports_are_absolute():
    for path, source in FILES.items():
        assert not [node for node in ast.walk(ast.parse(source)) if getattr(node, "level", 0)], path


def test_no_function_is_longer_than_40_lines():
    for folder in ("src", "stages", "scripts", "checks", "studies", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef):
                    assert node.end_lineno - node.lineno < 40, f"{path}: {node.name}"


def test_plots_of_templates_name_their_axes_and_pictures_are_one_folder():
    for plot in PIPELINE["plots"]:
        ((name, settings),) = plot.items() if isinstance(plot, dict) else ((plot, None),)
        if settings:
            assert {"template", "x", "y", "title"} <= settings.keys(), name
        else:
            assert name == "plots/pictures"


def test_gitignored_outs_are_the_cached_ones():
    for stage in STAGES.values():
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get(kind, []):
                ((path, settings),) = out.items() if isinstance(out, dict) else ((out, {}),)
                assert path.startswith(("data/", "models/")) == settings.get("cache", True), path
