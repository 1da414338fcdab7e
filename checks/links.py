"""Check the links of the pages: python -m checks.links.

A relative link must lead to a file, and its anchor to a heading of it. A path in backticks that begins with a folder of
the repository must exist, or be ignored by Git; NAME in it stands for any name. Blocks of code are not read.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s:]+)\)")  # without a colon: an address elsewhere has one
PATH = re.compile(r"`([\w.-]+/[\w./*-]*)`")
HEADING = re.compile(r"^#+ (.+)", re.MULTILINE)


def main() -> None:
    """Print a line for each mistake in the pages of the working folder, and exit 1 if there are any."""
    lines = [f"{page}: {mistake}" for page in pages(Path()) for mistake in mistakes(page, Path())]
    print(*lines, sep="\n", end="\n" * bool(lines))
    sys.exit(bool(lines))


def pages(top: Path) -> list[Path]:
    """Return the Markdown files at ``top`` and in its folders that are not hidden."""
    return sorted([*top.glob("*.md"), *top.glob("[!.]*/**/*.md")])


def mistakes(page: Path, top: Path) -> Iterator[str]:
    """Yield what ``page`` names and what is not there; ``top`` is the top of the repository."""
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


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of ``page``, as GitHub makes them."""
    headings = HEADING.findall(BLOCK.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def present(path: str, top: Path) -> bool:
    """Return whether ``path`` is there, or is one that Git ignores."""
    ignored = ["git", "check-ignore", "--quiet", path]
    return any(top.glob(path.replace("NAME", "*"))) or not subprocess.run(ignored, cwd=top, check=False).returncode


if __name__ == "__main__":
    main()
