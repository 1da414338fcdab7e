"""What the stage csi found at each position of the trained network, for techniques that choose where to cut."""

import math
from pathlib import Path

from src.core.errors import UserError
from src.core.files import read_csv

POSITIONS = Path("plots/positions.csv")
SCORES = ("csi", "probe")  # by which a technique may choose


def separation_by_block() -> dict[str, dict[str, float]]:
    """Return each of `SCORES` by block of the trained network; `UserError` if the table or a value cannot be used."""
    rows = read_csv(POSITIONS, "block", *SCORES)
    for row in rows:
        for score in SCORES:
            if not isinstance(row[score], int | float) or not math.isfinite(row[score]):
                raise UserError(f"{POSITIONS}: {score} of {row['block']}: must be a number (found {row[score]})")
    return {score: {row["block"]: float(row[score]) for row in rows} for score in SCORES}
