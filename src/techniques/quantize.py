"""Quantize: weights and activations in eight bits, by ONNX Runtime's static quantization."""

from typing import ClassVar, Literal

from pydantic import Field

from src.compression.candidate import Candidate, Context
from src.compression.technique import TechniqueSettings
from src.core.errors import UserError


class Settings(TechniqueSettings):
    """How the ranges of the activations are found, and how many layers stay in float32.

    The ranges are those of ``calibration_images`` training images by ``method``. ``keep_float`` layers, those that
    lose most on validation, are left out; the export chooses them.
    """

    leaf: ClassVar[bool] = True
    calibration_images: int = Field(ge=1)
    method: Literal["minmax", "entropy", "percentile"]
    keep_float: int = Field(ge=0)


def apply(candidate: Candidate, context: Context, settings: Settings) -> Candidate:
    """Return ``candidate`` with its file to be written in int8; it is folded first, so that weights are rounded once.

    The network itself stays in float32: rounding happens in the export. Raises `UserError` if more layers are to be
    kept than there are.
    """
    layers = len(candidate.network.weighted_layers)
    if settings.keep_float > layers:
        raise UserError(f"keep_float must be at most {layers}, the layers of the network (found {settings.keep_float})")
    images = min(settings.calibration_images, len(context.train))
    kept = f", {settings.keep_float} layers in float32" if settings.keep_float else ""
    return candidate.after(
        f"int8 with ranges of {images} training images by {settings.method}{kept}",
        candidate.network,
        fold=True,
        precision="int8",
        calibration_images=images,
        calibration_method=settings.method,
        keep_float=settings.keep_float,
    )
