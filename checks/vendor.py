"""Write the two files that hold packages of npm: python -m checks.vendor.

.dvc/plots.html is the page that `dvc plots` fills, with Vega inside; DVC's own page loads Vega from the internet. Its
versions are those of DVC's own page. scripts/report/tablesort.js sorts the table of the report. The packages come from
the npm registry and are checked by SHA-256.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts.npm import Package, contents_of
from src.core.errors import exit_cleanly
from src.core.files import atomic

TEMPLATE = Path(".dvc/plots.html")  # .dvc/config names it
SCRIPT = Path("scripts/report/tablesort.js")
MADE = "`python -m checks.vendor` makes {}: do not edit."


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


def main() -> None:
    """Write both files; `UserError` if a package cannot be had."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for path, text in ((TEMPLATE, page(map(texts_of, VEGA))), (SCRIPT, script(*texts_of(TABLESORT)))):
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def texts_of(package: Package) -> list[str]:
    """Return the texts of the files of ``package``: its license, then minified JavaScript; `UserError` without them."""
    return [content.decode() for content in contents_of(package)]


def script(license_text: str, *builds: str) -> str:
    """Return the text of tablesort.js: where it comes from, ``license_text``, then ``builds``."""
    comment = f"/*\n{TABLESORT.title}\n{MADE.format('this file')}\n\n{license_text.strip()}\n*/"
    return "\n".join([comment, *(build.strip() for build in builds), ""])


def page(vega: Iterable[Sequence[str]]) -> str:
    """Return the page with license and build of each package of ``vega``; DVC puts the plots in place of {plot_divs}.

    There is no {scripts}, in whose place DVC would put the tags that load Vega from the internet.
    """
    texts, builds = zip(*vega, strict=True)
    licenses = "\n".join(f"{package.title}:\n\n{text}" for package, text in zip(VEGA, texts, strict=True))
    scripts = "\n".join(f"<script>\n{build}</script>" for build in builds)
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
