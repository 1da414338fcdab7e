"""Split the training images into train and validation, and measure the training images."""

from pydantic import Field

from src.core.files import atomic
from src.core.params import Settings, load_params
from src.core.stage import run_stage
from src.data.cifar10 import RAW, edition
from src.data.prepared import CLASSES, PREPARED, save_info, save_split
from src.data.split import SplitSettings, described, split


class Params(Settings):
    """What this stage reads from params.yaml."""

    seed: int = Field(ge=0, lt=2**32)
    split: SplitSettings


def main() -> None:
    """Write train, validation, test and what is known of them to data/prepared."""
    params = load_params("split", Params)
    splits = split(RAW, params.split.validation_fraction, params.seed)
    info = described(splits, "CIFAR-10", edition(RAW), CLASSES)
    with atomic(PREPARED) as folder:
        folder.mkdir()
        for name, part in splits.items():
            save_split(folder, name, part)
        save_info(folder, info)
    print(f"{PREPARED}: {', '.join(f'{len(part):,} {name}' for name, part in splits.items())} images")


if __name__ == "__main__":
    run_stage(main)
