"""The pages: what they link to and name is there.

A relative link must lead to a file, and its anchor to a heading of it. A path in backticks that begins with a folder of
the repository must exist, or be ignored by Git; NAME in it stands for any name. Blocks of code are not read.
"""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("[!.]*/**/*.md")])
BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s:]+)\)")  # without a colon: an address elsewhere has one
PATH = re.compile(r"`([\w.-]+/[\w./*-]*)`")
HEADING = re.compile(r"^#+ (.+)", re.MULTILINE)


def mistakes(page, top):
    """What ``page`` names and what is not there; ``top`` is the top of the repository."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists():
            yield f"no such file: {link}"
        elif anchor and anchor not in anchors(target):
            yield f"no such heading: {link}"
    for path in PATH.findall(text):
        if (top / path.split("/")[0]).is_dir() and not present(path, top):
            yield f"no such path: {path}"


def anchors(page):
    """The anchors of the headings of ``page``, as GitHub makes them."""
    headings = HEADING.findall(BLOCK.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def present(path, top):
    ignored = ["git", "check-ignore", "--quiet", path]
    return any(top.glob(path.replace("NAME", "*"))) or not subprocess.run(ignored, cwd=top).returncode


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_everything_that_a_page_names_is_there(page):
    assert [*mistakes(page, ROOT)] == []


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[other](docs/other.md), [here](#title), ![elsewhere](https://example.org/x.png)", None),
        ("[other](docs/other.md#what-int8-means-here)", None),
        ("[gone](docs/gone.md)", "no such file: docs/gone.md"),
        ("[other](docs/other.md#two)", "no such heading: docs/other.md#two"),
        ("[other](docs/other.md#no-heading)", "no such heading: docs/other.md#no-heading"),
        ("[here](#two)", "no such heading: #two"),
        ("`src/fold.py`, `src/NAME.py`, `src/*.py`, `docs/`, `docs/made/x.csv`, `and/or`, `src/x.py --help`", None),
        ("`src/unfold.py`", "no such path: src/unfold.py"),
        ("```\n[gone](gone.md) `src/unfold.py`\n```", None),
    ],
)
def test_a_mistake_is_seen(tmp_path, text, mistake):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for folder in ("docs", "src"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".gitignore").write_text("/docs/made\n")
    (tmp_path / "docs/other.md").write_text("# One\n\n## What `int8` means, here\n\n```\n# no heading\n```\n")
    (tmp_path / "src/fold.py").touch()
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n\n{text}\n")
    assert [*mistakes(page, tmp_path)] == ([mistake] if mistake else [])
