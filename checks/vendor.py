"""Write the two files that hold packages of npm: python -m checks.vendor.

.dvc/plots.html is the page that `dvc plots` fills, with Vega inside; DVC's own page loads Vega from the internet. Its
versions are those of DVC's own page. scripts/report/tablesort.js sorts the table of the report. The packages come from
the npm registry and are checked by SHA-256.
"""

import argparse
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pooch

from src.core.errors import UserError, exit_cleanly, one_line
from src.core.files import atomic

TEMPLATE = Path(".dvc/plots.html")  # .dvc/config names it
SCRIPT = Path("scripts/report/tablesort.js")
REGISTRY = "https://registry.npmjs.org/"
TIMEOUT = 30  # seconds without a byte after which a download is given up
RETRIES = 3  # attempts after the first
MADE = "`python -m checks.vendor` makes {}: do not edit."


@dataclass(frozen=True)
class Package:
    """A package of npm: name, version, SHA-256 of its archive, license, and the files that are taken out of it."""

    name: str
    version: str
    sha256: str
    license: str
    files: tuple[str, ...]

    @property
    def archive(self) -> str:
        """The path of the archive below the address of the registry."""
        return f"{self.name}/-/{self.name}-{self.version}.tgz"

    @property
    def title(self) -> str:
        """The line that names the package above its license."""
        return f"{self.name} {self.version} ({REGISTRY}{self.archive}), {self.license}"


VEGA = tuple(  # in the order in which a browser must load them
    Package(name, version, sha256, "BSD-3-Clause", ("LICENSE", f"build/{name}.min.js"))
    for name, version, sha256 in (
        ("vega", "5.20.2", "d77deab01d6104b1239228720721f93003e60797d2faced7ffdd759fa70f989d"),
        ("vega-lite", "5.2.0", "f64ca4745f043447ac86b67dc9e9592ec2b85ac8b8dafc35faf970f142463e4b"),
        ("vega-embed", "6.18.2", "93aeee312e92077b0252ef026c0fe0ec8fa430c19825aeada6cd3a6804e68e1b"),
    )
)
TABLESORT = Package(
    "tablesort",
    "5.7.1",
    "6d6b645f34dab5d383dfbe084b299aac2b9b633bee789a1eb66b502ed06068d3",
    "MIT",
    ("LICENCE", "dist/tablesort.min.js", "dist/sorts/tablesort.number.min.js"),
)
ONNXRUNTIME = Package(  # for `make page`. The archive holds no license; those of the wheel for Python are the same
    "onnxruntime-web",
    "1.30.0",
    "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
    "MIT",
    ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"),
)


def main() -> None:
    """Write both files; `UserError` if a package cannot be had, or if this is not the top of the repository."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for path in (TEMPLATE, SCRIPT):
        if not path.parent.is_dir():
            raise UserError(f"{path.parent}: no such folder; run from the top of the repository")
    texts = {package: texts_of(package) for package in (*VEGA, TABLESORT)}
    for path, text in ((TEMPLATE, page([texts[package] for package in VEGA])), (SCRIPT, script(*texts[TABLESORT]))):
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def texts_of(package: Package) -> list[str]:
    """Return the texts of the files of ``package``: its license, then minified JavaScript; `UserError` without them."""
    with tempfile.TemporaryDirectory() as folder:
        return [content.decode() for content in contents_of(package, Path(folder))]


def contents_of(package: Package, folder: Path) -> list[bytes]:
    """Return the files of ``package``, whose archive is kept in ``folder`` and taken from there the next time.

    Raises `UserError` if the registry cannot be reached, stops sending, or sends an archive with another SHA-256, and
    if the archive lacks one of the files.
    """
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT)
    registry = {package.archive: f"sha256:{package.sha256}"}
    store = pooch.create(folder, REGISTRY, registry=registry, retry_if_failed=RETRIES)
    try:
        with tarfile.open(store.fetch(package.archive, downloader=downloader)) as archive:
            return [archive.extractfile(f"package/{name}").read() for name in package.files]
    except Exception as error:  # a broken answer of a server can raise almost anything
        raise UserError(f"{REGISTRY}{package.archive}: cannot be used: {one_line(error)}") from error


def script(license_text: str, *builds: str) -> str:
    """Return the text of tablesort.js: where it comes from, ``license_text``, then ``builds``."""
    comment = f"/*\n{TABLESORT.title}\n{MADE.format('this file')}\n\n{license_text.strip()}\n*/"
    return "\n".join([comment, *(build.strip() for build in builds), ""])


def page(vega: list[list[str]]) -> str:
    """Return the page with license and build of each package of ``vega``; DVC puts the plots in place of {plot_divs}.

    There is no {scripts}, in whose place DVC would put the tags that load Vega from the internet.
    """
    licenses = "\n".join(f"{package.title}:\n\n{text}" for package, (text, _) in zip(VEGA, vega, strict=True))
    scripts = "\n".join(f"<script>\n{build}</script>" for _, build in vega)
    return f"""<!DOCTYPE html>
<html>
<head>
    <meta charset="utf-8">
<!--
The page that `dvc plots` fills, with Vega inside. {MADE.format("it")}

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


if __name__ == "__main__":
    exit_cleanly(main)
