"""The file of a compressed network: plan, tensors, and the record of how it came about."""

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from src.compression.candidate import Candidate, Export
from src.core.errors import UserError
from src.core.params import Settings
from src.network.vgg import load_with_record, save

NETWORKS = Path("models/networks")


class Record(Settings, strict=False):
    """What is known of a network: data edition, what was done, training spent on the path, validation accuracy.

    The root network's file, which the stage train writes, has the first three keys; the rest is for recipes.
    ``val_accuracy`` is computed in float32 on the network as stored.
    """

    edition: str
    image_passes: int
    pflop: float
    recipe: str = ""
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    export: Export = Export()
    val_accuracy: float | None = None


def network_path(name: str) -> Path:
    """Return where the network of the recipe ``name`` (or of the root) lies."""
    return NETWORKS / f"{name}.safetensors"


def load_candidate(name: str, device: torch.device | str = "cpu") -> tuple[Candidate, Record]:
    """Return the network of the recipe ``name`` as a candidate on ``device``, and its record.

    Raises `UserError` if its file is missing or damaged.
    """
    network, values = load_with_record(network_path(name), device)
    record = _record(network_path(name), values)
    done = {key: getattr(record, key) for key in ("export", "steps", "notes", "image_passes", "pflop")}
    return Candidate(network, **done), record


def read_record(path: Path) -> Record:
    """Return the record in the network's file ``path``; `UserError` if the file is missing or damaged."""
    return _record(path, load_with_record(path)[1])


def _record(path: Path, values: dict[str, Any]) -> Record:
    try:
        return Record.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        mistake = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(f"{path}: its record is damaged: {' '.join(mistake.split())[:200]}") from None


def save_candidate(candidate: Candidate, path: Path, recipe: str, edition: str, val_accuracy: float) -> None:
    """Write ``candidate`` to ``path`` in float32, with its `Record`."""
    record = Record(
        edition=edition,
        image_passes=candidate.image_passes,
        pflop=round(candidate.pflop, 9),
        recipe=recipe,
        steps=candidate.steps,
        notes=candidate.notes,
        export=candidate.export,
        val_accuracy=val_accuracy,
    )
    save(candidate.network, path, record.model_dump())
