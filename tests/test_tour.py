"""docs/experiments.md: its quick commands, run as a student runs them, and the script that runs them."""

import sys
from pathlib import Path

import pytest
from commands import ROOT, run

from checks import tour
from src.core.errors import UserError

PAGE = (ROOT / tour.PAGE).read_text(encoding="utf-8")
SMALL = """# A page

```console
$ echo one \\
    two
one two
$ true
```

```
$ not of the tour
```

```python slow
# sub/module.py
x = 1
```

```console slow
$ printf 'a 1\\nb 2\\n'
a 7
b 2
```
"""


@pytest.mark.timeout(1800)
def test_the_quick_commands_of_the_page_print_what_it_shows():
    one_thread = {"OMP_NUM_THREADS": "1"}  # the other core belongs to the other tests
    assert "$ dvc exp diff HEAD gentle" in run(ROOT, sys.executable, "-m", "checks.tour", "--quick", **one_thread)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    return tmp_path.resolve()


def test_outputs_are_written_where_they_belong_and_nothing_else_changes(folder):
    page = SMALL.replace("one two\n", "")
    assert tour.Tour(folder, write=True).walked(page) == SMALL.replace("a 7\nb 2", "a 1\nb 2")
    assert (folder / "sub/module.py").read_text() == "x = 1\n"


def test_quick_leaves_out_the_slow_blocks(folder):
    assert tour.Tour(folder, quick=True, write=True).walked(SMALL) == SMALL
    assert not list((folder / "sub").iterdir())


def test_every_python_block_of_the_page_can_be_read():
    modules = [text for kind, _, text in tour.BLOCK.findall(PAGE) if kind == "python"]
    assert modules
    for text in modules:
        compile(text, "module", "exec")


def test_what_the_page_leaves_out():
    printed = "epoch 1:  5%\repoch 1: 99%\r   \r\nkept  \n\n> python -m stages.train\nUpdating lock file 'dvc.lock'\n"
    printed += "epoch 2:   7%|▋         | 3/45 [00:00<00:02, 14.27step/s]\n"  # as in the log of a queued experiment
    printed += "export dense: measures size and weights\ntest dense: 40 batches in 3.9 s\n"
    assert tour.shortened(f"{printed}in /tmp/t/vgg", Path("/tmp/t")) == ["kept", "in /home/student/vgg"]
    long = tour.shortened("\n".join(f"line {number}" for number in range(40)), Path("/tmp/t"))
    assert len(long) == 2 * tour.END + 1
    assert (long[0], long[tour.END], long[-1]) == ("line 0", "[20 lines left out]", "line 39")


@pytest.mark.parametrize(
    ("printed", "difference"),
    [
        ("[gentle] 9f1c2ab  0.31  5.6e-05  09:15 AM", ""),  # other numbers, another hash, another time
        ("[gentle] abcdefa  0.5  -  12:00 PM", ""),
        ("[rough] 957be4a  0.21  5.6e-05  11:54 AM", "no longer prints: gentle; now prints: rough"),
        ("957be4a  0.21  5.6e-05  11:54 AM", "no longer prints: gentle"),
        ("[gentle] 957be4a  0.21  5.6e-05  11:54 AM  sweep-1", "now prints: sweep-1"),
    ],
)
def test_a_changed_output_is_noticed(printed, difference):
    assert tour.differing(["  [gentle] 957be4a  0.21  5.6e-05  11:54 AM"], [printed]) == difference


def test_the_folder_is_carried_from_one_command_to_the_next(folder):
    page = "```console\n$ cd sub\n$ pwd\n/home/student/sub\n```\n"
    assert tour.Tour(folder).walked(page) == page


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo left", r"`\$ echo left` no longer prints: right; now prints: left"),
        ("echo no; false", r"`\$ echo no; false` ended with 1: no"),
    ],
)
def test_a_command_that_does_something_else_is_named_in_one_line(folder, command, message):
    with pytest.raises(UserError, match=message):
        tour.Tour(folder).walked(f"```console\n$ {command}\nright\n```\n")


def test_the_table_of_one_changed_recipe_fits_a_screen():
    shown = next(
        shown for command, shown in tour.STEP.findall(PAGE) if command.startswith("dvc exp show") and "[cut]" in shown
    )
    assert len(shown.splitlines()) <= 40
    assert max(map(len, shown.splitlines())) <= 120
