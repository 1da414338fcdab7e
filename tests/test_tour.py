"""docs/experiments.md: its quick commands, run as a student runs them, and the script that runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from checks import tour
from src.core.errors import UserError

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / tour.PAGE).read_text(encoding="utf-8")
SMALL = """# A page

```console
$ echo one \\
    two
one two
$ cd /
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
    command = [sys.executable, "-m", "checks.tour", "--quick"]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}  # the other core belongs to the other tests
    done = subprocess.run(command, cwd=ROOT, env=variables, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "$ dvc exp diff HEAD gentle" in done.stdout


def test_a_page_is_read_into_steps():
    first, second, module, last = tour.steps_of(SMALL)
    assert first.command == "echo one \\\n    two"
    assert first.shown == ("one two",)
    assert (second.command, second.shown, second.slow) == ("cd /", (), False)
    assert module.command == "cat > sub/module.py <<'END'\nx = 1\nEND"
    assert module.slow
    assert last.shown == ("a 7", "b 2")
    assert last.slow


def test_a_block_that_does_not_end_is_reported_with_its_line():
    with pytest.raises(UserError, match="line 3: this block does not end"):
        tour.steps_of("text\n\n```console\n$ ls\n")


def test_every_python_block_of_the_page_can_be_read():
    modules = [step.command for step in tour.steps_of(PAGE) if step.command.startswith("cat > src/")]
    assert modules
    for command in modules:
        compile(command.split("\n", 1)[1].removesuffix("END"), "module", "exec")


def test_outputs_are_written_where_they_belong_and_nothing_else_changes():
    steps = tour.steps_of(SMALL)
    assert tour.with_outputs(SMALL, steps, [list(step.shown) for step in steps]) == SMALL
    written = tour.with_outputs(SMALL, steps, [["1", "2"], ["3"], [], []])
    assert "    two\n1\n2\n$ cd /\n3\n```\n" in written
    assert "# sub/module.py\nx = 1\n```\n" in written
    assert written.endswith("b 2\\n'\n```\n")


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
    assert tour.differing(("  [gentle] 957be4a  0.21  5.6e-05  11:54 AM",), [printed]) == difference


def test_the_folder_is_carried_from_one_command_to_the_next(tmp_path):
    steps = [tour.Step("mkdir inner && cd inner", 0, 0), tour.Step("pwd", 0, 0, ("/home/student/inner",))]
    assert tour.walk(steps, tmp_path.resolve(), compare=True) == [[], ["/home/student/inner"]]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (tour.Step("echo left", 7, 8, ("right",)), r"line 7: `\$ echo left` no longer prints: right; now prints: left"),
        (tour.Step("echo no; false", 7, 8, ("no",)), r"line 7: `\$ echo no; false` ended with 1: no"),
    ],
)
def test_a_command_that_does_something_else_is_named_in_one_line(tmp_path, step, message):
    with pytest.raises(UserError, match=message):
        tour.walk([step], tmp_path, compare=True)


def test_the_table_of_one_changed_recipe_fits_a_screen():
    steps = [step for step in tour.steps_of(PAGE) if step.command.startswith("dvc exp show")]
    shown = next(step.shown for step in steps if any("[cut]" in line for line in step.shown))
    assert len(shown) <= 40
    assert max(map(len, shown)) <= 120
