"""Quantize: weights and activations in eight bits, by ONNX Runtime's static quantization."""

from typing import ClassVar, Literal

from pydantic import Field

from src.compression.candidate import Candidate, Context
from src.compression.technique import TechniqueSettings


class Settings(TechniqueSettings):
    """How the ranges of the activations are found: on ``calibration_images`` training images, by ``method``."""

    leaf: ClassVar[bool] = True
    calibration_images: int = Field(ge=1)
    method: Literal["minmax", "entropy", "percentile"]


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` with its file to be written in int8; it is folded first, so that weights are rounded once.

    The network itself stays in float32: the export rounds.
    """
    images = min(settings.calibration_images, len(context.train))
    return candidate.after(
        f"int8 with ranges of {images} training images by {settings.method}",
        candidate.network,
        fold=True,
        precision="int8",
        calibration_images=images,
        calibration_method=settings.method,
    )
