"""Quantize: weights and activations in eight bits, by ONNX Runtime's static quantisation."""

from pydantic import Field

from src.compression.candidate import Candidate, Context
from src.core.params import Settings as Schema
from src.deployment.onnx import Calibration, CalibrationName
from src.techniques.fold import without_batch_norm, without_repeated_pool


class Settings(Schema):
    """How the ranges of the activations are found: from how many training images, by which method."""

    calibration_images: int = Field(default=1000, ge=1)
    method: CalibrationName = "minmax"


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Fold what can be folded, so that weights are rounded once, and have the file written in int8."""
    network = without_repeated_pool(without_batch_norm(candidate.network))
    images = context.sample(settings.calibration_images).images
    step = f"folded, int8 with ranges from {len(images)} training images by {settings.method}"
    return candidate.after(step, network, Calibration(images, settings.method))
