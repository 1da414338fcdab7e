"""The tree of recipes: ``NAME: {from: PARENT, step: TECHNIQUE, ...settings}`` under compress.recipes in params.yaml.

A recipe is one technique on the network of its parent. The root is the trained network. The whole tree is checked
before anything runs, so that a mistake in the last recipe does not show after hours.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.compression.candidate import Candidate, Context
from src.compression.technique import TechniqueSettings, technique, technique_names
from src.core.errors import ParamsError
from src.core.params import PARAMS, Settings, layered, read_yaml, validate
from src.core.recipes import DENSE, HALF, TUNED

ROOT = "vgg16"
ROLES = {DENSE: "keep", HALF: "half", TUNED: "fine_tune"}  # what the others are compared with, made from the root
SHARED = ("fine_tune", "from_scratch")  # how to train: parts of the section that several techniques have settings of
SECTION, RECIPES, STEPS = "compress", "compress.recipes", "compress.steps"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


class CompressSettings(Settings):
    """The section ``compress`` of params.yaml, or a part of it; `check` and `recipe_of` check the rest."""

    fine_tune: dict[str, Any]
    from_scratch: dict[str, Any]
    steps: dict[str, Any]
    recipes: dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A technique with its settings, and the recipe whose network it takes."""

    name: str
    parent: str
    step: str
    settings: TechniqueSettings

    @property
    def epochs(self) -> int:
        """Epochs of fine-tuning. A control from new weights has none: it trains as long as its path has, not on top."""
        settings = getattr(self.settings, "fine_tune", None)
        return settings.epochs if settings else 0


def compress(candidate: Candidate, recipe: Recipe, context: Context) -> Candidate:
    """Return what ``candidate``, the network of the parent, becomes by ``recipe``."""
    return technique(recipe.step).apply(candidate, context, recipe.settings)


def read_tree(path: Path = PARAMS) -> dict[str, Recipe]:
    """Return all recipes of params.yaml by name; `ParamsError` in one line for the first mistake in the tree."""
    params = read_yaml(path)
    if SECTION not in params:
        raise _mistake(SECTION, "missing")
    return check(validate(CompressSettings, params[SECTION], SECTION))


def check(section: CompressSettings) -> dict[str, Recipe]:
    """Return all recipes by name; `ParamsError` in one line for the first mistake in the tree."""
    for step in section.steps:
        if step not in technique_names():
            raise _mistake(f"{STEPS}.{step}", f"unknown technique; there are: {', '.join(technique_names())}")
        _settings(section, f"{STEPS}.{step}", {"step": step})
    recipes = {name: recipe_of(section, name) for name in section.recipes}
    if DENSE not in recipes:
        raise _mistake(RECIPES, f"{DENSE} is missing; the other recipes are measured against it")
    for recipe in recipes.values():
        _check_role(recipe)
        _check_path(recipe, recipes)
    _check_tuned(recipes)
    return recipes


def recipe_of(section: CompressSettings, name: str) -> Recipe:
    """Return the recipe ``name``; `ParamsError` if it is malformed or one of its settings is wrong."""
    place, values = f"{RECIPES}.{name}", section.recipes[name]
    if name == ROOT or not NAME.fullmatch(str(name)):
        raise _mistake(place, f"a name holds letters, digits, _ and -, and is not {ROOT}, the trained network's")
    if not isinstance(values, Mapping):
        raise _mistake(place, f"must be {{from: PARENT, step: TECHNIQUE, ...settings}} (found {values!r})")
    if missing := [key for key in ("from", "step") if key not in values]:
        raise _mistake(f"{place}.{missing[0]}", "missing")
    if not isinstance(values["from"], str):
        raise _mistake(f"{place}.from", f"must be the name of a recipe (found {values['from']!r})")
    step = values["step"]
    if step not in technique_names():
        names = ", ".join(technique_names())
        raise _mistake(f"{place}.step", f"unknown technique {step!r}; there are: {names}")
    return Recipe(name, values["from"], step, _settings(section, place, values))


def _settings(section: CompressSettings, place: str, values: Mapping[str, Any]) -> TechniqueSettings:
    """Return the settings of a recipe: its own over the technique's over those of all trainings."""
    step, schema = values["step"], technique(values["step"]).Settings
    if step not in section.steps:
        raise _mistake(f"{STEPS}.{step}", "missing; the settings of each technique stand there once ({} if none)")
    shared = {name: getattr(section, name) for name in SHARED if name in schema.model_fields}
    own = {key: value for key, value in values.items() if key not in ("from", "step")}
    layers = {SECTION: shared} if shared else {}
    layers[f"{STEPS}.{step}"] = section.steps[step]
    return layered(schema, layers if place in layers else {**layers, place: own})


def path_to(recipe: Recipe, recipes: Mapping[str, Recipe]) -> list[Recipe]:
    """Return the recipes from the root to ``recipe``; `ParamsError` for an unknown parent or a circle."""
    path = [recipe]
    while (parent := path[0].parent) != ROOT:
        if parent not in recipes:
            known = ", ".join([ROOT, *recipes])
            raise _mistake(f"{RECIPES}.{path[0].name}.from", f"unknown parent {parent!r}; there are: {known}")
        if parent in (step.name for step in path):
            names = [step.name for step in path]
            circle = " -> ".join([parent, *names[: names.index(parent) + 1]])
            raise _mistake(f"{RECIPES}.{path[0].name}.from", f"the recipes form a circle: {circle}")
        path.insert(0, recipes[parent])
    return path


def _check_role(recipe: Recipe) -> None:
    """Raise `ParamsError` if ``recipe`` has the name of one that others are compared with, and is something else."""
    step = ROLES.get(recipe.name)
    if step and (recipe.parent, recipe.step) != (ROOT, step):
        wanted = f"must be {{from: {ROOT}, step: {step}}}: other recipes are compared with it"
        raise _mistake(f"{RECIPES}.{recipe.name}", wanted)


def _check_path(recipe: Recipe, recipes: Mapping[str, Recipe]) -> None:
    """Raise `ParamsError` if ``recipe`` cannot follow its ancestors."""
    *ancestors, _ = path_to(recipe, recipes)
    place = f"{RECIPES}.{recipe.name}"
    for ancestor in ancestors:
        if ancestor.settings.leaf:
            raise _mistake(f"{place}.from", f"{ancestor.name} ends in {ancestor.step}, which nothing may follow")
    if objection := recipe.settings.objection([ancestor.step for ancestor in ancestors]):
        raise _mistake(place, objection)


def _check_tuned(recipes: Mapping[str, Recipe]) -> None:
    """Raise `ParamsError` unless ``tuned``, the dense network trained on, has as much training as any other recipe."""
    paths = {name: path_to(recipe, recipes) for name, recipe in recipes.items() if name != TUNED}
    sums = {name: sum(step.epochs for step in path) for name, path in paths.items()}
    longest = max(sums, key=sums.__getitem__)
    tuned = recipes.get(TUNED)
    if below := [name for name, path in paths.items() if TUNED in (step.name for step in path)]:
        raise _mistake(f"{RECIPES}.{below[0]}.from", f"nothing may follow {TUNED}, the control of the other recipes")
    own = tuned.epochs if tuned else 0
    if own == sums[longest]:
        return
    wanted = f"{{from: {ROOT}, step: fine_tune, fine_tune: {{epochs: {sums[longest]}}}}}"
    raise _mistake(
        f"{RECIPES}.{TUNED}",
        f"must fine-tune for as many epochs as the longest path of the tree, {sums[longest]} of {longest} "
        f"(found {own}): {wanted}",
    )


def _mistake(place: str, problem: str) -> ParamsError:
    return ParamsError(f"{PARAMS}: {place}: {problem}")
