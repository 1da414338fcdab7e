"""What every stage may know of the recipes in params.yaml: names, parents, techniques, and those with a role."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from src.core.params import Settings

ROOT = "trained"  # the trained network, from which the tree of recipes grows
DENSE = "dense"  # the trained network as it is: the others are measured against it
TUNED = "tuned"  # the trained network, trained on: recipes that train are measured against it
HALF = "half"  # the trained network in float16: a fair reference for sizes
Epsilon = Annotated[float, Field(ge=0, lt=1)]  # how far below the highest score a cut may be


class RecipesSection(Settings):
    """The section ``compress`` of params.yaml where only the recipes' names, parents and techniques matter."""

    recipes: dict[str, dict[str, Any]] = Field(min_length=1)

    @field_validator("recipes")
    @classmethod
    def _complete(cls, recipes: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        if DENSE not in recipes:
            raise ValueError(f"{DENSE} is missing; the other recipes are measured against it")
        for key, meaning in (("from", "the recipe to start from"), ("step", "the technique")):
            if lacking := [name for name, recipe in recipes.items() if not isinstance(recipe.get(key), str)]:
                raise ValueError(f"{lacking[0]}.{key} is missing; it names {meaning}")
        return recipes


class CutSection(Settings):
    """The section ``compress`` of params.yaml where only the ``epsilon`` of truncate matters."""

    steps: dict[Literal["truncate"], dict[Literal["epsilon"], Epsilon]]

    @property
    def epsilon(self) -> float:
        """How far below the highest score the position may be where the score stops rising."""
        return self.steps["truncate"]["epsilon"]
