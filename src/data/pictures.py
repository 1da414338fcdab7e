"""Read a picture of any kind as red, green and blue, and scale it to a square."""

import warnings
from pathlib import Path
from typing import IO, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.Image import Resampling

from src.core.errors import UserError, one_line

Image.MAX_IMAGE_PIXELS = None  # Pillow's limit refuses photos that can be read in part; `read_picture` has another one
LARGEST = 100_000_000  # pixels; about two gigabytes of memory
WHITE = 65535  # of gray with 16 bits
CONVERT = "convert HEIC, SVG, PDF and raw files to JPEG or PNG first"
TURNS = {  # by the orientation in the EXIF data; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Fit = Literal["stretch", "crop", "pad"]


class UnreadablePictureError(UserError):
    """A picture that Pillow cannot read."""


def read_picture(file: Path | IO[bytes], name: str) -> Image.Image:
    """Return the picture in ``file`` as RGB; `UnreadablePictureError`, which begins with ``name``, if there is none.

    It is turned as its EXIF data say, and put on white where it is transparent. Of several frames the first is taken.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file) as picture:
            _limit(picture)
            return opaque(_upright(picture))
    except UnidentifiedImageError:
        reason = f"not a picture of a known format; {CONVERT}"
    except UserError as error:
        reason = str(error)
    except Exception as error:  # a damaged file can raise almost anything
        reason = getattr(error, "strerror", None) or f"not a picture that can be read ({one_line(error)})"
    raise UnreadablePictureError(f"{name}: {reason}")


def scaled(picture: Image.Image, side: int, fit: Fit) -> Image.Image:
    """Return ``picture`` as a square of ``side`` pixels; one that has this size stays as it is.

    ``fit``: how another shape becomes a square. stretch: width and height are scaled apart; crop: its central square
    counts; pad: black bars are added. A pixel of a smaller picture is the mean of those that it covers; a larger
    picture is interpolated.
    """
    size, method = (side, side), Resampling.BOX if min(picture.size) >= side else Resampling.BILINEAR
    if fit == "stretch":
        return picture.resize(size, method)
    return ImageOps.fit(picture, size, method) if fit == "crop" else ImageOps.pad(picture, size, method)


def opaque(picture: Image.Image) -> Image.Image:
    """Return ``picture`` of any mode as RGB, on white."""
    if picture.mode.startswith(("I", "F")):
        picture = _eight_bits(picture)
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _limit(picture: Image.Image) -> None:
    """Raise `UserError` if ``picture``, not yet decoded, has more than `LARGEST` pixels.

    A JPEG with more is decoded at an eighth of its width and height.
    """
    width, height = picture.size
    if width * height > LARGEST:
        picture.draft(None, (width // 8, height // 8))  # does nothing for other formats
    if picture.width * picture.height > LARGEST:
        found, limit = (f"{pixels / 1e6:.0f} megapixels" for pixels in (width * height, LARGEST))
        raise UserError(f"{found}; at most {limit} can be read, or 64 times as many of a JPEG: scale it down")


def _upright(picture: Image.Image) -> Image.Image:
    """Return ``picture`` turned as the orientation in its EXIF data says; nothing else of them is read."""
    picture.load()  # turns a TIFF, and forgets its orientation
    turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Return gray of 16 bits scaled to 8, where Pillow's own conversion would clip it.

    Raises `UserError` for floats and larger values: what is white is not known, and must not differ between pictures.
    """
    values = np.asarray(picture, dtype=np.float64)
    if picture.mode.startswith("F") or values.min() < 0 or values.max() > WHITE:
        raise UserError("gray of 32 bits, of which no value is known to be white; save it with 8 or 16 bits")
    return Image.fromarray((values / WHITE * 255).astype(np.uint8))
