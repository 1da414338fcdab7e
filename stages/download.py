"""Fetch the data set, and bring its pictures into one form."""

from src.core.params import Settings, load_params
from src.core.stage import run_stage
from src.data.fetch import DownloadSettings, fetch
from src.data.prepared import RAW


class Params(Settings):
    """What this stage reads from params.yaml."""

    download: DownloadSettings


def main() -> None:
    """Write the images of each split that the set has, and what is known of it, to data/raw."""
    info, lines = fetch(load_params("download", Params).download, RAW)
    print(f"{RAW}: {info.title}", *lines, sep="\n")


if __name__ == "__main__":
    run_stage(main)
