"""Every reader of files, for test_fuzz.py: one table, `READERS`."""

import contextlib
import gzip
import importlib
import io
import json
import lzma
import pickle
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import torch
import yaml
from PIL import Image
from safetensors.torch import save as serialize

from scripts.check_tree import check
from scripts.predict import prepare
from src.core.errors import UserError
from src.core.files import read_csv, read_json, write_csv, write_json
from src.core.params import PARAMS, PIPELINE, load_params, read_yaml
from src.data.cifar import LAYOUTS, PIXELS
from src.data.look import opened
from src.data.prepared import INFO, DatasetInfo, Split, load_arrays, load_info, save_info, save_split
from src.export.coded import encode
from src.export.decode import decode
from src.export.runtime import INPUT, OUTPUT, session
from src.network.pretrained import read_tensors
from src.network.record import load_recorded
from src.network.vgg import VGG, Conv, Hidden, Plan, Pool, save
from src.results.curves import CURVES, read_curves
from src.training.checkpoints import Checkpoints
from src.training.recipe import chosen_recipe

ROOT = Path(__file__).parent.parent
STAGES = ("download", "split", "train", "evaluate", "csi", "compress", "export", "benchmark", "compare", "draw")


@dataclass(frozen=True)
class Reader:
    """A reader of files: ``read`` gets the path of a file, and returns a value of the type ``kind``.

    ``valid`` is the part of a valid file that is damaged, and ``whole`` makes the file of it. ``exact``: a file that
    can be read must give the value of the valid one.
    """

    name: str
    path: Path
    valid: bytes
    read: Callable[[Path], Any]
    kind: type = object
    exact: bool = False
    whole: Callable[[bytes], bytes] = bytes


def written(name, write):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, name))
        return Path(folder, name).read_bytes()


def member(archive, name):
    """Return ``valid`` and ``whole`` of a reader of the zip file ``archive`` in which the file ``name`` is damaged.

    The checksums are right, so that the damage reaches what lies inside.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as source:
        files = {info: source.read(info) for info in source.namelist()}

    def whole(content):
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as changed:
            for info, old in files.items():
                changed.writestr(info, content if info == name else old)
        return target.getvalue()

    return {"valid": files[name], "whole": whole}


def header(network):
    """Return ``valid`` and ``whole`` of a reader of the safetensors file ``network`` in which the header is damaged."""
    stop = 8 + int.from_bytes(network[:8], "little")
    size = lambda content: len(content).to_bytes(8, "little")  # noqa: E731
    return {"valid": network[8:stop], "whole": lambda content: size(content) + content + network[stop:]}


def make_network(path):
    pools = (Pool(name=f"pool{number}") for number in range(1, 5))
    features = (Conv(name="conv1", channels=4), *pools, Conv(name="conv2", channels=4, batch_norm=False))
    network = VGG(Plan(features=features, head=(Hidden(name="hidden1", width=4),)))
    save(network, path, {"edition": "sample", "image_passes": 9, "pflop": 0.1, "steps": ["cut"], "val_accuracy": 0.9})


def make_tar(path):
    """Write an archive of six batch files, whose long names with an accent need extra headers."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for label, name in enumerate((*LAYOUTS[0].train, LAYOUTS[0].test)):
            content = bytes([label]) * (1 + PIXELS)
            info = tarfile.TarInfo(f"{'é' * 60}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def make_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("mine/cat/1.png", "mine/dog/1.png"):
            archive.writestr(name, written("a.png", make_picture))


def make_picture(path):
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010F: "a camera", 0x011A: 72.0})
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **{} if path.suffix in (".gif", ".bmp") else {"exif": exif})


def make_onnx(path):
    model = onnx.parser.parse_model(GRAPH)
    model.metadata_props.add(key="classes", value=json.dumps([str(number) for number in range(10)]))
    path.write_bytes(model.SerializeToString())


def read_split(path):
    return [array.tobytes() for array in load_arrays("train", path.parent)]


def read_params(path):
    """Read params.yaml as the check of the tree does, and as one stage does, which its content decides."""
    if not PIPELINE.exists():
        shutil.copy(ROOT / PIPELINE, PIPELINE)
    stage = STAGES[zlib.crc32(path.read_bytes()) % len(STAGES)]
    schema = importlib.import_module(f"stages.{stage}").Params
    params = load_params(stage, schema, "dense" if stage in ("compress", "export") else None)
    if stage in ("train", "draw"):
        chosen_recipe(params.train.recipe, params.train.defaults, params.train.recipes)
    check(path)


def read_network(path):
    network, _ = load_recorded(path)
    assert network(torch.zeros(2, 3, network.plan.side, network.plan.side)).shape == (2, network.plan.classes)


def save_weights(path, as_zip):
    torch.save({"state_dict": WEIGHTS}, path, _use_new_zipfile_serialization=as_zip)


def read_weights(path):
    return {name: tensor.tolist() for name, tensor in read_tensors(path).items()}


def read_dataset(path, **others):
    """Return pixels and labels of the data set ``path``, or of that in its folder, which gets the files ``others``."""
    for name, content in others.items():
        path.with_name(name).write_bytes(content)
    with opened(path.parent if others else path) as dataset:
        pictures = {name: [part[index] for index in range(len(part))] for name, part in dataset.parts.items()}
    return {name: [picture.tobytes() + b"%d" % label for picture, label in part] for name, part in pictures.items()}


def read_curve(path):
    """Return the curves of a training, one of which is ``path``."""
    folder = path.parents[1]
    for other in (folder / f"{name}.tsv" for name in CURVES):
        if other != path:
            other.parent.mkdir(parents=True, exist_ok=True)
            other.write_bytes(CURVE.replace(b"loss", other.stem.encode()))
    return read_curves(folder)


def read_coded(path):
    try:
        return decode(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def read_checkpoint(path):
    """Return the state as text. A checkpoint that is skipped with a printed line counts as refused."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        state = Checkpoints(path.parent).load(torch.device("cpu"))
    if state is None:
        raise UserError(printed.getvalue().removesuffix("\n"))
    return str(state)


IMAGES = Split((torch.arange(6 * 3 * 32 * 32).view(6, 3, 32, 32) % 251).to(torch.uint8), torch.arange(6))
STATE = {"steps": 7, "model": {"weight": torch.arange(6.0)}, "history": [{"epoch": 1, "val_loss": 0.5}]}
MAPPING = {"edition": "sample", "accuracy": 0.9, "steps": ["fold", "int8"], "export": {"fold": True, "method": None}}
ROWS = [{"recipe": name, "share": len(name) / 7, "bytes": 3**10, "note": None} for name in networks.CLASSES]
GRAPH = f"""<ir_version: 8, opset_import: ["": 17]>
small (float[N, 3, 32, 32] {INPUT}) => (float[N, 10] {OUTPUT})
<
    float16[4, 3, 1, 1] kernel = {{{", ".join("1" * 12)}}},
    int8[4, 10] matrix = {{{", ".join("2" * 40)}}},
    float scale = {{0.1}}
>
{{
    wide = Cast <to = 1> (kernel)
    maps = Conv ({INPUT}, wide)
    means = ReduceMean <axes = [2, 3], keepdims = 0> (maps)
    weights = DequantizeLinear (matrix, scale)
    {OUTPUT} = Gemm (means, weights)
}}"""
THREE = {INPUT: np.zeros((3, 3, 32, 32), np.float32)}

NPZ = written("train.npz", lambda path: save_split(path.parent, "train", IMAGES))
INFO_FILE = written(INFO, lambda path: save_info(path.parent, networks.INFO))
JSON, CSV = written("a", partial(write_json, values=MAPPING)), written("a", partial(write_csv, rows=ROWS))
SETTINGS, YAML = (yaml.safe_dump(values).encode() for values in (read_yaml(ROOT / PARAMS), MAPPING))
NETWORK, TAR = written("a", make_network), written("a", make_tar)
ONNX = written("a", make_onnx)
TERNARY = onnx.numpy_helper.from_array((np.arange(3000) % 3).astype(np.int8).reshape(60, 50))
CODED = encode(onnx.helper.make_model(onnx.helper.make_graph([], "ternary", [], [], [TERNARY])).SerializeToString())
ZIP = written("a.zip", make_zip)
KERAS = {"x_train": IMAGES.images[:, 0].numpy(), "y_train": np.arange(6), "x_test": np.zeros((2, 9, 9, 3), np.uint8)}
MINE = written("a.npz", lambda path: np.savez(path, **KERAS, y_test=np.arange(2)))
BINARY = b"".join(bytes([9, label]) + bytes(PIXELS) for label in range(3))
PICKLE = pickle.dumps({"data": np.zeros((3, PIXELS), np.uint8), "fine_labels": [0, 1, 2]}, protocol=2)
NAMES = pickle.dumps({"fine_label_names": ["apple", "bear", "clock"]})
CURVE = b"step\tloss\n" + b"".join(b"%d\t%f\n" % (epoch, epoch / 7) for epoch in range(1, 6))
CHECKPOINT = written("00000007.pt", lambda path: Checkpoints(path.parent).save(7, STATE))
WEIGHTS = {"module.weight": torch.arange(6.0), "module.bias": torch.ones(2).half()}
TORCH, OLD_TORCH = (written("a", partial(save_weights, as_zip=as_zip)) for as_zip in (True, False))
TENSORS = serialize(WEIGHTS)
PICTURES = {kind: written(f"a.{kind}", make_picture) for kind in ("png", "jpg", "webp", "tiff", "gif", "bmp")}
FOREIGN = (b"", NPZ, ONNX, SETTINGS, PICTURES["png"])

SPLIT, SAVED, STORED = Path("prepared/train.npz"), Path("a.safetensors"), Path("run/00000007.pt")
FOREIGN_WEIGHTS = Path("weights")
READERS = (
    Reader("split", SPLIT, NPZ, read_split, exact=True),
    Reader("split, images", SPLIT, read=read_split, **member(NPZ, "images.npy")),
    Reader("info", Path(INFO), INFO_FILE, lambda path: load_info(path.parent), DatasetInfo),
    Reader("json", Path("a.json"), JSON, read_json, dict),
    Reader("csv", Path("a.csv"), CSV, read_csv, list),
    Reader("yaml", Path("a.yaml"), YAML, read_yaml, dict),
    Reader("params", PARAMS, SETTINGS, read_params),
    Reader("network", SAVED, NETWORK, read_network),
    Reader("network, header", SAVED, read=read_network, **header(NETWORK)),
    Reader("onnx", Path("a.onnx"), ONNX, lambda path: session(path, threads=1).run([OUTPUT], THREE), list),
    Reader("coded", Path("a.coded"), CODED, read_coded, exact=True),
    Reader("tar", Path("a.tar"), TAR, read_dataset),
    Reader("tar.gz", Path("a.tar.gz"), gzip.compress(TAR, mtime=0), read_dataset, exact=True),
    Reader("tar.xz", Path("a.tar.xz"), lzma.compress(TAR), read_dataset, exact=True),
    Reader("zip", Path("a.zip"), ZIP, read_dataset),
    Reader("npz", Path("a.npz"), MINE, read_dataset),
    Reader("npz, images", Path("a.npz"), read=read_dataset, **member(MINE, "x_train.npy")),
    Reader("binary", Path("cifar/train.bin"), BINARY, partial(read_dataset, **{"test.bin": BINARY})),
    Reader("pickle", Path("cifar/train"), PICKLE, partial(read_dataset, test=PICKLE, meta=NAMES)),
    Reader("pickle, names", Path("cifar/meta"), NAMES, partial(read_dataset, train=PICKLE, test=PICKLE)),
    Reader("curves", Path("curves/val/loss.tsv"), CURVE, read_curve, dict),
    Reader("checkpoint", STORED, CHECKPOINT, read_checkpoint, exact=True),
    Reader("checkpoint, pickle", STORED, read=read_checkpoint, **member(CHECKPOINT, "archive/data.pkl")),
    Reader("weights", FOREIGN_WEIGHTS, TORCH, read_weights, dict, exact=True),
    Reader("weights, pickle", FOREIGN_WEIGHTS, read=read_weights, kind=dict, **member(TORCH, "a/data.pkl")),
    Reader("weights, before 2020", FOREIGN_WEIGHTS, OLD_TORCH, read_weights, dict),
    Reader("weights, safetensors", FOREIGN_WEIGHTS, TENSORS, read_weights, dict),
    Reader("weights, header", FOREIGN_WEIGHTS, read=read_weights, kind=dict, **header(TENSORS)),
    *(Reader(kind, Path(f"a.{kind}"), content, prepare, np.ndarray) for kind, content in PICTURES.items()),
)
