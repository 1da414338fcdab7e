"""Coded files: the format by hand, the coder against the entropy, any tensor there and back, and what is refused."""

import hashlib
import json
import lzma
import os
import struct
import subprocess
import sys
from pathlib import Path

import constriction
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import plan, trained
from onnx import helper
from onnx.numpy_helper import from_array, to_array
from scipy.stats import entropy

from src.core.errors import UserError
from src.export import decode as decoder
from src.export.coded import encode, tensors
from src.export.decode import decode
from src.export.onnx import export
from stages import coded as stage

ROOT = Path(__file__).parent.parent
FLAGSHIP = (ROOT / "released/flagship.onnx").read_bytes()
CODES = np.repeat(np.array([0, 1, -1, 2], np.int8), [2048, 1024, 512, 512]).reshape(64, 64)  # 1.75 bits each


def file_of(*arrays):
    """An ONNX file with these initializers."""
    stored = [from_array(array, f"tensor{number}") for number, array in enumerate(arrays)]
    return helper.make_model(helper.make_graph([], "none", [], [], stored)).SerializeToString()


def parts(coded):
    """Frame and stream of a coded file, read as the docstring of src.export.decode says."""
    (size,) = struct.unpack_from("<I", coded, 42)
    return lzma.decompress(coded[46 : 46 + size]), coded[46 + size :]


def test_five_weights_coded_by_hand():
    content = b"before" + bytes([0, 0, 0xFF, 2, 0xFD]) + b"after"  # the codes 0, 0, -1, 2, -3
    values, counts = bytes([0, 2, 0xFD, 0xFF]), [2, 1, 1, 1]
    encoder = constriction.stream.queue.RangeEncoder()
    shares = np.array(counts) / sum(counts)
    model = constriction.stream.model.Categorical(shares, perfect=False)
    encoder.encode(np.array([0, 0, 3, 1, 2], np.int32), model)
    stream = encoder.get_compressed().tobytes()
    assert len(stream) == 4  # five codes of 1.92 bits are one word
    frame = struct.pack("<HIHB", 1, 6, 4, 1) + b"before" + values + struct.pack("<4I", *counts) + b"after"
    packed = lzma.compress(frame)
    head = struct.pack("<8sH32sI", b"\x89coded\r\n", 1, hashlib.sha256(content).digest(), len(packed))
    assert decode(head + packed + stream) == content


def test_bytes_of_a_tensor_whose_entropy_is_known():
    content = file_of(CODES)
    frame, stream = parts(encode(content))
    assert len(stream) in (896, 900)  # 4,096 x 1.75 bits, and at most a word to end with
    before = content.index(CODES.tobytes())
    table = bytes([0, 1, 2, 0xFF]) + struct.pack("<4I", 2048, 1024, 512, 512)
    assert frame == struct.pack("<HIHB", 1, before, 4, 1) + content[:before] + table + content[before + 4096 :]


def test_shared_floats_are_coded_and_floats_that_all_differ_are_not():
    shared = np.array([0, -0.5, 0.25], np.float32)[np.arange(9000) % 7 % 3].reshape(90, 100)
    other = np.random.default_rng(0).normal(size=(30, 40)).astype(np.float32)
    bias, constant = np.zeros(5000, np.int32), np.ones((50, 50), np.int8)
    content = file_of(other, shared, bias, constant, CODES, CODES[:1, :8])
    assert [tensor.name for tensor in tensors(content)] == ["tensor1", "tensor4"]
    assert decode(encode(content)) == content


ARRAYS = st.tuples(
    st.sampled_from(["int8", "uint8", "float16", "float32", "int64"]),
    st.lists(st.integers(0, 30), max_size=4),
    st.integers(1, 300),
    st.floats(0.01, 100),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(ARRAYS, max_size=4))
def test_any_tensors_come_back_byte_for_byte(drawn):
    arrays = []
    for kind, shape, values, peak, seed in drawn:
        random = np.random.default_rng(seed)
        table = random.bytes(values * np.dtype(kind).itemsize)
        shares = random.dirichlet(np.full(values, peak))
        arrays.append(np.frombuffer(table, kind)[random.choice(values, shape, p=shares)])
    content = file_of(*arrays)
    assert decode(encode(content)) == content


def test_the_flagship_is_coded_within_a_percent_of_the_entropy_of_its_codes():
    _, stream = parts(encode(FLAGSHIP))
    ideal, names = 0, [tensor.name for tensor in tensors(FLAGSHIP)]
    for tensor in onnx.load_model_from_string(FLAGSHIP).graph.initializer:
        if tensor.name in names:
            _, counts = np.unique(to_array(tensor), return_counts=True)
            ideal += entropy(counts, base=2) * counts.sum() / 8
    assert ideal > 600_000
    assert ideal <= len(stream) <= 1.001 * ideal


def test_the_script_decodes_in_a_fresh_process_and_imports_numpy_and_constriction_alone(tmp_path):
    (tmp_path / "a.coded").write_bytes(encode(FLAGSHIP))
    command = [sys.executable, "-m", "scripts.decode", tmp_path / "a.coded", tmp_path / "a.onnx"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "a.onnx").read_bytes() == FLAGSHIP
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.coded", "a.onnx"]
    lister = "import sys, src.export.decode; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", lister], cwd=ROOT, capture_output=True, text=True, check=True)
    bare = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True)
    new = {*loaded.stdout.split()} - {*bare.stdout.split()} - sys.stdlib_module_names
    assert new == {"numpy", "constriction", "src"}


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


GOOD = encode(file_of(CODES))
BOMB = lzma.compress(struct.pack("<HIHB2s2I", 1, 0, 2, 1, b"ab", *2 * [2**32 - 1]))  # claims to hold 8 GiB
BAD = {
    "not a coded network": [b"", b"\x89coded", FLAGSHIP[:1000], flipped(GOOD, 3)],
    "version 2 of the format; this decoder reads version 1": [GOOD[:8] + b"\x02\0" + GOOD[10:]],
    "damaged or cut": [
        *(GOOD[:size] for size in (8, 45, 46, 100, len(GOOD) - 4, len(GOOD) - 1)),
        *(flipped(GOOD, place) for place in (12, 43, 47, 120, len(GOOD) - 200)),
        GOOD[:100] + GOOD[101:],
        struct.pack("<8sH32sI", GOOD[:8], 1, b"", len(BOMB)) + BOMB,
    ],
}


@pytest.mark.parametrize(("told", "content"), [(told, content) for told, every in BAD.items() for content in every])
def test_what_is_foreign_newer_cut_or_damaged_is_told_in_one_line_and_nothing_is_written(
    told, content, tmp_path, monkeypatch
):
    source, out = tmp_path / "a.coded", tmp_path / "out.onnx"
    source.write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["decode", str(source), str(out)])
    with pytest.raises(SystemExit) as ended:
        decoder.main()
    assert ended.value.code == f"error: {source}: {told}"  # Python prints it, and exits with 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.coded"]


@pytest.mark.parametrize(
    ("source", "out", "place"),
    [
        ("none.coded", "a.onnx", "none.coded: No such file or directory"),
        ("a.coded", "none/a.onnx", "none/a.onnx: No such file or directory"),
        ("a.coded", "../here", "../here: Is a directory"),
        ("a.coded", ".", "\\.: [^\n]+"),  # its words differ between systems
        ("a.coded", "", "\\.: [^\n]+"),
    ],
)
def test_a_file_that_cannot_be_read_or_written_is_told_in_one_line(source, out, place, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("a.coded").write_bytes(GOOD)
    monkeypatch.setattr(sys, "argv", ["decode", source, out])
    with pytest.raises(SystemExit, match=f"^error: {place}$"):
        decoder.main()
    assert [path.name for path in tmp_path.rglob("*")] == ["here", "a.coded"]


def test_the_stage_proves_what_it_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setattr(sys, "argv", ["coded", "a"])
    network = trained(plan(8, 32, batch_norm=False))
    for parameter in network.parameters():
        parameter.data.sign_()
    export(network, Path("models/onnx/a.onnx"))
    content = Path("models/onnx/a.onnx").read_bytes()
    stage.main()
    coded = Path("models/coded/a.coded").read_bytes()
    assert decode(coded) == content
    found = json.loads(Path("models/coded/a.json").read_text())
    assert (found["coded_bytes"], found["xz_bytes"]) == (len(coded), len(lzma.compress(content)))
    assert found["bits_per_weight"]["features.2.weight"] == pytest.approx(1, abs=0.01)
    head, *layers = capsys.readouterr().out.splitlines()
    assert head.startswith(f"coded a: {len(coded):,} of {len(content):,} bytes (xz ")
    assert [line.split() for line in layers][1] == ["1.00", "features.2"]
    monkeypatch.setattr(stage, "encode", lambda content: encode(content)[:-4])
    Path("models/coded/a.coded").unlink()
    with pytest.raises(UserError, match=r"models/coded/a\.coded: does not decode to models/onnx/a\.onnx"):
        stage.main()
    assert [path.name for path in Path("models/coded").iterdir()] == ["a.json"]
