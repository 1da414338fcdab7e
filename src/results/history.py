"""How each recipe came about: its technique and settings, whether it is a control, and what was done on its path."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.core.recipes import DENSE
from src.results.columns import Row

RECIPES = Path("metrics/recipes.json")
HISTORY = ("steps", "note", "widths", "image_passes", "pflop", "pflop_after_root")
CONTROLS = ("train_on", "reinitialize", "small")  # the techniques that are controls
BY_CHANCE = "random"  # the importance of channels that makes prune_channels a control


def recipe_history(tested: Mapping[str, Row], recipes: Mapping[str, Row], defaults: Mapping[str, Row]) -> Row:
    """Return how each of the recipes ``tested`` came about, with the edition of the data.

    ``tested`` holds what the stage test wrote of each recipe. ``recipes`` and ``defaults`` are ``compress.recipes`` and
    ``compress.steps`` of params.yaml; of ``defaults`` only the importance of prune_channels is used. Each recipe has
    ``step`` (the name of its technique), ``settings`` (those that the recipe changes), ``control`` (see `is_control`),
    ``steps`` (a sentence per technique of its path), a note, the widths of its layers, and the training of its path.
    """
    histories = {
        name: {
            "step": recipes[name]["step"],
            "settings": {key: value for key, value in recipes[name].items() if key not in ("from", "step")},
            "control": is_control(recipes[name], defaults),
            **{key: values[key] for key in HISTORY},
        }
        for name, values in tested.items()
    }
    return {"edition": tested[DENSE]["edition"], "recipes": histories}


def own_steps(recipe: str, parent: str, history: Mapping[str, Row]) -> list[str]:
    """Return what was done for ``recipe`` after its ``parent`` was made, a sentence per technique.

    ``history`` has the steps of whole paths, by recipe (see `recipe_history`). Where those of ``recipe`` do not begin
    with those of ``parent``, as for a control that starts again from the root, all of them are returned.
    """
    steps, before = (list(history.get(name, {}).get("steps", [])) for name in (recipe, parent))
    return steps[len(before) :] if steps[: len(before)] == before else steps


def is_control(recipe: Mapping[str, Any], defaults: Mapping[str, Row]) -> bool:
    """Return whether the technique of ``recipe`` is a control: the root trained on, random weights or a random choice.

    A recipe that does not name its importance has that of ``defaults``. A recipe made from a control is none, and none
    is a recipe that gives ``widths``.
    """
    settings = {**defaults.get(recipe["step"], {}), **recipe}
    chosen = recipe["step"] in CONTROLS and not recipe.get("widths")
    return chosen or settings.get("importance") == BY_CHANCE
