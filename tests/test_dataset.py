"""Prepared arrays and what is known of them: writing, reading, damaged files; what the stage split writes."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import INFO

from src.core.errors import UserError
from src.data.cifar import CLASSES
from src.data.prepared import (
    SPLITS,
    SourceInfo,
    Split,
    load_info,
    load_split,
    save_arrays,
    save_info,
    save_split,
)
from src.pictures.training import augmentation, one_class_after_another
from stages import split as stage

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def some():
    return Split(torch.randint(256, (20, 3, 32, 32), dtype=torch.uint8), torch.arange(20) % 10)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Work in a folder with the committed params and with 100 + 20 random images in data/raw."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    raw, pixels = tmp_path / "data/raw", np.random.default_rng(0)
    raw.mkdir(parents=True)
    for name, count in (("train", 100), ("test", 20)):
        images = pixels.integers(256, size=(count, 3, 32, 32), dtype=np.uint8)
        save_arrays(raw, name, images, np.arange(count, dtype=np.uint8) % 10)
    save_info(raw, SourceInfo(name="mine", edition="12345678", classes=CLASSES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_split_comes_back_as_it_was(tmp_path, some):
    save_split(tmp_path, "train", some)
    loaded = load_split("train", tmp_path)
    assert torch.equal(loaded.images, some.images)
    assert torch.equal(loaded.labels, some.labels)
    assert (loaded.images.dtype, loaded.labels.dtype) == (torch.uint8, torch.int64)


def test_stored_bytes_are_the_same_with_every_python(tmp_path):
    """The hash is that of what np.savez writes with Python 3.11.7; with 3.11.2 it writes other headers."""
    images = np.arange(2 * 3 * 16 * 16).astype(np.uint8).reshape(2, 3, 16, 16)
    save_arrays(tmp_path, "train", images, np.array([3, 7], np.uint8))
    found = hashlib.sha256((tmp_path / "train.npz").read_bytes()).hexdigest()
    assert found == "fe6efa230ee9730ea803a1283c042fe52b7e9b3550470aec98b162a34905e7f1"


def test_split_is_stored_in_bytes(tmp_path, some):
    save_split(tmp_path, "test", some)
    with np.load(tmp_path / "test.npz") as arrays:
        assert {name: (arrays[name].dtype, arrays[name].shape) for name in arrays} == {
            "images": (np.uint8, (20, 3, 32, 32)),
            "labels": (np.uint8, (20,)),
        }


def test_split_can_be_indexed(some):
    assert len(some) == 20
    assert some[5:8].labels.tolist() == [5, 6, 7]
    assert torch.equal(some[torch.tensor([4, 2])].images, some.images[[4, 2]])
    assert torch.equal(some.to(torch.device("cpu")).labels, some.labels)


@pytest.mark.parametrize("content", [None, b"no archive", b"", b"PK\x03\x04 damaged"])
def test_unreadable_split_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "train.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"train\.npz: not readable .*dvc repro split"):
        load_split("train", tmp_path)


def test_split_without_labels_is_named(tmp_path, some):
    np.savez(tmp_path / "train.npz", images=some.images.numpy())
    with pytest.raises(UserError, match=r"train\.npz: not readable .*labels"):
        load_split("train", tmp_path)


IMAGES, LABELS = np.zeros((3, 3, 32, 32), np.uint8), np.zeros(3, np.uint8)


@pytest.mark.parametrize(
    ("images", "labels", "complaint"),
    [
        (IMAGES.astype(np.float32), LABELS, "images are float32; expected uint8"),
        (IMAGES, LABELS.astype(np.int64), "labels are int64; expected uint8"),
        (IMAGES[:, :, :, :31], LABELS, r"images have the shape \(3, 3, 32, 31\)"),
        (IMAGES[0], LABELS, r"images have the shape \(3, 32, 32\)"),
        (IMAGES, LABELS[:2], r"labels have the shape \(2,\); expected \(3,\)"),
        (IMAGES, LABELS[None], r"labels have the shape \(1, 3\)"),
        (IMAGES[:0], LABELS[:0], "there is no image"),
        (IMAGES.astype(object), LABELS, "allow_pickle"),
    ],
)
def test_split_of_wrong_arrays_is_refused(tmp_path, images, labels, complaint):
    np.savez(tmp_path / "train.npz", images=images, labels=labels)
    with pytest.raises(UserError, match=rf"train\.npz: not readable \(.*{complaint}") as caught:
        load_split("train", tmp_path)
    assert "\n" not in str(caught.value)


def test_split_with_a_header_that_cannot_be_parsed_is_refused(tmp_path, some):
    """NumPy raises tokenize.TokenError here, which is neither OSError nor ValueError."""
    save_split(tmp_path, "train", some)
    path = tmp_path / "train.npz"
    path.write_bytes(path.read_bytes().replace(b"'shape': (", b"'shape': [", 1))
    with pytest.raises(UserError, match=r"train\.npz: not readable .*dvc repro split") as caught:
        load_split("train", tmp_path)
    assert "\n" not in str(caught.value)


def found_in(path):
    """Return the split in ``path``, or the message of the `UserError`."""
    try:
        return load_split(path.stem, path.parent)
    except UserError as error:
        return str(error)


def test_damaged_split_is_read_unchanged_or_refused_in_one_line(tmp_path, some):
    save_split(tmp_path, "test", some[:2])
    path = tmp_path / "test.npz"
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    headers = np.r_[0:300, len(whole) - 700 : len(whole)]
    for _ in range(200):
        content = np.frombuffer(whole, np.uint8).copy()
        content[generator.choice(headers, 3)] = generator.integers(256, size=3)
        path.write_bytes(content.tobytes())
        found = found_in(path)
        assert "\n" not in found if isinstance(found, str) else torch.equal(found.images, some.images[:2])


def test_info_comes_back_as_it_was(tmp_path):
    save_info(tmp_path, INFO)
    loaded = load_info(tmp_path)
    assert loaded == INFO


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "[" * 100_000,
        INFO.model_dump_json().replace('"sample"', '""'),
        INFO.model_dump_json().replace("0.5,0.4,", "0.5,"),
        INFO.model_dump_json().replace("0.25", '"x"'),
        INFO.model_dump_json().replace("0.25", "NaN"),
        INFO.model_dump_json().replace("0.25", "0.0"),
        INFO.model_dump_json().replace("edition", "wrong"),
    ],
    ids=lambda content: str(content)[:80],
)
def test_unreadable_info_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "dataset_info.json").write_text(content)
    with pytest.raises(UserError, match=r"dataset_info\.json: not readable .*dvc repro split"):
        load_info(tmp_path)


def test_split_stage_writes_arrays_and_info(project, capsys):
    stage.main()
    assert capsys.readouterr().out.splitlines() == [
        "data/prepared: 90 train, 10 validation, 20 test images",
        "held out from train: validation",
    ]
    assert {path.name for path in (project / "data/prepared").iterdir()} == {
        "dataset_info.json",
        *(f"{name}.npz" for name in SPLITS),
    }
    train, validation, test = (load_split(name) for name in SPLITS)
    assert (len(train), len(validation), len(test)) == (90, 10, 20)
    measured = load_info()
    assert measured.title == "mine, 12345678 edition"
    assert measured.mean == pytest.approx(train.images.numpy().mean(axis=(0, 2, 3)) / 255, abs=1e-7)


def test_split_stage_gives_the_same_bytes_again(project):
    outputs = [Path("data/prepared") / name for name in ("dataset_info.json", *(f"{name}.npz" for name in SPLITS))]
    stage.main()
    first = [path.read_bytes() for path in outputs]
    stage.main()
    assert [path.read_bytes() for path in outputs] == first


@pytest.mark.parametrize("name", ["train.npz", "test.npz", "dataset_info.json"])
def test_split_stage_leaves_no_incomplete_output(project, name):
    (project / "data/raw" / name).write_bytes(b"short")
    with pytest.raises(UserError, match=rf"data/raw/{name}: not readable .*dvc repro split"):
        stage.main()
    assert [path.name for path in (project / "data").iterdir()] == ["raw"]


def test_picture_shows_the_classes_in_turn():
    numbered = Split(torch.arange(6, dtype=torch.uint8), torch.tensor([1, 1, 0, 2, 0, 2]))
    assert one_class_after_another(numbered, 4).images.tolist() == [2, 0, 3, 4]


def test_picture_grows_with_the_images(some):
    one, three = (augmentation(some[:count], 4, True, seed=0, info=INFO) for count in (1, 3))
    assert one.get_figwidth() == three.get_figwidth()
    assert one.get_figheight() < three.get_figheight()


@pytest.mark.parametrize("flipped", [True, False])
@pytest.mark.parametrize("padding", [0, 2])
def test_picture_shows_what_the_recipe_does(padding, flipped):
    pixels = torch.randint(1, 256, (1, 3, 32, 32), dtype=torch.uint8)
    figure = augmentation(Split(pixels, torch.tensor([3])), padding, flipped, seed=0, info=INFO)
    original, *versions = (torch.from_numpy(np.array(axes.images[0].get_array())) for axes in figure.axes)
    assert torch.equal(original, pixels[0].permute(1, 2, 0))
    padded = F.pad(pixels[0], (padding,) * 4)
    windows = [padded[:, y : y + 32, x : x + 32] for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
    unflipped = {window.permute(1, 2, 0).numpy().tobytes() for window in windows}
    flipped_windows = {window.flip(2).permute(1, 2, 0).numpy().tobytes() for window in windows}
    seen = {version.numpy().tobytes() for version in versions}
    assert seen <= unflipped | flipped_windows
    assert bool(seen & (flipped_windows - unflipped)) == flipped
    assert f"{padding} black pixels" in figure.get_suptitle()
    assert ("flipped" in figure.get_suptitle()) == flipped


def test_picture_shows_cutout_where_the_recipe_has_it():
    pixels = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    figure = augmentation(Split(pixels, torch.tensor([3])), 0, False, seed=0, info=INFO, cutout=8)
    original, *versions = (np.array(axes.images[0].get_array()) for axes in figure.axes)
    assert (original == 200).all()
    assert all(0 < (version == 0).all(2).sum() <= 64 for version in versions)
    assert "black square of 8 pixels" in figure.get_suptitle()
