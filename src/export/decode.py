"""Decode a coded file to the ONNX file that it was made from: python decode.py FILE OUT.onnx.

Needs NumPy and constriction, and nothing else of this project: this file can be copied and run alone. A coded file,
all numbers little-endian:

    MAGIC, version (uint16), SHA-256 of the ONNX file (32 bytes), size of the frame in bytes (uint32)
    frame, compressed by xz
        number of coded tensors (uint16)
        for each tensor: b, how many bytes of the ONNX file lie between the tensor before and this one (uint32);
            n, how many distinct values it has (uint16); w, the bytes of a value (uint8);
            those b bytes; its n values of w bytes; how often each of them occurs (n times uint32)
        the bytes of the ONNX file after the last tensor
    stream: the entries of all coded tensors as positions in their tables of values, range-coded (uint32 words); the
        probability of a position is the share of its value in the tensor
"""

import argparse
import hashlib
import io
import lzma
import struct
import sys
from pathlib import Path

import constriction
import numpy as np

MAGIC, VERSION = b"\x89coded\r\n", 1
LARGEST = 2**31  # bytes of an ONNX file, which is a protobuf message
HEADER = struct.Struct("<8sH32sI")
TENSORS, TENSOR = struct.Struct("<H"), struct.Struct("<IHB")


def main() -> None:
    """Write OUT.onnx; end with 1 and one line, and without OUT.onnx, if FILE cannot be decoded."""
    parser = argparse.ArgumentParser(description="Decode a coded file to the ONNX file that it was made from.")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("out", type=Path, metavar="OUT.onnx")
    given = parser.parse_args()
    temporary, place = given.out.parent / f".{given.out.name}.part", given.file
    try:
        content, place = decode(given.file.read_bytes()), given.out
        try:
            temporary.write_bytes(content)
            temporary.replace(given.out)
        finally:
            temporary.unlink(missing_ok=True)
    except ValueError as error:
        sys.exit(f"error: {given.file}: {error}")
    except OSError as error:
        sys.exit(f"error: {place}: {error.strerror}")


def decode(coded: bytes) -> bytes:
    """Return the ONNX file in ``coded``, byte for byte; ValueError if it is foreign, newer, cut or damaged."""
    if not coded.startswith(MAGIC):
        raise ValueError("not a coded network")
    if len(coded) < HEADER.size:
        raise ValueError("damaged or cut")
    _, version, digest, size = HEADER.unpack_from(coded)
    if version != VERSION:
        raise ValueError(f"version {version} of the format; this decoder reads version {VERSION}")
    frame, stream = coded[HEADER.size :][:size], coded[HEADER.size + size :]
    try:
        content = _spliced(io.BytesIO(lzma.decompress(frame, lzma.FORMAT_XZ)), stream)
    except Exception as error:  # a damaged file can raise almost anything
        raise ValueError("damaged or cut") from error
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("damaged or cut")
    return content


def model(counts: np.ndarray) -> constriction.stream.model.Categorical:
    """Return the model of a tensor whose values occur as often as ``counts`` (at least two of them) say."""
    return constriction.stream.model.Categorical(counts.astype(np.float64), perfect=False)


def _spliced(frame: io.BytesIO, stream: bytes) -> bytes:
    decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(stream, "<u4").astype(np.uint32))
    parts = []
    (tensors,) = TENSORS.unpack(frame.read(TENSORS.size))
    for _ in range(tensors):
        before, values, width = TENSOR.unpack(frame.read(TENSOR.size))
        parts.append(frame.read(before))
        table = np.frombuffer(frame.read(values * width), f"V{width}")
        counts = np.frombuffer(frame.read(4 * values), "<u4")
        if width * int(counts.sum()) > LARGEST:  # before memory for it is asked for
            raise ValueError("too large")
        parts.append(table[decoder.decode(model(counts), int(counts.sum()))].tobytes())
    return b"".join([*parts, frame.read()])


if __name__ == "__main__":
    main()
