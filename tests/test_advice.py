"""What messages and comments advise to run or to write is there: an advice that is printed is one that works."""

import re
import sys
from pathlib import Path

import pytest

from src.core.errors import ParamsError
from src.core.params import Settings, read_yaml, validate

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "stages", "scripts", "checks", "studies", "benchmarks")
ADVICE = re.compile(r"`(dvc (?:repro|commit --force)|make|python -m) ([a-z][\w.@]*)")


def advised():
    """Each (command, target) in backticks in code, the Makefile and params.yaml."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in [*files, ROOT / "Makefile", ROOT / "params.yaml"]]
    return sorted({match for text in texts for match in ADVICE.findall(text)})


@pytest.mark.parametrize(("command", "target"), advised())
def test_what_a_message_says_to_run_exists(command, target):
    if command == "make":
        assert re.search(rf"^{target}( \w+)*:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif command == "python -m":
        place = ROOT / target.replace(".", "/")
        ours = place.with_suffix(".py").exists() or (place / "__main__.py").exists()
        assert ours or target.split(".")[0] in sys.stdlib_module_names
    else:
        assert target.split("@")[0] in read_yaml(ROOT / "dvc.yaml")["stages"]


class Inner(Settings):
    depth: int


class Outer(Settings):
    width: int
    inner: Inner
    many: dict[str, Inner]


@pytest.mark.parametrize("place", [[], ["inner"], ["many", "a"]])
def test_keys_that_a_message_allows_are_allowed(place):
    def validated(key):
        values = {"width": 1, "inner": {"depth": 1}, "many": {"a": {"depth": 1}}}
        branch = values
        for name in place:
            branch = branch[name]
        branch[key] = branch.get(key, 1)
        validate(Outer, values)

    with pytest.raises(ParamsError, match=r"deepth: unknown key; allowed here: (.+)") as caught:
        validated("deepth")
    for key in str(caught.value).partition("allowed here: ")[2].split(", "):
        validated(key)
