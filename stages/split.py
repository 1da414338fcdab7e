"""Split the training images into train and validation, and measure the training images."""

from pydantic import Field

from src.core.files import atomic
from src.core.params import Settings, load_params
from src.core.stage import run_stage
from src.data.cifar10 import RAW, edition
from src.data.prepared import PREPARED, save_split, save_statistics
from src.data.split import SplitSettings, split, statistics


class Params(Settings):
    """What this stage reads from params.yaml."""

    seed: int = Field(ge=0, lt=2**32)
    split: SplitSettings


def main() -> None:
    """Write train, validation, test and the statistics to data/prepared."""
    params = load_params("split", Params)
    splits = split(RAW, params.split.validation_fraction, params.seed)
    measured = statistics(splits["train"], edition(RAW))
    with atomic(PREPARED) as folder:
        folder.mkdir()
        for name, part in splits.items():
            save_split(folder, name, part)
        save_statistics(folder, measured)
    print(f"{PREPARED}: {', '.join(f'{len(part):,} {name}' for name, part in splits.items())} images")


if __name__ == "__main__":
    run_stage(main)
