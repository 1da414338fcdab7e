"""Split the training images into a training and a validation part; measure and picture the training part."""

from pathlib import Path

from src.cifar10 import RAW, SplitSettings, edition, split, statistics
from src.dataset import PREPARED, save_split, save_statistics
from src.errors import exit_cleanly
from src.files import atomic
from src.params import Shared, load_params
from src.pictures.augmentation import draw_augmentation

PICTURE = Path("plots/augmentation.png")


class Params(Shared):
    """What this stage reads of params.yaml."""

    split: SplitSettings


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
    draw_augmentation(PICTURE, splits["train"], params.split.pictured, params.seed, measured.edition)
    print(f"{PREPARED}: {', '.join(f'{len(part):,} {name}' for name, part in splits.items())} images")


if __name__ == "__main__":
    exit_cleanly(main)
