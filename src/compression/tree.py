"""The tree of recipes: ``NAME: {from: PARENT, step: TECHNIQUE, ...settings}`` under compress.recipes in params.yaml.

A recipe is one technique on the network of its parent. The root is the trained network. The whole tree is checked
before anything runs, so that a mistake in the last recipe does not show after hours.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.compression.candidate import Candidate
from src.compression.context import Context
from src.compression.technique import TechniqueSettings, technique, technique_names
from src.core.errors import ParamsError
from src.core.params import PARAMS, Settings, layered, read_yaml, validate
from src.core.recipes import DENSE, HALF, ROOT, TUNED
from src.training.recipe import DEFAULTS, Training, chosen_recipe

ROLES = {DENSE: "keep", HALF: "half", TUNED: "train_on"}  # what the others are compared with
SECTION, RECIPES, STEPS, TRAININGS = "compress", "compress.recipes", "compress.steps", "compress.train"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


class CompressSettings(Settings):
    """The section ``compress`` of params.yaml, or a part of it; `check` and `recipe_of` check the rest."""

    budget: float
    train: dict[str, dict[str, Any]]
    steps: dict[str, dict[str, Any]]
    recipes: dict[str, Any]


class TrainSettings(Settings):
    """The section ``train`` of params.yaml: trainings. Of the other keys only the names matter: stages check them."""

    launcher: Any = None
    weights: Any = None
    weights_mean: Any = None
    weights_std: Any = None
    recipe: Any = None
    stop_at: Any = None
    target_accuracy: Any = None
    defaults: dict[str, Any]
    recipes: dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """A technique with its settings, and the recipe whose network it takes."""

    name: str
    parent: str
    step: str
    settings: TechniqueSettings

    @property
    def training(self) -> Training | None:
        """How the technique trains; None if it does not."""
        return getattr(self.settings, "train", None)

    @property
    def budget(self) -> float | None:
        """How long the technique trains, in epochs of the trained network; None for a control or without training."""
        return getattr(self.settings, "budget", None)

    @property
    def is_control(self) -> bool:
        """Whether the technique trains for what the path of its parent has spent."""
        return self.training is not None and self.budget is None


def compress(candidate: Candidate, recipe: Recipe, context: Context) -> Candidate:
    """Return what ``candidate``, the network of the parent, becomes by ``recipe``."""
    return technique(recipe.step).apply(candidate, context, recipe.settings)


def read_tree(path: Path = PARAMS) -> dict[str, Recipe]:
    """Return all recipes of params.yaml by name; `ParamsError` in one line for the first mistake.

    All trainings are checked too, also those of the root and those that no recipe uses.
    """
    params = read_yaml(path)
    train = validate(TrainSettings, params.get("train"), "train")
    for name in train.recipes:
        chosen_recipe(name, train.defaults, train.recipes)
    return check(validate(CompressSettings, params.get(SECTION), SECTION), train.defaults)


def check(section: CompressSettings, defaults: Mapping[str, Any]) -> dict[str, Recipe]:
    """Return all recipes by name; `ParamsError` in one line for the first mistake in the tree.

    ``defaults``: the section ``train.defaults``, which all trainings share.
    """
    for name, changes in section.train.items():
        layered(Training, {DEFAULTS: defaults, f"{TRAININGS}.{name}": changes}, DEFAULTS)
    for step in section.steps:
        if step not in technique_names():
            raise _mistake(f"{STEPS}.{step}", f"unknown technique; there are: {', '.join(technique_names())}")
        _settings(section, defaults, step, {})
    recipes = {name: recipe_of(section, defaults, name) for name in section.recipes}
    if DENSE not in recipes:
        raise _mistake(RECIPES, f"{DENSE} is missing; the other recipes are measured against it")
    for recipe in recipes.values():
        _check_role(recipe)
        _check_path(recipe, recipes)
    return recipes


def recipe_of(section: CompressSettings, defaults: Mapping[str, Any], name: str) -> Recipe:
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
    own = {key: value for key, value in values.items() if key not in ("from", "step")}
    return Recipe(name, values["from"], step, _settings(section, defaults, step, {place: own}))


def _settings(
    section: CompressSettings, defaults: Mapping[str, Any], step: str, changes: Mapping[str, dict[str, Any]]
) -> TechniqueSettings:
    """Return the settings of the technique ``step``, with ``changes`` over them: those of a recipe, by its place."""
    base, schema = f"{STEPS}.{step}", technique(step).Settings
    if step not in section.steps:
        raise _mistake(base, "missing; the settings of each technique stand there once ({} if none)")
    layers = {base: section.steps[step], **changes}
    if "train" in schema.model_fields:
        trainings = {f"{place}.train": layer.get("train", {}) for place, layer in layers.items()}
        last = [*layers][-1]
        layers[last] = layers[last] | {"train": _training(section, defaults, trainings)}
    shared = {"budget": section.budget} if "budget" in schema.model_fields else {}
    return layered(schema, {SECTION: shared, **layers}, complete=base)


def _training(section: CompressSettings, defaults: Mapping[str, Any], layers: Mapping[str, Any]) -> Training:
    """Return the training that ``layers`` name and change, later ones over earlier ones.

    ``layers`` maps places in params.yaml to ``{recipe: NAME, ...settings}``; NAME is one of ``compress.train``. A layer
    that names one takes over nothing from the layers before it.
    """
    known, where, name, own = f"there are: {', '.join(section.train)}", "", None, dict[str, dict[str, Any]]()
    for place, layer in layers.items():
        if not isinstance(layer, Mapping):
            raise _mistake(place, f"must be {{recipe: NAME, ...settings}} (found {layer!r})")
        if "recipe" in layer:
            where, name, own = place, layer["recipe"], {}
        own[place] = {key: layer[key] for key in layer if key != "recipe"}
    if not where:
        raise _mistake(f"{next(iter(layers))}.recipe", f"missing; it names one of {TRAININGS}; {known}")
    if name not in [*section.train]:
        raise _mistake(f"{where}.recipe", f"unknown training {name!r}; {known}")
    return layered(Training, {DEFAULTS: defaults, f"{TRAININGS}.{name}": section.train[name], **own}, DEFAULTS)


def path_to(recipe: Recipe, recipes: Mapping[str, Recipe]) -> list[Recipe]:
    """Return the recipes from the root to ``recipe``; `ParamsError` for an unknown parent or a cycle."""
    path = [recipe]
    while (parent := path[0].parent) != ROOT:
        if parent not in recipes:
            known = ", ".join([ROOT, *recipes])
            raise _mistake(f"{RECIPES}.{path[0].name}.from", f"unknown parent {parent!r}; there are: {known}")
        if parent in (step.name for step in path):
            names = [step.name for step in path]
            cycle = " -> ".join([parent, *names[: names.index(parent) + 1]])
            raise _mistake(f"{RECIPES}.{path[0].name}.from", f"the recipes form a cycle: {cycle}")
        path.insert(0, recipes[parent])
    return path


def budget_of(recipe: Recipe, recipes: Mapping[str, Recipe]) -> float:
    """Return what the training of ``recipe`` costs, in epochs of the trained network; 0 if it does not train.

    A control costs what the path of its parent has cost since the root.
    """
    if recipe.training is None:
        return 0.0
    return recipe.budget if recipe.budget is not None else _spent(recipe.parent, recipes)


def _spent(name: str, recipes: Mapping[str, Recipe]) -> float:
    """Return what the training on the path from the root to ``name`` costs; that of a control counts alone."""
    if name == ROOT:
        return 0.0
    recipe = recipes[name]
    own = budget_of(recipe, recipes)
    return own if recipe.is_control else own + _spent(recipe.parent, recipes)


def _check_role(recipe: Recipe) -> None:
    """Raise `ParamsError` if ``recipe`` has the name of one that others are compared with, and is something else."""
    step = ROLES.get(recipe.name)
    place = f"{RECIPES}.{recipe.name}"
    if step and recipe.step != step:
        raise _mistake(place, f"must have the step {step}: other recipes are compared with it (found {recipe.step})")
    if recipe.name in (DENSE, HALF) and recipe.parent != ROOT:
        raise _mistake(place, f"must be from {ROOT}: other recipes are compared with it (found {recipe.parent})")


def _check_path(recipe: Recipe, recipes: Mapping[str, Recipe]) -> None:
    """Raise `ParamsError` if ``recipe`` cannot follow its ancestors."""
    *ancestors, _ = path_to(recipe, recipes)
    place = f"{RECIPES}.{recipe.name}"
    for ancestor in ancestors:
        if ancestor.settings.leaf:
            raise _mistake(f"{place}.from", f"{ancestor.name} ends in {ancestor.step}, which nothing may follow")
    start = max((index for index, ancestor in enumerate(ancestors) if ancestor.is_control), default=0)
    if objection := recipe.settings.objection([ancestor.step for ancestor in ancestors[start:]]):
        raise _mistake(place, objection)
    if recipe.is_control and not any(ancestor.training for ancestor in ancestors):
        raise _mistake(
            f"{place}.from", f"{recipe.step} trains for what its parent's path has spent, and nothing on it trains"
        )


def _mistake(place: str, problem: str) -> ParamsError:
    return ParamsError(f"{PARAMS}: {place}: {problem}")
