"""Classify a picture with the flagship: python -m scripts.predict PICTURE."""

import argparse
import warnings
from pathlib import Path
from statistics import median

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from src.core.errors import UserError, exit_cleanly, one_line
from src.data.prepared import CLASSES
from src.export.latency import THREADS, cpu_name, milliseconds
from src.export.runtime import class_names, input_side, session

MODEL = Path("released/flagship.onnx")
SHOWN = 3
RUNS = 20
Image.MAX_IMAGE_PIXELS = None  # Pillow's limit refuses photos that can be read in part; `opened` has another one
LARGEST = 100_000_000  # pixels; about two gigabytes of memory
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


def main() -> None:
    """Print the three most probable classes with their probabilities, and the time it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("picture", type=Path, help="any picture file; its central square counts")
    picture = parser.parse_args().picture
    network = session(MODEL, THREADS)
    batch = prepare(picture, input_side(network))
    names = class_names(network) or CLASSES  # files from before the classes were named are of CIFAR-10
    (logits,) = network.run(None, {"images": batch})
    probabilities = np.exp(logits[0] - logits[0].max())
    probabilities /= probabilities.sum()
    for index in np.argsort(-probabilities)[:SHOWN]:
        print(f"{names[index]:<10} {probabilities[index]:7.2%}")
    time = median(milliseconds(lambda: network.run(None, {"images": batch})) for _ in range(RUNS))
    print(f"{time:.2f} ms (median of {RUNS} runs, {THREADS} thread of {cpu_name()}, {MODEL})")


def prepare(path: Path, side: int = 32) -> np.ndarray:
    """Return the picture in ``path`` as float32 [1, 3, side, side] in 0..1; `UserError` if it cannot be read as one.

    It is rotated as its EXIF data say, put on white where it is transparent, cut to its central square and scaled
    down. Of several frames the first is taken.
    """
    try:
        with warnings.catch_warnings(action="ignore"), opened(path) as picture:
            square = ImageOps.fit(opaque(upright(picture)), (side, side), Image.Resampling.BOX)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise UserError(f"{path}: not a picture of a known format; {CONVERT}") from None
    except Exception as error:  # a damaged file can raise almost anything
        reason = getattr(error, "strerror", None) or f"not a picture that can be read ({one_line(error)})"
        raise UserError(f"{path}: {reason}") from None
    return np.asarray(square, dtype=np.float32).transpose(2, 0, 1)[None] / 255


def opened(path: Path) -> Image.Image:
    """Return the picture in ``path`` before it is decoded; `UserError` if it has more than `LARGEST` pixels.

    A JPEG with more is decoded at an eighth of its width and height.
    """
    picture = Image.open(path)
    width, height = picture.size
    if width * height > LARGEST:
        picture.draft(None, (width // 8, height // 8))  # does nothing for other formats
    if picture.width * picture.height > LARGEST:
        found, limit = (f"{pixels / 1e6:.0f} megapixels" for pixels in (width * height, LARGEST))
        raise UserError(f"{path}: {found}; at most {limit} can be read, or 64 times as many of a JPEG: scale it down")
    return picture


def upright(picture: Image.Image) -> Image.Image:
    """Return ``picture`` turned as the orientation in its EXIF data says; nothing else of them is read."""
    picture.load()  # turns a TIFF, and forgets its orientation
    turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation))
    return picture if turn is None else picture.transpose(turn)


def opaque(picture: Image.Image) -> Image.Image:
    """Return ``picture`` of any mode as RGB, on white."""
    if picture.mode.startswith(("I", "F")):
        picture = _eight_bits(picture)
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Return gray of 16 or 32 bits scaled to 8, where Pillow's own conversion would clip it."""
    values = np.asarray(picture, dtype=np.float64)
    top = 65535 if picture.mode.startswith("I;16") else max(values.max(), 1)
    return Image.fromarray((values / top * 255).clip(0, 255).astype(np.uint8))


if __name__ == "__main__":
    exit_cleanly(main)
