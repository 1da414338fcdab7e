"""Faults of what the stages read: damaged files, and params.yaml."""

import contextlib
import copy
import functools
import importlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from src.training.schedule import chosen_recipe

from checks import fuzz
from checks.faults.judge import Bench, Case, Skipped
from checks.faults.project import ROOT
from scripts.check_tree import check
from src.core import params as params_module
from src.core.errors import UserError
from src.core.params import PARAMS, PIPELINE, load_params

FILES, SHORT_FILES = 1000, 5
EXAMPLES, SHORT_EXAMPLES = 500, 25
WITH_PARAMS = ("download", "split", "train", "evaluate", "csi", "compress", "export", "benchmark", "compare", "draw")
Changes = list[tuple[tuple[Any, ...], str, Any]]


def damaged_files(bench: Bench) -> Iterator[Case]:
    """Damaged files of each kind that a stage reads, by `checks.fuzz`: a value of the promised form, or one line that
    names the file.
    """
    for reader in fuzz.READERS:
        outcomes = fuzz.fuzz(reader, SHORT_FILES if bench.short else FILES, 0, bench.folder / "damaged")
        for number, outcome in enumerate(outcomes):
            yield Case(f"{reader.name}, file {number}", (outcome.reason,) if outcome.kind == "leak" else ())


def strange_params(bench: Bench) -> Iterator[Case]:
    """One to three keys of params.yaml are replaced, removed or added at random (Hypothesis); a stage drawn at random
    reads it, and the tree of recipes is checked: valid settings, or one line that names the key.
    """
    try:
        import hypothesis
        from hypothesis import strategies as st
    except ImportError:
        raise Skipped("Hypothesis is not installed (requirements-dev.txt)") from None
    cases: list[Case] = []
    settings = hypothesis.settings(
        max_examples=SHORT_EXAMPLES if bench.short else EXAMPLES,
        **{"database": None, "deadline": None, "derandomize": True},
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    whole = yaml.safe_load((ROOT / PARAMS).read_text())
    drawn = hypothesis.given(_changes(st, list(_paths(whole))), st.sampled_from(WITH_PARAMS))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), _pipeline_read_once():
        Path(PIPELINE).write_text((ROOT / PIPELINE).read_text())
        settings(drawn(lambda changes, stage: cases.append(params_case(whole, changes, stage))))()
    yield from cases


def _changes(st: Any, paths: list[tuple[Any, ...]]) -> Any:
    """Return the strategy for `Changes`: up to three times where, what (replace, remove, add), and a value."""
    names = st.text(max_size=8)
    simple = st.none() | st.booleans() | st.integers() | st.floats() | names | st.sampled_from(["dense", "fold", "1e9"])
    values = st.recursive(simple, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))
    change = st.tuples(st.sampled_from(paths), st.sampled_from(["replace", "replace", "remove", "add"]), values)
    return st.lists(change, min_size=1, max_size=3)


def _paths(tree: dict[Any, Any], above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for name, child in tree.items():
        yield (*above, name)
        if isinstance(child, dict):
            yield from _paths(child, (*above, name))


def changed(whole: dict[str, Any], changes: Changes) -> dict[str, Any]:
    """Return ``whole`` with ``changes``; a change of a place that an earlier one removed is left out."""
    result = copy.deepcopy(whole)
    for (*above, leaf), kind, value in changes:
        branch: Any = result
        for name in above:
            branch = branch.get(name) if isinstance(branch, dict) else None
        if not isinstance(branch, dict):
            continue
        if kind == "remove":
            branch.pop(leaf, None)
        else:
            branch[leaf if kind == "replace" else f"{leaf}_{len(changes)}"] = value
    return result


def params_case(whole: dict[str, Any], changes: Changes, stage: str) -> Case:
    """Return the case that ``stage`` and `scripts.check_tree` read ``whole`` with ``changes``."""
    PARAMS.write_text(yaml.dump(changed(whole, changes), Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))
    mistakes, line = [], ""
    for read in (functools.partial(_read, stage), lambda: check(PARAMS)):
        try:
            read()
        except UserError as error:
            line = line or f"error: {error}"
            mistakes += [f"not one line: {line!r}"] * (str(error).splitlines() != [str(error)])
        except Exception as error:
            mistakes.append(f"{type(error).__name__}: {error}"[:200])
    return Case(f"{stage}, {changes!r}"[:300], tuple(mistakes), line)


def _read(stage: str) -> None:
    """Read params.yaml as the stage does."""
    schema = importlib.import_module(f"stages.{stage}").Params
    read = load_params(stage, schema, key="dense" if stage in ("compress", "export") else None)
    if stage in ("train", "draw"):
        chosen_recipe(read.train.recipe, read.train.defaults, read.train.recipes)


@contextlib.contextmanager
def _pipeline_read_once() -> Iterator[None]:
    """Let dvc.yaml, which does not change, be parsed once; params.yaml is parsed whenever it is read."""
    real: Callable[[Path], dict[str, Any]] = params_module.read_yaml
    pipeline = real(ROOT / PIPELINE)
    params_module.read_yaml = lambda path: copy.deepcopy(pipeline) if path == PIPELINE else real(path)
    try:
        yield
    finally:
        params_module.read_yaml = real
