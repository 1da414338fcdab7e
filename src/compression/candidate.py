"""A network on its way through the techniques: plain data."""

from dataclasses import dataclass
from typing import Any

from src.network.record import Record
from src.network.vgg import VGG


@dataclass(frozen=True)
class Candidate:
    """A network and its record: what was done to it, and what its training has cost."""

    network: VGG
    record: Record

    def after(self, step: str, network: VGG, *notes: str, **export: Any) -> "Candidate":
        """Return this candidate with ``network`` after one more ``step``; ``export`` changes the export settings."""
        changes = {
            "steps": (*self.record.steps, step),
            "notes": (*self.record.notes, *notes),
            "export": self.record.export.model_copy(update=export),
        }
        return Candidate(network, self.record.model_copy(update=changes))

    def trained(self, image_passes: int, pflop: float) -> "Candidate":
        """Return this candidate with more training on its account."""
        record = self.record
        changes = {
            "image_passes": record.image_passes + image_passes,
            "pflop": record.pflop + pflop,
            "pflop_after_root": record.pflop_after_root + pflop,
        }
        return Candidate(self.network, record.model_copy(update=changes))
