"""Prepared arrays and statistics: written, read back, and complained about; what the split stage makes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src.core.dataset import (
    CLASSES,
    SPLITS,
    Split,
    Statistics,
    load_split,
    load_statistics,
    save_split,
    save_statistics,
)
from src.core.errors import UserError
from src.data.cifar10 import FILES
from src.pictures.augmentation import augmentation, one_class_after_another
from stages import split as stage

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def some():
    return Split(torch.randint(256, (20, 3, 32, 32), dtype=torch.uint8), torch.arange(20) % 10)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder with the committed params and 100 + 10 random images as data/raw, made the current one."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    pixels = np.random.default_rng(0)
    for name in FILES:
        records = pixels.integers(256, size=(20, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(20) % 10
        records.tofile(tmp_path / "data/raw" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_split_comes_back_as_it_was(tmp_path, some):
    save_split(tmp_path, "train", some)
    loaded = load_split("train", tmp_path)
    assert torch.equal(loaded.images, some.images)
    assert torch.equal(loaded.labels, some.labels)
    assert (loaded.images.dtype, loaded.labels.dtype) == (torch.uint8, torch.int64)


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


def test_statistics_come_back_as_they_were(tmp_path):
    written = Statistics("sample", (0.5, 0.25, 0.125), (0.1, 0.2, 0.3))
    save_statistics(tmp_path, written)
    loaded = load_statistics(tmp_path)
    assert loaded.edition == "sample"
    assert (tuple(loaded.mean), tuple(loaded.std)) == (written.mean, written.std)


@pytest.mark.parametrize("content", [None, "", "[]", '{"edition": "sample"}', '{"wrong": 1}'])
def test_unreadable_statistics_are_named(tmp_path, content):
    if content is not None:
        (tmp_path / "statistics.json").write_text(content)
    with pytest.raises(UserError, match=r"statistics\.json: not readable .*dvc repro split"):
        load_statistics(tmp_path)


def test_split_stage_writes_arrays_statistics_and_picture(project):
    stage.main()
    assert {path.name for path in (project / "data/prepared").iterdir()} == {
        "statistics.json",
        *(f"{name}.npz" for name in SPLITS),
    }
    train, validation, test = (load_split(name) for name in SPLITS)
    assert (len(train), len(validation), len(test)) == (90, 10, 20)
    measured = load_statistics()
    assert measured.edition == "custom"
    assert measured.mean == pytest.approx(train.images.numpy().mean(axis=(0, 2, 3)) / 255, abs=1e-7)
    assert (project / "plots/augmentation.png").exists()


def test_split_stage_gives_the_same_bytes_again(project):
    outputs = [*(Path("data/prepared") / f"{name}.npz" for name in SPLITS), Path("plots/augmentation.png")]
    stage.main()
    first = [path.read_bytes() for path in outputs]
    stage.main()
    assert [path.read_bytes() for path in outputs] == first


def test_split_stage_leaves_nothing_half_written(project):
    (project / "data/raw/data_batch_3.bin").write_bytes(b"short")
    with pytest.raises(UserError, match=r"data_batch_3\.bin: 5 bytes"):
        stage.main()
    assert [path.name for path in (project / "data").iterdir()] == ["raw"]


def test_picture_shows_the_classes_in_turn():
    numbered = Split(torch.arange(6, dtype=torch.uint8), torch.tensor([1, 1, 0, 2, 0, 2]))
    assert one_class_after_another(numbered, 4).images.tolist() == [2, 0, 3, 4]


def test_picture_grows_with_the_images(some):
    one, three = (augmentation(some[:count], 4, True, seed=0, edition="custom") for count in (1, 3))
    assert one.get_figwidth() == three.get_figwidth()
    assert one.get_figheight() < three.get_figheight()


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("padding", [0, 2])
def test_picture_shows_what_the_recipe_does(padding, mirrored):
    pixels = torch.randint(1, 256, (1, 3, 32, 32), dtype=torch.uint8)
    figure = augmentation(Split(pixels, torch.tensor([3])), padding, mirrored, seed=0, edition="custom")
    original, *versions = (torch.from_numpy(np.array(axes.images[0].get_array())) for axes in figure.axes)
    assert torch.equal(original, pixels[0].permute(1, 2, 0))
    padded = F.pad(pixels[0], (padding,) * 4)
    windows = [padded[:, y : y + 32, x : x + 32] for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
    straight = {window.permute(1, 2, 0).numpy().tobytes() for window in windows}
    turned = {window.flip(2).permute(1, 2, 0).numpy().tobytes() for window in windows}
    seen = {version.numpy().tobytes() for version in versions}
    assert seen <= straight | turned
    assert bool(seen & (turned - straight)) == mirrored
    assert f"{padding} black pixels" in figure.get_suptitle()
    assert ("mirrored" in figure.get_suptitle()) == mirrored


def test_ten_classes_in_the_official_order():
    assert len(CLASSES) == 10
    assert (CLASSES[0], CLASSES[3], CLASSES[9]) == ("airplane", "cat", "truck")
