"""Make .dvc/plots.html, the page that `dvc plots` fills, with Vega inside: python -m checks.plots_template.

DVC's own page loads Vega from the internet; this page needs no network. The versions are those of DVC's own page, and
a test compares them. The packages come from the npm registry and are checked by SHA-256.
"""

import argparse
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pooch

from src.core.errors import UserError, exit_cleanly, one_line
from src.core.files import atomic

TEMPLATE = Path(".dvc/plots.html")  # .dvc/config names it
REGISTRY = "https://registry.npmjs.org/"
TIMEOUT = 30  # seconds without a byte after which a download is given up
RETRIES = 3  # attempts after the first


@dataclass(frozen=True)
class Package:
    """A package of npm: its name, its version, and the SHA-256 of its archive."""

    name: str
    version: str
    sha256: str

    @property
    def archive(self) -> str:
        """Return the path of the archive below the address of the registry."""
        return f"{self.name}/-/{self.name}-{self.version}.tgz"


@dataclass(frozen=True)
class Build:
    """What the page takes from a package: the minified JavaScript for browsers, and the text of the license."""

    script: str
    license: str


PACKAGES = (  # in the order in which a browser must load them
    Package("vega", "5.20.2", "d77deab01d6104b1239228720721f93003e60797d2faced7ffdd759fa70f989d"),
    Package("vega-lite", "5.2.0", "f64ca4745f043447ac86b67dc9e9592ec2b85ac8b8dafc35faf970f142463e4b"),
    Package("vega-embed", "6.18.2", "93aeee312e92077b0252ef026c0fe0ec8fa430c19825aeada6cd3a6804e68e1b"),
)


def main() -> None:
    """Write the page; `UserError` if a package cannot be downloaded, or if this is not the top of the repository."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    if not TEMPLATE.parent.is_dir():
        raise UserError(f"{TEMPLATE.parent}: no such folder; run from the top of the repository")
    with atomic(TEMPLATE) as temporary, tempfile.TemporaryDirectory() as folder:
        builds = {package: build(package, downloaded(package, Path(folder))) for package in PACKAGES}
        temporary.write_text(page(builds), encoding="utf-8", newline="\n")


def downloaded(package: Package, folder: Path) -> Path:
    """Return the path of the archive of ``package``, downloaded from the registry into ``folder``.

    Raises `UserError` if the registry cannot be reached, stops sending, or sends a file with another SHA-256.
    """
    registry = {package.archive: f"sha256:{package.sha256}"}
    store = pooch.create(folder, REGISTRY, registry=registry, retry_if_failed=RETRIES)
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
    try:
        return Path(store.fetch(package.archive, downloader=downloader))
    except Exception as error:  # a broken answer of a server can raise almost anything
        raise UserError(f"{REGISTRY}{package.archive}: cannot be downloaded: {one_line(error)}") from error


def build(package: Package, archive: Path) -> Build:
    """Return what the page takes from the ``archive`` of ``package``; `UserError` if one of the files is missing."""
    return Build(*members(package, archive, f"build/{package.name}.min.js", "LICENSE"))


def members(package: Package, archive: Path, *names: str) -> list[str]:
    """Return the texts of the files ``names`` in the ``archive`` of ``package``; `UserError` if one is missing."""
    try:
        with tarfile.open(archive) as files:
            return [files.extractfile(f"package/{name}").read().decode() for name in names]
    except Exception as error:  # a damaged archive can raise almost anything
        raise UserError(f"{REGISTRY}{package.archive}: not readable: {one_line(error)}") from error


def page(builds: Mapping[Package, Build]) -> str:
    """Return the page with ``builds`` inside; DVC puts the plots in place of {plot_divs}.

    There is no {scripts}, in whose place DVC would put the tags that load Vega from the internet.
    """
    licenses = "\n".join(f"{_title(package)}\n\n{build.license}" for package, build in builds.items())
    scripts = "\n".join(f"<script>\n{build.script}</script>" for build in builds.values())
    return f"""<!DOCTYPE html>
<html>
<head>
    <meta charset="utf-8">
<!--
The page that `dvc plots` fills, with Vega inside. `python -m checks.plots_template` makes it: do not edit.

{licenses}
The three builds contain parts of other packages: the modules of D3, delaunator, topojson-client, array-flat-polyfill,
clone, fast-deep-equal, fast-json-stable-stringify, fast-json-patch, json-stringify-pretty-compact, lru-cache, semver,
tslib and yallist, all under permissive licenses (BSD-3-Clause, ISC, MIT, 0BSD, CC0).
-->
    {{refresh_tag}}
    <title>DVC Plot</title>
    <style>
        table {{
            border-spacing: 15px;
        }}
    </style>
{scripts}
</head>
<body>
    {{plot_divs}}
</body>
</html>
"""


def _title(package: Package) -> str:
    """Return the line that names ``package`` above its license."""
    return f"{package.name} {package.version} ({REGISTRY}{package.archive}), BSD-3-Clause:"


if __name__ == "__main__":
    exit_cleanly(main)
