"""Faults on purpose: a short pass of each, and that the judge sees a broken promise."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml

from checks.faults import inside, judge, page, project
from checks.faults.__main__ import FAULTS, tried
from checks.faults.bench import undisturbed
from checks.faults.inputs import changed, params_case
from checks.faults.judge import Bench, Case, Skipped, differences, failed, halves, left, not_told, unclean
from checks.faults.project import TEMPORARY, Done, Project, contents, forked

SHORT_PASS = ("kill -9", "SIGTERM", "two at once", "full disk", "read-only", "damaged files", "strange params")
ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The first two stages, run by DVC without disturbance in a folder with a strange name."""
    return undisturbed(tmp_path_factory.mktemp("Käse & Brötchen, 'ß'"), short=True)


@pytest.mark.parametrize("name", SHORT_PASS)
def test_short_pass(bench, name):
    cases, reason = tried(FAULTS[name], bench)
    if reason:
        pytest.skip(reason)
    assert cases
    assert not [case for case in cases if case.mistakes]


@pytest.fixture
def small(tmp_path):
    """A bench with one stage, whose outputs are a file and a folder, and a copy of its project."""
    base = tmp_path / "base"
    for name in ("models/a.onnx", "data/raw/1.bin", "data/raw/2.bin"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(f"all of {name}")
    outs = [{"path": "models/a.onnx", "md5": "1"}, {"path": "data/raw", "md5": "2"}]
    (base / "dvc.lock").write_text(yaml.safe_dump({"stages": {"make": {"outs": outs, "deps": []}}}))
    whole = Project(base, tmp_path)
    found = Bench(whole, tmp_path, ("make",), {}, contents(base, ["models/a.onnx", "data/raw"]))
    return found, found.copy("copy")


@pytest.mark.parametrize(
    ("code", "output", "mistake"),
    [
        (1, "error: a.csv: damaged\n", ""),
        (2, "3 epochs to train\nerror: a.csv: damaged\nThree ways out:\n", ""),
        (0, "", "ends with 0"),
        (-15, "error: a.csv: damaged\n", "ends with -15"),
        (None, "error: a.csv: damaged\n", "hangs"),
        (1, "a.csv: damaged\n", "0 lines of error"),
        (1, "error: a.csv: damaged\nerror: logs: damaged\n", "2 lines of error"),
        (1, "error: params.yaml: no\n", "does not say why"),
        (1, "error: a.csv: damaged\nTraceback (most recent call last):\n", "prints a traceback"),
    ],
)
def test_only_one_line_with_the_words_counts_as_told(code, output, mistake):
    assert ([mistake] if mistake else []) == [
        wrong for wrong in not_told(Done(code, output), "damaged") if not mistake or wrong == mistake
    ]


def raises():
    raise ValueError("not thought of")


def exits():
    sys.exit(3)


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("work", "mistakes"),
    [
        (lambda: print("fine"), []),
        (raises, ["prints a traceback", "ends with 1"]),
        (exits, ["ends with 3"]),
        (dies, ["ends with -9"]),
    ],
)
def test_what_a_process_does_is_seen(work, mistakes, tmp_path):
    found = failed(forked(work, tmp_path / "printed"))
    assert [mistake.partition(":")[0] for mistake in found] == mistakes


def test_a_hang_is_ended_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(project, "SECONDS", 1)
    assert unclean(forked(lambda: time.sleep(600), tmp_path / "printed")) == ["hangs"]


def test_half_an_output_is_seen(small):
    bench, copy = small
    assert halves(copy, bench, ["make"]) == differences(copy, bench) == []
    (copy.folder / "data/raw/2.bin").unlink()
    (copy.folder / "models/a.onnx").write_text("all of")
    assert halves(copy, bench, ["make"]) == ["half an output: models/a.onnx", "half an output: data/raw"]
    assert differences(copy, bench) == ["other bytes: models/a.onnx", "other bytes: data/raw/2.bin"]


def test_no_output_is_not_half_an_output(small):
    bench, copy = small
    (copy.folder / "models/a.onnx").unlink()
    assert halves(copy, bench, ["make"]) == []
    assert differences(copy, bench) == ["other bytes: models/a.onnx"]


def test_another_dependency_in_the_lock_is_seen(small):
    bench, copy = small
    lock = {"make": {**copy.lock()["make"], "deps": [{"path": "models", "md5": "3"}]}}
    (copy.folder / "dvc.lock").write_text(yaml.safe_dump({"stages": lock}))
    assert differences(copy, bench) == ["dvc.lock: other deps of make"]


def test_what_is_left_behind_is_seen(small):
    _, copy = small
    assert left(copy) == []
    (copy.folder / "data/.raw.123").mkdir()
    (copy.folder / "models/.a.onnx.45.onnx").touch()
    (copy.folder / TEMPORARY / "tmpx").mkdir(parents=True)
    assert sorted(left(copy)) == [
        "leaves data/.raw.123",
        "leaves models/.a.onnx.45.onnx",
        "leaves scratch/temporary/tmpx",
    ]


def broken(bench):
    """A fault
    in two lines."""
    yield Case("one", line="error: /tmp/x/a.csv: a | b")
    yield Case("two", ("prints a traceback", "ends with 1: no"))
    yield Case("three", ("prints a traceback",))
    raise Skipped("no root")


def test_the_row_counts_what_held_and_says_what_did_not(small):
    cases, reason = tried(broken, small[0])
    assert page.row("name", broken, cases, reason) == (
        "| name | 3 | 1 | A fault in two lines. Not held: prints a traceback (2), ends with 1 (1). "
        "Not tried here: no root. | `error: …/a.csv: a / b` |"
    )


def test_a_new_run_replaces_its_rows_alone():
    text = (
        f"before\n{page.BEGIN}\n| fault | tried |\n| --- | --- |\n| a | 1 |\n| b | 1 |\n| gone | 1 |\n{page.END}\nafter"
    )
    lines = page.written(text, {"b": "| b | 2 |", "c": "| c | 2 |"}, ["c", "b", "a"]).splitlines()
    assert lines == ["before", page.BEGIN, *page.HEADER, "| c | 2 |", "| b | 2 |", "| a | 1 |", page.END, "after"]


def test_the_page_has_a_row_for_each_fault_and_explains_what_did_not_hold():
    rows = [
        line.split(" | ")
        for line in (ROOT / page.PAGE).read_text().split(page.BEGIN)[1].splitlines()
        if line.startswith("| ")
    ]
    found = {name.removeprefix("| "): rest for name, *rest in rows[2:]}
    assert list(found) == list(FAULTS)
    for name, (count, held, text, *_) in found.items():
        assert count == held or "Not held" in text, name


def test_events_have_the_same_name_in_every_run():
    assert inside.name("open", "/p/data/.raw.123/data_batch_4.bin", "/p") == "open data/.raw.#/data_batch_#.bin"
    assert inside.name("os.rename", "/p/scratch/temporary/tmpab_1/x", "/p") == "rename scratch/temporary/tmp#/x"
    assert inside.name("open", "/other/x", "/p") is inside.name("open", "/p/src/__pycache__/x", "/p") is None
    assert inside.written("open", ("a", "r", os.O_RDONLY)) is inside.written("open", (3, "w", os.O_WRONLY)) is None


def test_an_exception_from_params_is_counted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = {"seed": 0, "split": {"validation_fraction": 0.1}}
    changes = [(("split", "validation_fraction"), "remove", None), (("seed",), "add", 1)]
    assert changed(whole, changes) == {"seed": 0, "split": {}, "seed_2": 1}
    case = params_case(whole, changes, "split")  # there is no dvc.yaml
    assert case.mistakes == ()
    assert case.line.startswith("error: ")
    monkeypatch.setattr("checks.faults.inputs.load_params", lambda *_, **__: raises())
    assert params_case(whole, [], "split").mistakes == ("ValueError: not thought of",)
    assert judge.line_of(Done(1, "x\rerror: a\nerror: b\n")) == "error: b"
