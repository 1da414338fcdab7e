"""Text is read, written and printed in the same way whatever the locale is."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "stages", "scripts", "checks", "studies", "benchmarks")
NO_TEXT = ("Image", "archive", "os", "tarfile")  # their `open` opens no text
# The locale C, without what Python does by itself to print UTF-8 there
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}


def depends_on_the_locale(call):
    """Whether a call in a syntax tree reads or writes text without saying in which encoding."""
    keywords = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if name == "open" and getattr(getattr(call.func, "value", None), "id", "") not in NO_TEXT:
        modes = [getattr(argument, "value", None) for argument in call.args] + [keywords.get("mode")]
        text = not any(mode in ("rb", "wb", "ab") for mode in modes)
    else:  # text=True is what `subprocess` takes
        text = name in ("read_text", "write_text") or bool(keywords.get("text"))
    return text and "encoding" not in keywords


def test_every_file_and_process_has_its_encoding():
    found = []
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            calls = [
                node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
            ]
            found += [f"{path.relative_to(ROOT)}:{call.lineno}" for call in calls if depends_on_the_locale(call)]
    assert found == []


def in_ascii(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=os.environ | ASCII, capture_output=True)


@pytest.mark.parametrize("command", [["scripts.table"], ["checks.readme", "--check"]])
def test_commands_work_in_the_locale_c(command):
    done = in_ascii("-m", *command)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0 or done.stderr.startswith(b"error: ")


def test_what_the_locale_lacks_is_printed_as_a_question_mark():
    done = in_ascii("-c", "from src.core.errors import exit_cleanly; exit_cleanly(lambda: print('\\u2265 0, \\udcff'))")
    assert (done.returncode, done.stdout) == (0, b"? 0, ?\n")
