"""Make scripts/report/tablesort.js, which sorts the table of the report: python -m scripts.report.tablesort.

The file holds the minified builds of Tablesort (MIT) and its license. The package comes from the npm registry and is
checked by SHA-256.
"""

import argparse
import tempfile
from pathlib import Path

from checks.plots_template import REGISTRY, Package, downloaded, members
from src.core.errors import exit_cleanly
from src.core.files import atomic

SCRIPT = Path(__file__).with_suffix(".js")
PACKAGE = Package("tablesort", "5.7.1", "6d6b645f34dab5d383dfbe084b299aac2b9b633bee789a1eb66b502ed06068d3")
LICENSE, *BUILDS = "LICENCE", "dist/tablesort.min.js", "dist/sorts/tablesort.number.min.js"


def main() -> None:
    """Write the file; `UserError` if the package cannot be downloaded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    with atomic(SCRIPT) as temporary, tempfile.TemporaryDirectory() as folder:
        texts = members(PACKAGE, downloaded(PACKAGE, Path(folder)), LICENSE, *BUILDS)
        temporary.write_text(script(*texts), encoding="utf-8", newline="\n")


def script(license_text: str, *builds: str) -> str:
    """Return the text of the file: where it comes from, ``license_text``, then ``builds``."""
    name = f"{PACKAGE.name} {PACKAGE.version} ({REGISTRY}{PACKAGE.archive}), MIT"
    made = "`python -m scripts.report.tablesort` makes this file: do not edit."
    return "\n".join([f"/*\n{name}\n{made}\n\n{license_text.strip()}\n*/", *(build.strip() for build in builds), ""])


if __name__ == "__main__":
    exit_cleanly(main)
