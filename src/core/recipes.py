"""The recipes of params.yaml as far as every stage may know them: names, parents, and those with a role."""

from typing import Any

from pydantic import Field, field_validator

from src.core.params import Settings

DENSE = "dense"  # the trained network as it is: the others are measured against it
TUNED = "tuned"  # the trained network, fine-tuned: those that were fine-tuned are measured against it
HALF = "half"  # the trained network in float16: a fair reference for sizes


class RecipesSection(Settings):
    """The section ``compress`` of params.yaml where only the recipes' names and parents matter."""

    recipes: dict[str, dict[str, Any]] = Field(min_length=1)

    @field_validator("recipes")
    @classmethod
    def _with_dense_and_parents(cls, recipes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if DENSE not in recipes:
            raise ValueError(f"{DENSE} is missing; the other recipes are measured against it")
        if orphans := [name for name, recipe in recipes.items() if not isinstance(recipe.get("from"), str)]:
            raise ValueError(f"{orphans[0]}.from is missing; it names the recipe to start from")
        return recipes
