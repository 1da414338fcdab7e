"""Exit codes of commands."""

import pytest

from src.core.errors import ParamsError, UserError, exit_cleanly


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (UserError("data/raw: missing"), 1, "error: data/raw: missing\n"),
        (ParamsError("params.yaml: seed: missing"), 2, "error: params.yaml: seed: missing\n"),
        (KeyboardInterrupt("interrupted in epoch 2"), 130, "error: interrupted in epoch 2\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_a_mistake_is_one_line_and_a_code(raised, code, line, capsys):
    def main():
        raise raised

    with pytest.raises(SystemExit) as exit_:
        exit_cleanly(main)
    assert exit_.value.code == code
    assert capsys.readouterr().err == line
