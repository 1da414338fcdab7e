"""Hold out images for validation (and for test, where the set has none), and measure the training images."""

from pydantic import Field

from src.core.files import atomic
from src.core.params import Settings, load_params
from src.core.stage import run_stage
from src.data.prepared import PREPARED, RAW, save_info, save_split
from src.data.split import SplitSettings, split


class Params(Settings):
    """What this stage reads from params.yaml."""

    seed: int = Field(ge=0, lt=2**32)
    split: SplitSettings


def main() -> None:
    """Write train, validation, test and what is known of them to data/prepared."""
    params = load_params("split", Params)
    splits, info = split(RAW, params.split, params.seed)
    with atomic(PREPARED) as folder:
        folder.mkdir()
        for name, part in splits.items():
            save_split(folder, name, part)
        save_info(folder, info)
    held_out = [name for name in splits if not (RAW / f"{name}.npz").exists()]
    print(f"{PREPARED}: {', '.join(f'{len(part):,} {name}' for name, part in splits.items())} images")
    print(f"held out from train: {' and '.join(held_out) or 'nothing, the set has its own validation and test'}")


if __name__ == "__main__":
    run_stage(main)
