"""The page of `dvc plots`: how it is made, what it holds, and that a browser without a network draws the plots."""

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

from checks import plots_template
from checks.plots_template import PACKAGES, TEMPLATE, Build, Package, page
from src.core.errors import UserError, exit_cleanly

ROOT = Path(__file__).parent.parent
COMMITTED = (ROOT / TEMPLATE).read_bytes().decode()
PLOTS_DIVS, SCRIPTS, REFRESH = "{plot_divs}", "{scripts}", "{refresh_tag}"
SCRIPT_SHA256 = {  # of the minified files in the packages
    "vega": "4794d0169cb1f3ebad8117fe98ba5bd652dd725905ec0384e832391dbccb03be",
    "vega-lite": "d73157451b3978015ab31dacd55ff90d986ab8663fc0abed50f97b3cd90002cb",
    "vega-embed": "1ba9826431ddc9805e815ad92acc811c819f2bfd32bda2a128b8c4b5070fab5e",
}
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
    """The builds in a page, by package."""
    scripts = re.findall(r"^<script>\n(.*?)</script>$", text, re.DOTALL | re.MULTILINE)
    licenses = re.findall(r"BSD-3-Clause:\n\n(.*?DAMAGE\.\n)", text, re.DOTALL)
    return {package: Build(*both) for package, *both in zip(PACKAGES, scripts, licenses, strict=True)}


def loads_nothing(text):
    """Whether no tag in ``text`` takes a script or a style from elsewhere."""
    return not re.search(r"<script[^>]*\ssrc|<link\s|cdn\.jsdelivr\.net", text, re.IGNORECASE)


def test_versions_are_those_that_dvc_loads():
    wanted = re.findall(r"/npm/([\w-]+)@([\d.]+)", VegaRenderer.SCRIPTS)
    assert wanted == [(package.name, package.version) for package in PACKAGES]


def test_committed_page_is_what_the_script_makes_of_the_packages():
    builds = parts(COMMITTED)
    hashes = {package.name: hashlib.sha256(build.script.encode()).hexdigest() for package, build in builds.items()}
    assert hashes == SCRIPT_SHA256
    assert page(builds) == COMMITTED


def test_committed_page_names_versions_and_licenses():
    comment = COMMITTED.partition("<!--")[2].partition("-->")[0]
    for package, build in parts(COMMITTED).items():
        assert f"{package.name} {package.version} (" in comment
        assert build.license in comment
        assert "University of Washington Interactive Data Lab" in build.license
        assert f'"{package.version}"' in build.script


def test_committed_page_has_the_placeholders_and_loads_nothing():
    assert [COMMITTED.count(name) for name in (PLOTS_DIVS, REFRESH, SCRIPTS)] == [1, 1, 0]
    assert COMMITTED.partition("<body>\n    " + PLOTS_DIVS)[1]  # and not in a script
    assert loads_nothing(COMMITTED)
    assert '<meta charset="utf-8">' in COMMITTED[:1024]  # further down a browser need not look


def test_config_names_the_page():
    found = re.search(r"^\[plots\]\n\s+html_template = (.*)$", (ROOT / ".dvc/config").read_text(), re.MULTILINE)
    assert Path(".dvc") / found[1] == TEMPLATE


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A local registry that serves the files below the folder returned; the working folder is another one."""
    folder = tmp_path / "registry"
    folder.mkdir()
    handler = type("Handler", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    (tmp_path / "work/.dvc").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sys, "argv", ["plots_template"])
    monkeypatch.setattr(plots_template, "REGISTRY", f"http://127.0.0.1:{httpd.server_port}/")
    monkeypatch.setattr(plots_template, "RETRIES", 0)
    yield folder
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def publish(registry, monkeypatch, members):
    """Let the script know one package, whose archive holds ``members``, and return the path of the archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    package = Package("tiny", "1.0.0", hashlib.sha256(content.getvalue()).hexdigest())
    monkeypatch.setattr(plots_template, "PACKAGES", (package,))
    path = registry / package.archive
    path.parent.mkdir(parents=True)
    path.write_bytes(content.getvalue())
    return path


GOOD = {"build/tiny.min.js": 'var ä = {"a": {}};\n'.encode(), "LICENSE": b"Do what you like.\n"}


def test_script_writes_the_same_bytes_twice(registry, monkeypatch):
    publish(registry, monkeypatch, GOOD)
    plots_template.main()
    first = TEMPLATE.read_bytes()
    plots_template.main()
    assert TEMPLATE.read_bytes() == first
    assert '<script>\nvar ä = {"a": {}};\n</script>' in first.decode()
    assert "Do what you like." in first.decode()
    assert list(TEMPLATE.parent.iterdir()) == [TEMPLATE]


@pytest.mark.parametrize("damage", ["missing", "wrong", "incomplete"])
def test_script_ends_in_one_line_and_leaves_the_old_page(registry, monkeypatch, capsys, damage):
    members = {"LICENSE": b""} if damage == "incomplete" else GOOD
    archive = publish(registry, monkeypatch, members)
    if damage == "missing":
        archive.unlink()
    if damage == "wrong":
        archive.write_bytes(b"another")
    TEMPLATE.write_text("old")
    with pytest.raises(SystemExit, match="1"):
        exit_cleanly(plots_template.main)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "tiny/-/tiny-1.0.0.tgz: " + ("not readable" if damage == "incomplete" else "cannot be downloaded") in line
    assert TEMPLATE.read_text() == "old"
    assert list(TEMPLATE.parent.iterdir()) == [TEMPLATE]


def test_script_wants_to_run_at_the_top(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["plots_template"])
    with pytest.raises(UserError, match="top of the repository"):
        plots_template.main()
    assert not list(tmp_path.iterdir())


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
    assert all(build.script in text for build in parts(COMMITTED).values())


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
