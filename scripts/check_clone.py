"""Check that DVC can work in this clone: python -m scripts.check_clone [--history].

It needs a commit of Git; to keep an experiment made in a temporary folder (`make demo`), also the whole history, and a
path in ASCII.
"""

import argparse
from pathlib import Path

from scripts.revision import git, missing
from src.core.errors import UserError, exit_cleanly

ADVICE = "files without a history, as from a ZIP, get one by `git init -q && git add -A && git commit -q -m start`"


def main() -> None:
    """End with 1 and one line that says what to do if something is missing, else with 0 and nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", action="store_true", help="check the history too")
    check_commit()
    if parser.parse_args().history:
        check_path()
        check_history()


def check_commit() -> None:
    """Raise `UserError` if there is no commit, or if Git does not open the repository."""
    try:
        git("rev-parse", "--verify", "HEAD^{commit}")
    except UserError as error:
        advice = "" if "safe.directory" in str(error) else f"; {ADVICE}"
        raise UserError(f"{error}{advice}") from None


def check_path() -> None:
    """Raise `UserError` if this folder's path is not in ASCII: DVC 3.67 cannot write it for `dvc exp run --temp`."""
    if not str(Path.cwd()).isascii():
        raise UserError(f"{Path.cwd()}: DVC makes no experiment in a folder whose path is not in ASCII; move the clone")


def check_history() -> None:
    """Raise `UserError` if this clone lacks old commits or old files."""
    if git("rev-parse", "--is-shallow-repository").strip() == b"true":
        reason = "lacks old commits (git clone --depth), and DVC would lose the experiment"
        raise UserError(f"this clone {reason}; first run `git fetch --unshallow`")
    if missing("HEAD"):
        reason = "lacks old files (git clone --filter), and DVC does not fetch them"
        raise UserError(f"this clone {reason}; first run `git fetch --refetch --no-filter`")


if __name__ == "__main__":
    exit_cleanly(main)
