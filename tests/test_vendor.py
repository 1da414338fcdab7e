"""The files that hold packages of npm: how they are made, and that what DVC makes of them needs no network."""

import hashlib
import re
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml
from commands import ROOT, commit, run
from dvc_render.vega import VegaRenderer

from checks import vendor
from checks.vendor import SCRIPT, TABLESORT, TEMPLATE, VEGA
from scripts import npm
from scripts.report import __main__ as report
from src.core.errors import UserError

COMMITTED, COMMITTED_SCRIPT = ((ROOT / path).read_bytes().decode() for path in (TEMPLATE, SCRIPT))
BUILDS = re.findall(r"^<script>\n(.*?)</script>$", COMMITTED, re.DOTALL | re.MULTILINE)
SHA256 = [  # of the minified files in the packages
    "4794d0169cb1f3ebad8117fe98ba5bd652dd725905ec0384e832391dbccb03be",
    "d73157451b3978015ab31dacd55ff90d986ab8663fc0abed50f97b3cd90002cb",
    "1ba9826431ddc9805e815ad92acc811c819f2bfd32bda2a128b8c4b5070fab5e",
]


def test_versions_are_those_that_dvc_loads():
    wanted = re.findall(r"/npm/([\w-]+)@([\d.]+)", VegaRenderer.SCRIPTS)
    assert wanted == [(package.name, package.version) for package in VEGA]


def test_the_script_makes_the_committed_files_of_the_packages(tmp_path, monkeypatch):
    licenses = re.findall(r"BSD-3-Clause:\n\n(.*?DAMAGE\.\n)", COMMITTED, re.DOTALL)
    texts = dict(zip(VEGA, zip(licenses, BUILDS, strict=True), strict=True))
    license_text = re.search(r"do not edit\.\n\n(.*?)\n\*/", COMMITTED_SCRIPT, re.DOTALL)[1]
    texts[TABLESORT] = [license_text, *(f"/*!{build}" for build in COMMITTED_SCRIPT.split("/*!")[1:])]
    assert [len(text) for text in texts.values()] == [len(package.files) for package in texts]
    assert [hashlib.sha256(build.encode()).hexdigest() for build in BUILDS] == SHA256
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vendor, "texts_of", texts.get)
    monkeypatch.setattr("sys.argv", ["vendor"])
    vendor.main()
    assert TEMPLATE.read_bytes().decode() == COMMITTED
    assert SCRIPT.read_bytes().decode() == COMMITTED_SCRIPT


def test_config_and_report_name_the_files():
    found = re.search(r"^\[plots\]\n\s+html_template = (.*)$", (ROOT / ".dvc/config").read_text(), re.MULTILINE)
    assert Path(".dvc") / found[1] == TEMPLATE == report.TEMPLATE
    assert ROOT / SCRIPT.parent == report.FOLDER


@pytest.mark.parametrize("damage", ["", "another archive", "a file is missing"])
def test_a_package_comes_whole_or_not_at_all(tmp_path, monkeypatch, damage):
    """No registry answers, and the archive has been downloaded before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(npm, "REGISTRY", "http://127.0.0.1:9/")
    monkeypatch.setattr(npm, "RETRIES", 0)
    path = npm.FOLDER / "tiny/-/tiny-1.0.0.tgz"
    path.parent.mkdir(parents=True)
    Path("LICENSE").write_text("Do what you like.")
    with tarfile.open(path, "w:gz") as archive:
        archive.add("LICENSE", "package/LICENSE")
    sha256 = "0" * 64 if damage == "another archive" else hashlib.sha256(path.read_bytes()).hexdigest()
    files = ("LICENSE", "a.js") if damage == "a file is missing" else ("LICENSE",)
    package = npm.Package("tiny", "1.0.0", sha256, "MIT", files)
    if damage:
        with pytest.raises(UserError, match=r"tiny/-/tiny-1\.0\.0\.tgz: cannot be used: [^\n]+$"):
            npm.contents_of(package)
    else:
        assert npm.contents_of(package) == [b"Do what you like."]


def test_the_page_that_dvc_writes_loads_nothing(tmp_path):
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")
    for name in (TEMPLATE, Path(".dvc/config")):
        shutil.copy(ROOT / name, tmp_path / name)
    plots = [{name: {"x": "step", "y": {"data.tsv": "loss"}}} for name in ("Loss", "Loss, again")]
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"plots": plots}))
    (tmp_path / "data.tsv").write_text("step\tloss\n0\t2.5\n1\t1.5\n")
    commit(tmp_path, "A curve")
    run(tmp_path, "dvc", "plots", "show")
    text = (tmp_path / "dvc_plots/index.html").read_text()
    assert not re.search(r"<script[^>]*\ssrc|<link\s|cdn\.jsdelivr\.net", text, re.IGNORECASE)
    assert all(build in text for build in BUILDS)
    assert re.findall('<div id = "(.*?)">', text) == ["Loss", "Loss__again"]
    assert not any(place in text for place in ("{plot_divs}", "{scripts}", "{refresh_tag}"))
