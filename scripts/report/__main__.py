"""Write the results of the working tree, of a commit or of an experiment as one page: python -m scripts.report.

The page needs no network: pictures, plots and scripts are inside. The same revision gives the same bytes.
"""

import argparse
import base64
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from checks.minutes import MINUTES
from checks.readme import CONDITIONS
from scripts.report import sections
from scripts.revision import Revision, commit_of, missing, open_revision
from scripts.table import read
from src.core.errors import UserError, exit_cleanly, one_line
from src.core.files import atomic
from src.core.params import PARAMS, parse_yaml, read_yaml
from src.results.comparison import BENCHMARK, PREDICTIONS
from src.results.history import RECIPES
from src.results.table import data_set, legend

FOLDER = Path(__file__).parent
OUT = Path("report.html")
TEMPLATE = Path(".dvc/plots.html")  # the page of `dvc plots`, which holds Vega


def main() -> None:
    """Write the page of the working tree, or of the revision or experiment named by ``--rev``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rev", help="a Git revision or the name of a DVC experiment; without it the working tree")
    parser.add_argument("--out", type=Path, default=OUT, help=f"where to write the page ({OUT})")
    arguments = parser.parse_args()
    page = page_of(open_revision(arguments.rev))
    with atomic(arguments.out) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    print(f"{arguments.out}: {len(page.encode()) / 1e6:.1f} MB; open it in a browser")


def page_of(revision: Revision) -> str:
    """Return the page; `UserError` if ``revision`` has no comparison, or if one of its files cannot be shown."""
    rows = read(revision)
    try:
        return rendered({**_results(revision, rows), **_circumstances(revision), "plots": plots_of(revision)})
    except UserError:
        raise
    except Exception as error:  # a damaged file can raise almost anything
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"{revision.label}: results damaged, or older than this page can show ({reason})") from None


def _results(revision: Revision, rows: list[sections.Row]) -> dict[str, Any]:
    """Return what the page says of the recipes."""
    by_name, info = {row["recipe"]: row for row in rows}, revision.dataset()
    history = revision.values(str(RECIPES), "recipes").get("recipes", {})
    predictions = revision.values(str(PREDICTIONS), "labels", "recipes")
    text = revision.text(str(PARAMS))
    params = parse_yaml(text, f"{PARAMS} in {revision.label}") if text else {}
    return {
        "edition": rows[0]["edition"],
        "data": info,
        "heading": data_set(info, rows),
        "headline": sections.headline(by_name, sections.test_images(info)),
        "table": sections.comparison(rows),
        "legend": legend(rows),
        "family": sections.family(rows, history, params.get("compress", {}).get("recipes", {})),
        "card": sections.model_card(by_name, history, params, predictions, info),
        "pictures": sections.captioned(revision.pictures(), read_yaml(FOLDER / "captions.yaml")),
    }


def _circumstances(revision: Revision) -> dict[str, Any]:
    """Return how the results came about; of the latency nothing, if an older benchmark did not say how it measured."""
    timing = revision.values(str(BENCHMARK))
    return {
        "label": revision.label,
        "commit": commit_of(revision),
        "timing": timing if timing.keys() >= set(CONDITIONS) else {},
        "precision": revision.values("metrics/train.json").get("precision", ""),
        "minutes": sections.minutes(revision.rows(str(MINUTES), "stage", "minutes", "machine")),
        "params": revision.text(str(PARAMS)),
        "requirements": revision.text("requirements.txt"),
    }


def plots_of(revision: Revision) -> dict[str, dict[str, Any]]:
    """Return the Vega specifications of the plots that dvc.yaml names, by name; `UserError` if DVC fails.

    DVC also lists each of DVCLive's files as a plot, under the path of the file. They are parts of the named plots.
    """
    if revision.commit and missing(f"{revision.commit}:./"):  # DVC would wait for ever
        reason = "this clone lacks files of it (git clone --filter), and DVC does not fetch them"
        raise UserError(f"{revision.label}: {reason}; first run `git archive {revision.commit[:10]} > /dev/null`")
    which = ["diff", revision.label, revision.label] if revision.commit else ["show"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dvc", "plots", *which, "--json", "--out", folder]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{revision.label}: `dvc plots` failed: {reason}")
    found = json.loads(done.stdout)["data"]
    drawn = {name: plot for name, plots in found.items() for plot in plots if plot["type"] == "vega"}
    return {name: plot["content"] for name, plot in drawn.items() if "/" not in name}


def rendered(values: dict[str, Any]) -> str:
    """Return the page of ``values``, by the names that the template has for them."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = lambda png: f"data:image/png;base64,{base64.b64encode(png).decode()}"
    names = ("page.css", "page.js", "tablesort.js")
    assets = {name: Markup((FOLDER / name).read_text(encoding="utf-8")) for name in names}
    return environment.get_template("page.html.jinja").render(**values, assets=assets, vega=vega())


def vega() -> dict[str, Any]:
    """Return the builds of Vega and their licenses, from the page of `dvc plots`; `UserError` if they are not there."""
    text = TEMPLATE.read_text(encoding="utf-8") if TEMPLATE.exists() else ""
    builds = re.findall(r"^<script>\n(.*?)</script>$", text, re.DOTALL | re.MULTILINE)
    licenses = re.search(r"<!--.*?\n\n(.*?)-->", text, re.DOTALL)
    if not builds or not licenses:
        raise UserError(f"{TEMPLATE}: has no builds of Vega; make it with `python -m checks.vendor`")
    return {"builds": [Markup(build) for build in builds], "licenses": Markup(licenses[1].strip())}


if __name__ == "__main__":
    exit_cleanly(main)
