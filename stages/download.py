"""Fetch CIFAR-10, or the bundled sample of it, check it, and unpack it."""

from src.core.params import Settings, load_params
from src.core.stage import run_stage
from src.data.cifar10 import RAW, edition
from src.data.fetch import DownloadSettings, fetch


class Params(Settings):
    """What this stage reads from params.yaml."""

    download: DownloadSettings


def main() -> None:
    """Write exactly the six batch files to data/raw."""
    fetch(load_params("download", Params).download.source, RAW)
    print(f"{RAW}: CIFAR-10, {edition(RAW)} edition")


if __name__ == "__main__":
    run_stage(main)
