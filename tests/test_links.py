"""The pages: what they link to and name is there."""

import subprocess
from pathlib import Path

import pytest

from checks import links

ROOT = Path(__file__).parent.parent


def test_everything_that_the_pages_name_is_there():
    found = [f"{page}: {mistake}" for page in links.pages(ROOT) for mistake in links.mistakes(page, ROOT)]
    assert not found


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a page, a module, and a folder that Git ignores."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    Path(".gitignore").write_text("/docs/made\n")
    for folder in ("docs", "src"):
        Path(folder).mkdir()
    Path("docs/other.md").write_text("# One\n\n## What `int8` means, here\n\n```\n# no heading\n```\n")
    Path("src/fold.py").touch()
    return tmp_path


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
        ("`docs/NAME.csv`", "no such path: docs/NAME.csv"),
        ("```\n[gone](gone.md) `src/unfold.py`\n```", None),
    ],
)
def test_a_page(repository, text, mistake):
    page = repository / "README.md"
    page.write_text(f"# Title\n\n{text}\n")
    assert [*links.mistakes(page, repository)] == ([mistake] if mistake else [])


def test_the_command_names_page_and_mistake(repository, capsys):
    Path("docs/broken.md").write_text("[gone](gone.md)")
    with pytest.raises(SystemExit) as ended:
        links.main()
    assert ended.value.code == 1
    assert capsys.readouterr().out == "docs/broken.md: no such file: gone.md\n"
