"""The report: what is on the page, of which revisions it is made, and that a browser shows it without a network."""

import base64
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import ROOT, commit, run
from networks import INFO

from scripts.report import __main__ as report
from scripts.report import sections
from scripts.report.__main__ import FOLDER
from src.core.errors import UserError, exit_cleanly
from src.core.files import read_csv, write_csv

COPIED = ("metrics", "plots", "dvc.yaml", "params.yaml", "requirements.txt", "docs/minutes.csv", ".dvc/plots.html")
WATCH = """<script>
const faults = [];
addEventListener("error", (event) => faults.push(String(event.message)), true);
addEventListener("unhandledrejection", (event) => faults.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => faults.push(`blocked: ${event.blockedURI}`));
console.error = (...told) => faults.push(told.join(" "));
</script>"""
LOOK = """<script>
const recipes = () => [...document.querySelectorAll("#comparison tbody th")].map((cell) => cell.textContent);
const headings = [...document.querySelectorAll("#comparison thead th")];
const heading = (text) => headings.find((cell) => cell.textContent.replace("\u00a0", " ") === text);
setTimeout(() => {
  const found = { faults, untouched: recipes() };
  heading("test % ↑").click();
  found.best = recipes();
  heading("test % ↑").click();
  found.worst = recipes();
  heading("file ↓").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
  found.smallest = recipes();
  found.focus = heading("file ↓").tabIndex;
  found.plots = [...document.querySelectorAll("[data-plot]")].map((place) => {
    const { width, height } = place.querySelector("svg.marks")?.getBoundingClientRect() ?? { width: 0, height: 0 };
    return Math.min(width, height);
  });
  found.pictures = [...document.images].map((picture) => picture.naturalWidth);
  found.width = innerWidth;
  found.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  parent.postMessage(found, "*");
}, 3000);
</script>"""
FRAME = """<iframe src="page.html" style="width: {width}px; height: 900px; border: 0"></iframe>
<pre></pre>
<script>
addEventListener("message", (event) => document.querySelector("pre").textContent = JSON.stringify(event.data));
</script>"""


def repository(folder):
    """A repository with the results of this one, but only a part of its code."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, folder / name)
    (folder / ".gitignore").write_text("/report.html\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A repository whose first commit, tagged empty, has no results, and whose second has those of this repository."""
    folder = tmp_path_factory.mktemp("report")
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "dvc", "init", "-q")
    commit(folder, "no results")
    run(folder, "git", "tag", "empty")
    repository(folder)
    commit(folder, "results")
    return folder


@pytest.fixture
def written(folder, monkeypatch):
    """A function that writes the page with the options given and returns its text."""
    monkeypatch.chdir(folder)

    def write(*options):
        monkeypatch.setattr(sys, "argv", ["report", *options])
        report.main()
        return Path("report.html").read_text(encoding="utf-8")

    yield write
    run(folder, "git", "checkout", "-q", "--", ".")
    Path("report.html").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def committed(folder):
    """The page of the working tree, which is that of the last commit."""
    place = folder / "committed"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["report", "--out", str(place)])
        report.main()
    text = place.read_text(encoding="utf-8")
    place.unlink()
    return text


def visible(text):
    """The text of a page as people read it: no tags, scripts or styles, and one space for any white space."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", text.partition("<body>")[2], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_page_has_every_picture_plot_recipe_and_section(committed):
    for picture in (ROOT / "plots/pictures").glob("*.png"):
        assert base64.b64encode(picture.read_bytes()).decode() in committed, picture.name
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    named = [next(iter(plot)) for plot in pipeline["plots"] if isinstance(plot, dict)]
    assert [html.unescape(name) for name in re.findall('data-plot="([^"]*)"', committed)] == named
    rows = read_csv(ROOT / "metrics/comparison.csv")
    assert re.findall('<th scope="row" data-sort="([^"]*)">', committed) == [row["recipe"] for row in rows]
    targets = re.findall('href="#([a-z]+)"', committed)
    assert len(targets) == 6
    assert all(committed.count(f'<h2 id="{name}">') == 1 for name in targets)


def test_page_loads_nothing_and_names_licenses(committed):
    tags = re.sub(r"^<script>\n.*?</script>$", "", committed, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"<script[^>]*\ssrc|<link\b|<iframe\b|@import|url\(", tags)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'\ssrc="([^"]*)"', tags))
    assert "default-src 'none'; img-src data:;" in committed
    assert "University of Washington Interactive Data Lab" in committed
    assert "Copyright (c) Tristen Brown" in committed


def test_page_says_how_it_was_made(committed, written):
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    seen = visible(committed)
    assert re.search(rf"{head} of [0-9-]+: results", seen)
    assert "not committed" not in seen
    timing = json.loads(Path("metrics/benchmark.json").read_text())
    assert f"thread of {timing['cpu']}" in seen
    assert f"ONNX Runtime {timing['onnxruntime']}" in seen
    Path("params.yaml").write_text(Path("params.yaml").read_text() + "# <changed>\n")
    text = written()
    assert "# &lt;changed&gt;" in text
    assert "not committed" in visible(text)


def test_page_of_a_revision_shows_its_files_and_the_same_bytes_each_time(written):
    first = written("--rev", "HEAD")
    rows = read_csv(Path("metrics/comparison.csv"))
    write_csv(Path("metrics/comparison.csv"), [row | {"edition": "sample"} for row in rows])
    assert written("--rev", "HEAD") == first
    assert "results on the small sample" not in visible(first)
    assert "results on the small sample" in visible(written())


def test_page_without_a_flagship_and_without_what_older_revisions_lack(written):
    rows = read_csv(Path("metrics/comparison.csv"))
    kept = ("recipe", "edition", "test_accuracy", "bytes")
    write_csv(
        Path("metrics/comparison.csv"), [{name: row[name] for name in kept} for row in rows if row["recipe"] == "dense"]
    )
    for name in ("recipes.json", "dataset.json", "predictions.json", "benchmark.json", "train.json"):
        Path("metrics", name).unlink()
    Path("docs/minutes.csv").unlink()
    shutil.rmtree("plots")
    seen = visible(written())
    assert "no recipe with the name flagship" in seen
    assert "This revision has no pictures." in seen
    assert "This revision has no plots." in seen


@pytest.mark.parametrize(
    ("options", "damage", "told"),
    [
        (["--rev", "nowhere"], None, "nowhere: no commit, branch, tag or experiment has this name"),
        (["--rev", "empty"], None, "metrics/comparison.csv: no results in empty; run `dvc repro`"),
        ([], "metrics/comparison.csv", "metrics/comparison.csv: not readable in the working tree"),
        ([], "metrics/recipes.json", "metrics/recipes.json: not readable in the working tree"),
        ([], "metrics/dataset.json", "metrics/dataset.json: not readable in the working tree"),
        ([], "metrics/predictions.json", "metrics/predictions.json: not readable in the working tree"),
        ([], "docs/minutes.csv", "docs/minutes.csv: not readable in the working tree"),
        ([], "params.yaml", "params.yaml in the working tree: not valid YAML: line 2: "),
        ([], ".dvc/plots.html", ".dvc/plots.html: has no builds of Vega"),
    ],
)
def test_bad_input_ends_in_one_line_and_leaves_the_old_page(written, capsys, options, damage, told):
    Path("report.html").write_text("old")
    if damage:
        Path(damage).write_text("[1, {\n")
    with pytest.raises(SystemExit) as stop:
        exit_cleanly(lambda: written(*options))
    assert stop.value.code == (2 if damage == "params.yaml" else 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {told}")
    assert Path("report.html").read_text() == "old"
    assert not list(Path().glob(".report.html*"))


def test_every_picture_has_a_caption_without_numbers():
    captions = yaml.safe_load((FOLDER / "captions.yaml").read_text(encoding="utf-8"))
    assert captions.keys() == {path.stem for path in (ROOT / "plots/pictures").glob("*.png")}
    assert not [name for name, caption in captions.items() if re.search(r"\d", caption)]


def test_the_card_of_the_flagship_says_what_the_margin_decides(written):
    rows = read_csv(Path("metrics/comparison.csv"))
    write_csv(Path("metrics/comparison.csv"), [row | {"claim": "outside"} for row in rows])
    seen = visible(written())
    assert "Within the margin: outside." in seen
    assert "compare.margin" in seen


def test_score_has_the_interval_of_wilson():
    assert sections.score(0.9, 100) == {"accuracy": "90.00", "interval": "82.56 to 94.48"}  # known from textbooks
    assert sections.score(0.9, 0) == {"accuracy": "90.00", "interval": ""}


def test_family_nests_recipes_and_tells_each_step_once():
    rows = [
        {"recipe": name, "parent": parent, "test_accuracy": 0.9}
        for name, parent in (("dense", "trained"), ("slim", "cut"), ("cut", "trained"))
    ]
    history = {"cut": {"steps": ["cut after conv4_2"]}, "slim": {"steps": ["cut after conv4_2", "fewer channels"]}}
    history["slim"]["control"] = True
    (root,) = sections.family(rows, history, {"slim": {"step": "prune_channels"}})
    assert (root["name"], [node["name"] for node in root["children"]]) == ("trained", ["dense", "cut"])
    (slim,) = root["children"][1]["children"]
    assert (slim["name"], slim["tags"], slim["done"]) == ("slim", ["prune_channels", "control"], ["fewer channels"])
    assert [node["tags"] for node in root["children"]] == [[], []]


def test_class_scores_start_with_the_lowest():
    info = INFO.model_copy(update={"classes": ("sun", "rain", "snow"), "images": {"test": 4}})
    predictions = {"labels": "00000102", "recipes": {"flagship": "00010102", "short": "0001"}}
    found = [(score["name"], score["accuracy"]) for score in sections.class_scores(predictions, "flagship", info)]
    assert found == [("sun", "50.0"), ("rain", "100.0"), ("snow", "100.0")]
    assert sections.class_scores(predictions, "dense", info) == []
    with pytest.raises(UserError, match="expected the classes of 4 images"):
        sections.class_scores(predictions, "short", info)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A function from the path of a page to the document, as HTML, that a browser without a network makes of it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or pytest.skip("no chromium on PATH")
    folder = tmp_path_factory.mktemp("browser")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={folder}")
    offline = ("--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000")

    def shown(page):
        command = (chromium, *options, *offline, "--dump-dom", page.as_uri())
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    (folder / "probe.html").write_text("<script>document.write(6 * 7)</script>")
    if "42" not in shown(folder / "probe.html"):  # for example a snap, which may not read the folder of the tests
        pytest.skip(f"{chromium} cannot open a file here")
    return shown


@pytest.mark.parametrize("width", [390, 1400])
def test_browser_without_a_network_shows_the_page(committed, browser, tmp_path, width):
    body, _, end = committed.replace("<head>", f"<head>{WATCH}", 1).rpartition("</body>")
    (tmp_path / "page.html").write_text(f"{body}{LOOK}</body>{end}")
    (tmp_path / "frame.html").write_text(FRAME.format(width=width))
    document = browser(tmp_path / "frame.html")
    found = json.loads(html.unescape(re.search("<pre>(.*?)</pre>", document, re.DOTALL)[1]))
    rows = {row["recipe"]: row for row in read_csv(ROOT / "metrics/comparison.csv")}
    assert found["faults"] == []
    assert found["width"] == width
    assert found["overflow"] <= 0
    assert len(found["plots"]) > 5
    assert min(found["plots"]) > 100
    assert len(found["pictures"]) == len(list((ROOT / "plots/pictures").glob("*.png")))
    assert min(found["pictures"]) > 100
    assert found["untouched"] == list(rows)
    accuracies = [rows[name]["test_accuracy"] for name in found["best"]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert [rows[name]["test_accuracy"] for name in found["worst"]] == sorted(accuracies)
    assert [rows[name]["bytes"] for name in found["smallest"]] == sorted(row["bytes"] for row in rows.values())
    assert found["focus"] == 0


def test_no_page_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report"])
    with pytest.raises(UserError):
        report.main()
    assert not list(tmp_path.iterdir())
