"""What `scripts.predict` makes of a picture: every mode, size and orientation, damaged ones, ones of other formats."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from scripts import predict
from src.core.errors import UserError

GREEN = (0, 128, 0)
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16"]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_a_batch_of_one(tmp_path, mode):
    path = tmp_path / "picture.tiff"
    source = Image.new("RGB", (50, 40), GREEN)
    if mode in ("I", "I;16"):
        kind = {"I": np.int32, "I;16": np.uint16}[mode]
        source = Image.fromarray(np.full((40, 50), 30_000, kind))
    source.convert(mode).save(path)
    batch = predict.prepare(path)
    assert batch.shape == (1, 3, 32, 32)
    assert batch.dtype == np.float32
    assert batch.min() >= 0
    assert batch.max() <= 1
    if mode in ("RGB", "RGBA", "CMYK", "YCbCr", "P"):
        assert np.abs(batch[0].mean((1, 2)) - np.array(GREEN) / 255).max() < 0.1
    if mode in ("I", "I;16"):
        assert batch.mean() == pytest.approx(30_000 / 65_535, abs=0.01)


@pytest.mark.parametrize("value", [np.float32(0.5), np.int32(65_536), np.int32(-1)])
def test_gray_without_a_known_white_is_refused(tmp_path, value):
    Image.fromarray(np.full((40, 50), value)).save(tmp_path / "picture.tiff")
    with pytest.raises(UserError, match=r"picture\.tiff: gray of 32 bits, .*; save it with 8 or 16 bits$"):
        predict.prepare(tmp_path / "picture.tiff")


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (32, 32), (640, 480), (2000, 3)])
def test_every_size_becomes_a_batch_of_one(tmp_path, size):
    Image.new("RGB", size, GREEN).save(tmp_path / "picture.png")
    assert np.allclose(predict.prepare(tmp_path / "picture.png")[0].mean((1, 2)), np.array(GREEN) / 255)


def test_a_picture_of_cifar_size_is_left_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    assert np.allclose(predict.prepare(tmp_path / "picture.png")[0], pixels.transpose(2, 0, 1) / 255)


def test_transparent_is_white(tmp_path):
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (predict.prepare(tmp_path / "clear.png") == 1).all()
    palette = Image.new("P", (40, 40), 0)
    palette.putpalette([0, 0, 0, *GREEN])
    palette.save(tmp_path / "clear.gif", transparency=0)
    assert (predict.prepare(tmp_path / "clear.gif") == 1).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpg", "tiff"])
def test_exif_orientation_is_undone_as_pillow_does_it(tmp_path, orientation, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{kind}"
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    assert np.allclose(predict.prepare(path)[0], expected.transpose(2, 0, 1) / 255)


@pytest.mark.parametrize(("width", "height"), [(16_320, 12_240), (12_000, 16_000)])
def test_a_photo_of_200_megapixels_is_read(tmp_path, width, height):
    picture = Image.new("L", (width, height), 255)
    picture.paste(0, (0, 0, width // 2, height))
    picture.save(tmp_path / "photo.jpg")
    batch = predict.prepare(tmp_path / "photo.jpg")
    assert batch[..., :15].max() < 0.1
    assert batch[..., 17:].min() > 0.9


def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded(tmp_path):
    Image.new("L", (1, 1)).save(tmp_path / "large.png")
    content = (tmp_path / "large.png").read_bytes()
    header = content[12:16] + struct.pack(">II", 16_320, 12_240) + content[24:29]
    (tmp_path / "large.png").write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    with pytest.raises(UserError, match=r"large\.png: 200 megapixels; at most 100 megapixels can be read"):
        predict.prepare(tmp_path / "large.png")


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\0"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'


@pytest.mark.parametrize("content", [HEIC, SVG, b"%PDF-1.7\n", b"", b"no picture"])
def test_a_picture_of_an_unknown_format_is_to_be_converted(tmp_path, content):
    path = tmp_path / "picture"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"picture: not a picture of a known format; convert HEIC, SVG"):
        predict.prepare(path)


def jpeg_with_exif(kind, content):
    """A JPEG whose EXIF data, written by hand, say that it is to be turned, and hold a value of some ``kind``."""
    entries = struct.pack("<HHHII", 2, 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x011A, kind, 1, 38)
    tiff = b"II*\0" + struct.pack("<I", 8) + entries + struct.pack("<I", 0) + content
    body = b"Exif\0\0" + tiff
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "JPEG")
    whole = buffer.getvalue()
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + whole[2:]


EXIF = {
    "usual": (5, struct.pack("<II", 72, 1)),
    "negative": (10, struct.pack("<ii", -1, 3)),
    "both negative": (10, struct.pack("<ii", -72, -1)),
    "no number": (5, struct.pack("<II", 0, 0)),
    "NaN": (12, struct.pack("<d", float("nan"))),
    "cut short": (5, b""),
    "unknown": (99, b"1234"),
}


@pytest.mark.parametrize("name", EXIF)
def test_of_exif_written_by_hand_only_the_orientation_counts(tmp_path, name):
    (tmp_path / "picture.jpg").write_bytes(jpeg_with_exif(*EXIF[name]))
    batch = predict.prepare(tmp_path / "picture.jpg")
    assert batch[..., 0].mean() > 0.9
    assert batch[..., -1].mean() < 0.1


def refusal(path):
    """What is said of a picture that cannot be read; None if it can."""
    try:
        predict.prepare(path)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_damaged_pictures_are_read_or_refused_in_one_line(tmp_path, kind):
    buffer, random = io.BytesIO(), np.random.default_rng(0)
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x011A: 72.0})
    Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(buffer, kind, exif=exif)
    path = tmp_path / "picture"
    for _ in range(100):
        content = np.frombuffer(buffer.getvalue(), np.uint8).copy()
        content[random.integers(0, min(len(content), 300), 3)] = random.integers(0, 256, 3)
        path.write_bytes(content[: random.integers(1, len(content))] if random.random() < 0.2 else content)
        assert (said := refusal(path)) is None or re.fullmatch(f"{path}: .+", said)


def test_what_is_no_picture_is_refused_in_one_line(tmp_path):
    cut = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:2000])
    for name in ("missing.png", cut.name):
        with pytest.raises(UserError, match=name) as refusal:
            predict.prepare(tmp_path / name)
        assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match="directory"):
        predict.prepare(tmp_path)
