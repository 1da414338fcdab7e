"""How does the original study's training go here? python -m studies.original (or: make study NAME=original); seconds.

Needs that training in the working tree:

    dvc exp run -S train.recipe=original -S model.head=imagenet -S train.stop_at=0.9 evaluate

Writes its curves to studies/results/original.csv, a row per epoch, draws them beside the published ones (.png), and
keeps metrics/evaluate.json (.json). The committed run also set step_epochs, and was stopped by hand (docs/training.md).
"""

from pathlib import Path

from src.core.errors import UserError
from src.core.files import read_csv, read_json, write_csv, write_json
from src.core.params import PARAMS, read_yaml
from src.data.prepared import load_info
from src.pictures.style import save_figure
from src.pictures.training import training
from src.results.curves import FOLDER, read_curves
from stages.draw import REFERENCE_TRAINING
from stages.evaluate import METRICS
from studies.items import run

NAME = "original"
RESULTS = Path("studies/results/original.csv")


def main() -> None:
    """Write the tables and the picture. Raises `UserError` if the training in the working tree is another one."""
    section = read_yaml(PARAMS)["train"]
    if section["recipe"] != NAME:
        raise UserError(f"{PARAMS}: train.recipe is {section['recipe']!r}; this study needs {NAME!r} (see --help)")
    curves, names = read_curves(FOLDER), ("train_accuracy", "val_accuracy")
    published = read_csv(REFERENCE_TRAINING, *names)
    reference = {name: [row[name] for row in published] for name in names}
    figure = training(curves, reference, section["target_accuracy"], load_info())
    write_csv(RESULTS, [dict(zip(curves, epoch, strict=True)) for epoch in zip(*curves.values(), strict=True)])
    save_figure(figure, RESULTS.with_suffix(".png"))
    write_json(RESULTS.with_suffix(".json"), read_json(METRICS, "test"))


if __name__ == "__main__":
    run(main, __doc__)
