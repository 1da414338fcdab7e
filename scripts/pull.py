"""Fetch the networks that are not here and that the DVC remote has: python -m scripts.pull (`make repro` does it).

In a clone these are the trained network and three small ones, which took hours (released/files).
"""

import argparse
from pathlib import PurePath

from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo

from src.core.errors import UserError, exit_cleanly, one_line
from src.core.recipes import ROOT
from src.network.record import NETWORKS, network_path


def main() -> None:
    """Pull them, and say if the trained network is not among them."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    pull()
    if not network_path(ROOT).exists():
        print("The trained network cannot be pulled; it will be trained.")


def pull() -> None:
    """Pull each network that can be `pulled`; `UserError` if DVC fails, for example at a damaged one."""
    with Repo() as repo:
        missing = [out.def_path for out in repo.index.outs if pulled(out)]
        try:
            if missing:
                repo.pull(missing)
        except DvcException as error:
            raise UserError(f"`dvc pull {' '.join(missing)}` failed: {one_line(error)}") from None


def pulled(out: Output) -> bool:
    """Return whether ``out`` is a network that is not here, and that the remote has."""
    if PurePath(out.def_path).parent != NETWORKS or out.exists or not out.hash_info:
        return False
    try:
        return bool(out.repo.cloud.get_remote_odb().exists(out.hash_info.value))
    except Exception:  # no remote, or one that does not answer, in any way that a file system may fail
        return False


if __name__ == "__main__":
    exit_cleanly(main)
