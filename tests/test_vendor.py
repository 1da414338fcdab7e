"""The files that hold packages of npm: how they are made, and that a browser without a network draws the plots."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from dvc_render.vega import VegaRenderer

from checks import vendor
from checks.vendor import SCRIPT, TABLESORT, TEMPLATE, VEGA, page, script
from scripts import npm
from scripts.npm import Package
from scripts.report import __main__ as report
from src.core.errors import exit_cleanly

ROOT = Path(__file__).parent.parent
COMMITTED, COMMITTED_SCRIPT = ((ROOT / path).read_bytes().decode() for path in (TEMPLATE, SCRIPT))
PLOTS_DIVS, SCRIPTS, REFRESH = "{plot_divs}", "{scripts}", "{refresh_tag}"
SCRIPT_SHA256 = [  # of the minified files in the packages
    "4794d0169cb1f3ebad8117fe98ba5bd652dd725905ec0384e832391dbccb03be",
    "d73157451b3978015ab31dacd55ff90d986ab8663fc0abed50f97b3cd90002cb",
    "1ba9826431ddc9805e815ad92acc811c819f2bfd32bda2a128b8c4b5070fab5e",
]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "tester",
    "GIT_AUTHOR_EMAIL": "tester@example.org",
    "GIT_COMMITTER_NAME": "tester",
    "GIT_COMMITTER_EMAIL": "tester@example.org",
    "DVC_NO_ANALYTICS": "1",
}
PLOTS = {  # by the id that DVC makes of the name: name, template, x, y
    "Loss": ("Loss", "linear", "step", "loss"),
    "Confusion__counts": ("Confusion, counts", "confusion", "predicted", "actual"),
    "Confusion__shares": ("Confusion, shares", "confusion_normalized", "predicted", "actual"),
    "Accuracy_of_each_class": ("Accuracy of each class", "bar_horizontal", "loss", "actual"),
}
TABLE = "step\tloss\tactual\tpredicted\n0\t2.5\tcat\tdog\n1\t{}\tdog\tdog\n2\t1.0\tcat\tcat\n"
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=5000")


def parts(text):
    """License and build of each package in a page."""
    scripts = re.findall(r"^<script>\n(.*?)</script>$", text, re.DOTALL | re.MULTILINE)
    licenses = re.findall(r"BSD-3-Clause:\n\n(.*?DAMAGE\.\n)", text, re.DOTALL)
    return [*map(list, zip(licenses, scripts, strict=True))]


def loads_nothing(text):
    """Whether no tag in ``text`` takes a script or a style from elsewhere."""
    return not re.search(r"<script[^>]*\ssrc|<link\s|cdn\.jsdelivr\.net", text, re.IGNORECASE)


def test_versions_are_those_that_dvc_loads():
    wanted = re.findall(r"/npm/([\w-]+)@([\d.]+)", VegaRenderer.SCRIPTS)
    assert wanted == [(package.name, package.version) for package in VEGA]


def test_committed_page_is_what_the_script_makes_of_the_packages():
    found = parts(COMMITTED)
    assert [hashlib.sha256(build.encode()).hexdigest() for _, build in found] == SCRIPT_SHA256
    assert page(found) == COMMITTED
    assert '<meta charset="utf-8">' in COMMITTED[:1024]  # further down a browser need not look
    for package, (text, build) in zip(VEGA, found, strict=True):
        assert f"{package.name} {package.version} (" in COMMITTED.partition("-->")[0]
        assert "University of Washington Interactive Data Lab" in text
        assert f'"{package.version}"' in build


def test_committed_tablesort_is_what_the_script_makes_of_the_package():
    text = re.search(r"do not edit\.\n\n(.*?)\n\*/", COMMITTED_SCRIPT, re.DOTALL)[1]
    builds = [f"/*!{build}" for build in COMMITTED_SCRIPT.split("/*!")[1:]]
    assert len(builds) == len(TABLESORT.files) - 1
    assert script(text, *builds) == COMMITTED_SCRIPT
    assert TABLESORT.version in COMMITTED_SCRIPT.partition("*/")[0]


def test_config_and_report_name_the_files():
    found = re.search(r"^\[plots\]\n\s+html_template = (.*)$", (ROOT / ".dvc/config").read_text(), re.MULTILINE)
    assert Path(".dvc") / found[1] == TEMPLATE == report.TEMPLATE
    assert ROOT / SCRIPT.parent == report.FOLDER


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A folder that a local registry serves; the working folder is another one, where both files are old."""
    folder = tmp_path / "registry"
    folder.mkdir()
    handler = type("Handler", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    for path in (TEMPLATE, SCRIPT):
        (tmp_path / "work" / path).parent.mkdir(parents=True)
        (tmp_path / "work" / path).write_text("old")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sys, "argv", ["vendor"])
    monkeypatch.setattr(npm, "REGISTRY", f"http://127.0.0.1:{httpd.server_port}/")
    monkeypatch.setattr(npm, "RETRIES", 0)
    yield folder
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def published(registry, name, members):
    """A package in the registry, whose archive holds ``members``, and the path of the archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for member, data in members.items():
            info = tarfile.TarInfo(f"package/{member}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    package = Package(name, "1.0.0", hashlib.sha256(content.getvalue()).hexdigest(), "MIT", ("LICENSE", "a.js"))
    path = registry / package.archive
    path.parent.mkdir(parents=True)
    path.write_bytes(content.getvalue())
    return package, path


GOOD = {"a.js": 'var ä = {"a": {}};\n'.encode(), "LICENSE": b"Do what you like.\n"}


def test_script_writes_the_same_bytes_twice(registry, monkeypatch):
    monkeypatch.setattr(vendor, "VEGA", (published(registry, "tiny", GOOD)[0],))
    monkeypatch.setattr(vendor, "TABLESORT", published(registry, "sort", GOOD)[0])
    vendor.main()
    first = [path.read_text(encoding="utf-8") for path in (TEMPLATE, SCRIPT)]
    vendor.main()
    assert [path.read_text(encoding="utf-8") for path in (TEMPLATE, SCRIPT)] == first
    assert '<script>\nvar ä = {"a": {}};\n</script>' in first[0]
    assert first[1].endswith('*/\nvar ä = {"a": {}};\n')
    assert all("Do what you like." in text for text in first)
    assert {path for path in Path().rglob("*") if path.is_file()} == {TEMPLATE, SCRIPT}


@pytest.mark.parametrize("damage", ["missing", "wrong", "incomplete"])
def test_script_ends_in_one_line_and_leaves_the_old_files(registry, monkeypatch, capsys, damage):
    members = {"LICENSE": b""} if damage == "incomplete" else GOOD
    package, archive = published(registry, "sort", members)
    monkeypatch.setattr(vendor, "VEGA", (published(registry, "tiny", GOOD)[0],))
    monkeypatch.setattr(vendor, "TABLESORT", package)
    if damage == "missing":
        archive.unlink()
    if damage == "wrong":
        archive.write_bytes(b"another")
    with pytest.raises(SystemExit, match="1"):
        exit_cleanly(vendor.main)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "sort/-/sort-1.0.0.tgz: cannot be used: " in line
    assert [path.read_text() for path in Path().rglob("*") if path.is_file()] == ["old", "old"]


def run(folder, *command):
    """Run a command in ``folder``."""
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{command} gave {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"


def commit(folder, loss):
    (folder / "data.tsv").write_text(TABLE.format(loss))
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", f"loss {loss}")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages that DVC writes for one revision and for two, in a repository with the project's page and config."""
    folder = tmp_path_factory.mktemp("plots")
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "dvc", "init", "-q")
    for name in (TEMPLATE, Path(".dvc/config")):
        shutil.copy(ROOT / name, folder / name)
    plots = [{name: {"template": kind, "x": x, "y": {"data.tsv": y}}} for name, kind, x, y in PLOTS.values()]
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"plots": plots}, sort_keys=False))
    commit(folder, 1.5)
    commit(folder, 1.8)
    run(folder, "dvc", "plots", "show", "-o", "one")
    run(folder, "dvc", "plots", "diff", "HEAD~1", "HEAD", "-o", "two")
    return {name: folder / name / "index.html" for name in ("one", "two")}


@pytest.mark.parametrize("name", ["one", "two"])
def test_page_that_dvc_writes_loads_nothing(pages, name):
    text = pages[name].read_text()
    assert loads_nothing(text)
    assert all(text.count(f'<div id = "{plot}">') == 1 for plot in PLOTS)
    assert not any(placeholder in text for placeholder in (PLOTS_DIVS, SCRIPTS, REFRESH))
    assert all(build in text for _, build in parts(COMMITTED))


class Canvases(HTMLParser):
    """Collects in ``sizes`` width and height of the canvases in each element of the class vega-embed, by its id."""

    def __init__(self):
        super().__init__()
        self.sizes, self.place = {}, None

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if "vega-embed" in (attributes.get("class") or "").split():
            self.place = attributes["id"]
            self.sizes[self.place] = []
        elif tag == "canvas":
            self.sizes[self.place].append((int(attributes["width"]), int(attributes["height"])))


def shown(chromium, page, profile):
    """The document that a browser without a network has made of ``page``, as HTML."""
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}")
    command = (chromium, *options, *OFFLINE, "--dump-dom", page.as_uri())
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A function from the path of a page to the document that a browser makes of it."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("no chromium on PATH")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "probe.html").write_text("<script>document.write(6 * 7)</script>")
    try:
        works = "42" in shown(chromium, folder / "probe.html", folder / "profile")
    except (OSError, subprocess.SubprocessError):
        works = False
    if not works:  # for example a snap, which may not read the folder of the tests
        pytest.skip(f"{chromium} cannot open a file here")
    return lambda page: shown(chromium, page, folder / "profile")


def canvases(document):
    parser = Canvases()
    parser.feed(document)
    return parser.sizes


def test_browser_without_a_network_draws_every_plot(pages, browser):
    one, two = (canvases(browser(pages[name])) for name in ("one", "two"))
    for sizes in (one, two):
        assert sizes.keys() == PLOTS.keys()
        for plot, drawn in sizes.items():
            ((width, height),) = drawn
            assert min(width, height) > 100, plot
    assert two["Confusion__counts"][0][0] > 1.5 * one["Confusion__counts"][0][0]  # one field beside the other
