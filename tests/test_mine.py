"""Foreign data through the stages in a few steps, and how `make mine` fits its training to the number of images."""

import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import balanced_accuracy_score

from scripts.check_tree import overridden
from scripts.mine import counted, fitted, located
from src.core.files import read_csv, read_json
from src.core.params import read_yaml
from src.data.look import opened
from src.data.prepared import load_info
from stages import compress, csi, download, evaluate, export, split, test, train

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "data/sample/cifar-10-sample.tar.xz"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)


def digits():
    """scikit-learn's digits, 8 x 8 gray, as Keras stores images."""
    images, labels = (load_digits().images * 15).astype(np.uint8), load_digits().target
    train, rest = slice(0, 300), slice(300, 400)
    np.savez("digits", x_train=images[train], y_train=labels[train], x_test=images[rest], y_test=labels[rest])
    return Path("digits.npz")


def python_archive():
    """A few images of the sample as `cifar-10-python.tar.gz` has them."""
    with opened(SAMPLE) as sample:
        pictures = {name: [part[index] for index in range(300)] for name, part in sample.parts.items()}
    batches = {f"data_batch_{i}": pictures["train"][60 * i - 60 : 60 * i] for i in range(1, 6)}
    with tarfile.open("archive", "w:gz") as archive:
        for name, batch in (batches | {"test_batch": pictures["test"][:100]}).items():
            data = np.array([np.asarray(picture).transpose(2, 0, 1).ravel() for picture, _ in batch])
            Path(name).write_bytes(pickle.dumps({b"data": data, b"labels": [label for _, label in batch]}, protocol=2))
            archive.add(name, f"cifar-10-batches-py/{name}")
    return Path("archive")


def folder():
    """Three unequal classes of pictures from the sample, some of them of other kinds."""
    with opened(SAMPLE) as sample:
        pictures = [sample.parts["train"][index] for index in range(600)]
    for name, label, count in (("bird", 2, 50), ("cat", 3, 30), ("truck", 9, 20)):
        Path("mine", name).mkdir(parents=True)
        for number, (picture, _) in enumerate([item for item in pictures if item[1] == label][:count]):
            mode = ("L", "P", "RGBA", "CMYK")[number] if number < 4 else "RGB"
            picture.convert(mode).resize((40 + number, 32)).save(Path("mine", name, f"{number}.tiff"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.full((40, 30), 40_000, np.uint16)).save("mine/bird/deep.png", exif=exif)
    Path("mine/bird/broken.png").write_bytes(Path("mine/bird/deep.png").read_bytes()[:60])
    Path("mine/bird/notes.txt").write_text("three classes")
    Path("mine/.hidden").write_bytes(b"\0")
    return Path("mine")


def narrow_params(path):
    """Write the committed params with a narrow network, few steps, and the data at ``path``."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["download"] |= {"source": "path", "path": str(path), "side": 24, "unreadable": "skip"}
    params["model"] |= {"width": 0.125, "depth": 11}
    params["train"]["recipe"] = "fast"
    params["train"]["recipes"]["fast"] |= {"epochs": 2, "batch_size": 25, "mixed_precision": False}
    params["csi"] |= {"neighbour_images": 80, "probe_images": 80}
    params["compress"]["recipes"] = {"dense": {"from": "trained", "step": "keep"}}
    Path("params.yaml").write_text(yaml.safe_dump(params))


@pytest.mark.parametrize(
    ("make", "name", "classes", "counts"),
    [
        (digits, "digits", 10, {"train": 270, "validation": 30, "test": 100}),
        (python_archive, "CIFAR-10", 10, {"train": 270, "validation": 30, "test": 100}),
        (folder, "mine", 3, {"train": 72, "validation": 8, "test": 21}),
    ],
)
def test_foreign_data_through_the_stages(make, name, classes, counts, monkeypatch, capsys):
    narrow_params(make())
    for stage in (download, split, train, evaluate, csi):
        stage.main()
    monkeypatch.setattr("sys.argv", ["stage", "dense"])
    for stage in (compress, export, test):
        stage.main()
    info = load_info()
    assert (info.name, info.side, len(info.classes), info.images) == (name, 24, classes, counts)
    told = capsys.readouterr().out
    assert ("(unreadable): mine/bird/broken.png" in told) == (make is folder)
    network = onnxruntime.InferenceSession("models/onnx/dense.onnx")
    assert [tuple(value.shape[1:]) for value in (*network.get_inputs(), *network.get_outputs())] == [
        (3, 24, 24),
        (classes,),
    ]
    rows = read_csv(Path("plots/confusion.csv"), "actual", "predicted")
    actual, predicted = ([str(row[key]) for row in rows] for key in ("actual", "predicted"))
    assert set(actual) == set(info.classes)
    found = read_json(Path("metrics/evaluate.json"), "test")["test"]["balanced_accuracy"]
    assert found == pytest.approx(balanced_accuracy_score(actual, predicted), abs=1e-6)


@pytest.mark.parametrize(
    ("images", "batch", "epochs", "budget"),
    [(60, 10, 100, 29), (400, 20, 50, 14), (45_000, 300, 7, 2), (600_000, 300, 3, 1)],
)
def test_few_images_get_small_batches_and_many_epochs(images, batch, epochs, budget):
    assert fitted(images)[:2] == [f"train.recipes.fast.epochs={epochs}", f"train.defaults.batch_size={batch}"]
    assert fitted(images)[-2] == f"compress.budget={budget}"


def test_heads_for_few_images_are_penalized_as_on_cifar_10_image_by_image():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert fitted(45_000)[-1] == f"compress.steps.truncate.head_c={params['compress']['steps']['truncate']['head_c']}"
    assert fitted(450)[-1] == "compress.steps.truncate.head_c=1"


@pytest.mark.parametrize(
    "name", ["pictures", "pictures (1)", "Müller's, von gestern", 'a "b" [c]={d}', "back\\slash\\"]
)
def test_the_folder_of_the_pictures_may_have_any_name(name):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    with overridden([located(Path(name))], "-S") as params:
        assert read_yaml(params)["download"]["path"] == str(Path(name).resolve())


def test_images_for_training_are_counted_before_they_are_read():
    split = {"test_fraction": 0.2, "validation_fraction": 0.1}
    assert counted(digits(), split) == (270, 10)
    assert counted(folder(), split) == (74, 3)  # 103 files, the broken one and the text too: 80 % and of these 90 %
