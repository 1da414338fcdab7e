"""Split the training images into a training and a validation part; measure and picture the training part."""

from pathlib import Path

from pydantic import Field

from src.core.dataset import PREPARED, save_split, save_statistics
from src.core.errors import exit_cleanly
from src.core.files import atomic
from src.core.params import Settings, Shared, load_params
from src.data.cifar10 import RAW, SplitSettings, edition, split, statistics
from src.pictures.augmentation import augmentation, one_class_after_another
from src.pictures.style import save_figure

PICTURE = Path("plots/augmentation.png")


class Augmentation(Settings):
    """What is pictured of a training recipe, where these keys are explained."""

    crop_padding: int = Field(ge=0, le=16)
    mirror: str


class TrainSettings(Settings):
    """The section ``train`` of params.yaml, of which only the chosen recipe's augmentation matters here."""

    recipe: str
    recipes: dict[str, Augmentation]


class Params(Shared):
    """What this stage reads of params.yaml."""

    split: SplitSettings
    train: TrainSettings


def main() -> None:
    """Write data/prepared and plots/augmentation.png."""
    params = load_params("split", Params)
    splits = split(RAW, params.split.validation_fraction, params.seed)
    measured = statistics(splits["train"], edition(RAW))
    with atomic(PREPARED) as folder:
        folder.mkdir()
        for name, part in splits.items():
            save_split(folder, name, part)
        save_statistics(folder, measured)
    recipe = params.train.recipes[params.train.recipe]
    shown = one_class_after_another(splits["train"], params.split.pictured)
    figure = augmentation(shown, recipe.crop_padding, recipe.mirror != "never", params.seed, measured.edition)
    save_figure(figure, PICTURE)
    print(f"{PREPARED}: {', '.join(f'{len(part):,} {name}' for name, part in splits.items())} images")


if __name__ == "__main__":
    exit_cleanly(main)
