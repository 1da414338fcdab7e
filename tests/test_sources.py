"""Data sets of users: folders and archives of pictures, .npz files, torchvision's sets; what is refused."""

import hashlib
import io
import pickle
import shutil
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision_compat import torchvision

from src.core.errors import UserError
from src.data import members, npz
from src.data.fetch import DownloadSettings, fetch
from src.data.prepared import load_arrays
from src.data.split import SplitSettings, split

RAW = Path("raw")
SHARES = SplitSettings(test_fraction=0.2, validation_fraction=0.2)
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def get(path="mine", **changes):
    """Bring the data set at ``path`` to `RAW`; what is known of it, and what the stage says of it."""
    form = {"source": "path", "path": str(path), "side": 32, "fit": "stretch", "unreadable": "stop"}
    return fetch(DownloadSettings(**form | changes), RAW)


def refused(match, path="mine", **changes):
    """Assert that the data set at ``path`` is refused in one line, and that nothing is left."""
    before = sorted(Path().rglob("*"))
    with pytest.raises(UserError, match=match) as caught:
        get(path, **changes)
    assert len(str(caught.value).splitlines()) == 1
    assert sorted(Path().rglob("*")) == before


def pictures(folder, count, side=32):
    """Write ``count`` pictures to ``folder``, as PNG files without an ending."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = RANDOM.integers(256, size=(side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path(folder, f"{number:03}"), "png")


@pytest.fixture
def mixed():
    """A folder with 3 unequal classes, and one picture of each strange kind: their pixels as they must become.

    All are 32 x 32, so that nothing is scaled.
    """
    for name, count in (("a bird", 30), ("cat", 20), ("dog", 10)):
        pictures(f"mine/{name}", count)
    halves = Image.new("RGB", (32, 32), "red")
    halves.paste("blue", (0, 16, 32, 32))
    gray = Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32))
    clear = halves.convert("RGBA")
    clear.paste((9, 9, 9, 0), (0, 0, 8, 8))
    white = halves.copy()
    white.paste("white", (0, 0, 8, 8))
    deep = np.arange(1024, dtype=np.uint16).reshape(32, 32) * 64
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned by 90 degrees to the left
    files = {
        "gray.png": (gray, gray.convert("RGB")),
        "palette.gif": (halves.convert("P"), halves),
        "rgba.png": (clear, white),
        "deep.png": (Image.fromarray(deep), Image.fromarray((deep // 257).astype(np.uint8)).convert("RGB")),
        "turned.png": (halves.transpose(Image.Transpose.ROTATE_270), halves),
        "cmyk.tiff": (halves.convert("CMYK"), halves),
    }
    for name, (picture, _) in files.items():
        picture.save(Path("mine/dog", name), **{"exif": exif} if name == "turned.png" else {})
    whole = Path("mine/dog/gray.png").read_bytes()
    Path("mine/dog/broken.png").write_bytes(whole[: len(whole) // 2])
    Path("mine/dog/notes.txt").write_text("Größe: 32")
    Path("mine/dog/.hidden").write_bytes(b"\0")
    Path("mine/README.md").write_text("beside the classes")
    return {name: np.asarray(expected).transpose(2, 0, 1) for name, (_, expected) in files.items()}


def test_pictures_of_every_kind_in_a_folder(mixed):
    info, lines = get(unreadable="skip")
    assert (info.name, info.classes) == ("mine", ("a bird", "cat", "dog"))
    assert lines[0] == "train: 66 pictures, 0 scaled (stretch): a bird 30, cat 20, dog 16"
    assert lines[1] == "train: 1 left out (a text): mine/dog/notes.txt"
    assert lines[2].startswith("train: 1 left out (unreadable): mine/dog/broken.png: not a picture that can be read (")
    images, labels = load_arrays("train", RAW)
    assert labels.tolist() == [0] * 30 + [1] * 20 + [2] * 16
    for image, name in zip(images[-6:], sorted(mixed), strict=True):
        assert np.abs(image.astype(int) - mixed[name]).max() <= (1 if name == "deep.png" else 0), name
    splits, info = split(RAW, SHARES, seed=0)
    assert info.images == {"train": 41, "validation": 11, "test": 14}
    assert splits["test"].labels.bincount().tolist() == [6, 4, 4]


def test_a_broken_picture_stops_by_name(mixed):
    refused(r"^mine/dog/broken\.png: not a picture.*; download\.unreadable=skip leaves such files out$")


@pytest.mark.parametrize("kind", ["gztar", "xztar", "tar", "zip"])
def test_an_archive_of_a_folder_is_the_same_whatever_its_name(mixed, kind):
    expected, _ = get(unreadable="skip")
    images, _ = load_arrays("train", RAW)
    shutil.move(shutil.make_archive("made", kind, ".", "mine"), "mine.png")
    shutil.rmtree("mine")
    assert get("mine.png", unreadable="skip")[0] == expected
    assert np.array_equal(load_arrays("train", RAW)[0], images)


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (("train", "test"), {"train", "test"}),
        (("train", "val"), {"train", "validation"}),
        (("deep/er/Training", "deep/er/Testing", "deep/er/Valid"), {"train", "validation", "test"}),
        (("train",), {"train"}),
        (("",), {"train"}),
    ],
)
def test_folders_may_lie_below_the_names_of_splits(folders, parts):
    for number, folder in enumerate(folders):
        pictures(f"mine/{folder}/cat", 3 + number)
        pictures(f"mine/{folder}/dog/some", 2)
    info, lines = get()
    assert info.classes == ("cat", "dog")
    assert {path.stem for path in RAW.glob("*.npz")} == parts
    assert lines[0] == "train: 5 pictures, 0 scaled (stretch): cat 3, dog 2"


def test_few_images_of_each_class_are_enough():
    for number in range(10):
        pictures(f"mine/{number}", 10)
    get()
    _, info = split(RAW, SHARES.model_copy(update={"validation_fraction": 0.1}), seed=0)
    assert info.images == {"train": 70, "validation": 10, "test": 20}


def test_classes_may_have_the_names_of_splits():
    for name in ("bus", "train"):
        pictures(f"mine/{name}", 2)
    assert get()[0].classes == ("bus", "train")


def test_the_ends_of_many_classes_are_told():
    for number in range(100):
        pictures(f"mine/{number:02}", 1 + number % 3, side=4)
    (line,) = get()[1]
    assert line.startswith("train: 199 pictures, 199 scaled (stretch): 98 3, 95 3, 92 3, 89 3, 86 3, ..., ")
    assert len(line) < 120


@pytest.mark.parametrize(
    ("folders", "complaint"),
    [
        ((), "mine: train: there is no folder of pictures for each class"),
        (("",), "mine: train: there is no folder of pictures"),
        (("cat",), "mine: train: there is no folder of pictures"),
        (("train/cat", "train/dog", "test"), "mine: test: there is no folder of pictures"),
        (("train/cat", "train/dog", "unlabeled"), "mine: train holds folders, as .* take unlabeled elsewhere"),
        (("train/cat", "train/dog", "test/cat", "dev/cat"), "mine: dev is no split; call it train, val or test"),
        (("my_train/cat", "my_train/dog", "my_test/cat"), "mine: my_test and my_train look like splits; call them"),
        (("val/cat", "val/dog", "test/cat"), "mine: test and val look like splits"),
        (("parent", "child"), "mine: 'parent' names a class; a column of the tables has this name"),
        ([f"{number}" for number in range(257)], "mine: 257 classes; there must be 2 to 256"),
        (("cat", "\x1b[2J"), r"mine: '\\x1b\[2J' names a class; names must be printable"),
    ],
)
def test_other_folders_are_refused(folders, complaint):
    Path("mine").mkdir()
    for folder in folders:
        pictures(f"mine/{folder}", 1, side=1)
    refused(f"^{complaint}")


def test_a_folder_of_texts_alone_is_refused():
    for name in ("cat", "dog"):
        Path("mine", name).mkdir(parents=True)
        Path("mine", name, "a.txt").write_text("no picture")
    refused("^mine: train: there is no picture$")


@pytest.mark.parametrize("content", [b"", b"\0" * 99, b"\xff\xd8\xff\xe0 cut"])
def test_a_file_that_is_neither_picture_nor_text_is_unreadable(content):
    for name in ("cat", "dog"):
        pictures(f"mine/{name}", 1)
    Path("mine/dog/photo").write_bytes(content)
    refused("^mine/dog/photo: not a picture")


def test_a_link_to_nowhere_is_unreadable():
    for name in ("cat", "dog"):
        pictures(f"mine/{name}", 1)
    Path("mine/dog/link").symlink_to("nowhere")
    refused("^mine/dog/link: cannot be read: No such file")


@pytest.mark.parametrize(
    ("fit", "corner", "middle"),
    [("stretch", "red", "green"), ("crop", "green", "green"), ("pad", "black", "green")],
)
def test_fit_decides_how_a_wide_picture_becomes_a_square(fit, corner, middle):
    wide = Image.new("RGB", (80, 40), "red")
    wide.paste("green", (20, 0, 60, 40))
    for name in ("cat", "dog"):
        Path("mine", name).mkdir(parents=True)
        wide.save(f"mine/{name}/wide.png")
    assert get(fit=fit, side=20)[1] == [f"train: 2 pictures, 2 scaled ({fit}): 1 in each of 2 classes"]
    image = load_arrays("train", RAW)[0][0]
    colors = {"red": [255, 0, 0], "green": [0, 128, 0], "black": [0, 0, 0]}
    assert image.shape == (3, 20, 20)
    assert image[:, 1, 1].tolist() == colors[corner]
    assert image[:, 10, 10].tolist() == colors[middle]


def gray(count, side=8):
    return RANDOM.integers(256, size=(count, side, side), dtype=np.uint8)


def test_npz_of_medmnist():
    images = {"train": gray(6), "val": gray(4), "test": gray(2)}
    labels = {name: np.arange(len(values), dtype=np.uint8)[:, None] % 2 for name, values in images.items()}
    named = {f"{name}_images": values for name, values in images.items()}
    np.savez("mine.npz", **named, **{f"{name}_labels": values for name, values in labels.items()})
    Path("mine.npz").rename("mine")
    info, lines = get(side=16)
    assert (info.name, info.classes) == ("mine", ("0", "1"))
    assert lines[1] == "validation: 4 pictures, 4 scaled (stretch): 2 in each of 2 classes"
    first, _ = load_arrays("validation", RAW)
    assert (first[:, 0] == first[:, 1]).all()
    expected = Image.fromarray(images["val"][0]).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(first[0, 2], expected)


@pytest.mark.parametrize("shape", [(4, 32, 32, 3), (4, 32, 32), (4, 32, 32, 1)])
def test_npz_of_keras(shape):
    images = RANDOM.integers(256, size=shape, dtype=np.uint8)
    labels = np.arange(4)
    others = {"x_val": images, "y_val": labels, "x_test": images[:2], "y_test": labels[:2]}
    np.savez("mine.npz", x_train=images, y_train=labels, **others)
    assert get("mine.npz")[0].classes == ("0", "1", "2", "3")
    assert np.array_equal(load_arrays("validation", RAW)[1], np.arange(4))
    expected = np.broadcast_to(images.reshape(4, 32, 32, -1), (4, 32, 32, 3))
    assert np.array_equal(load_arrays("train", RAW)[0].transpose(0, 2, 3, 1), expected)


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"images": gray(2)}, "holds images; expected x_train, y_train or train_images, train_labels"),
        ({"x_train": gray(2) / 255, "y_train": [0, 1]}, "images are float64; expected uint8"),
        ({"x_train": gray(2)[0], "y_train": [0, 1]}, r"images have the shape \(8, 8\)"),
        ({"x_train": gray(8)[None], "y_train": [0]}, r"images have the shape \(1, 8, 8, 8\)"),
        ({"x_train": gray(2), "y_train": [0.5, 1]}, r"labels are float64 \(2,\)"),
        ({"x_train": gray(2), "y_train": np.eye(2, dtype=int)}, r"labels are int64 \(2, 2\); expected whole numbers"),
        ({"x_train": gray(2), "y_train": [0, 256]}, "train: label 256 found; labels are 0 to 255"),
        ({"x_train": gray(2), "y_train": [0, -1]}, "train: label -1 found"),
        ({"x_train": gray(2), "y_train": [0, 0]}, "1 classes; there must be 2 to 256"),
        ({"x_train": gray(0), "y_train": np.zeros(0, int)}, "there is no image"),
        ({"x_train": gray(2), "y_train": [0, 1], "x_test": gray(2)}, "y_test"),
        ({"x_train": np.array([[["a"]]], object), "y_train": [0]}, "allow_pickle"),
    ],
)
def test_other_npz_are_refused(arrays, complaint):
    np.savez("mine.npz", **arrays)
    refused(rf"^mine\.npz: .*{complaint}", "mine.npz")


def test_what_is_too_large_is_not_read(monkeypatch):
    np.savez_compressed("bomb.npz", x_train=np.zeros((99, 99, 99), np.uint8), y_train=np.arange(99))
    monkeypatch.setattr(npz, "LARGEST", 1 << 19)
    refused(r"^bomb\.npz: arrays of 0 MiB; at most 0 MiB can be read", "bomb.npz")
    monkeypatch.setattr(members, "LARGEST", 1 << 20)
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("cat", "dog"):
            archive.writestr(f"{name}/a", bytes(1 << 21))
    refused(r"^bomb\.zip: cat/a: more than 1 MiB; no file may have more", "bomb.zip")


@pytest.mark.parametrize("name", ["../escaped", "mine/../../escaped", "/tmp/escaped", "..\\escaped", "."])
def test_a_zip_that_would_write_outside_is_refused(name):
    with zipfile.ZipFile("mine", "w") as archive:
        archive.writestr(name, "text")
    refused("^mine: '.*': only plain files and folders are allowed in the archive")


def test_a_damaged_picture_in_a_zip_is_told_by_its_checksum():
    pixels = io.BytesIO()
    Image.fromarray(gray(1, 64)[0]).save(pixels, "bmp")
    with zipfile.ZipFile("mine", "w") as archive:
        for name in ("cat/1.bmp", "dog/1.bmp"):
            archive.writestr(name, pixels.getvalue())
    content = bytearray(Path("mine").read_bytes())
    content[3000] ^= 1
    Path("mine").write_bytes(content)
    refused(r"^mine: cat/1\.bmp: cannot be read: Bad CRC-32")


class Sets:
    """Stands for torchvision's data sets, of which ``asked`` notes what was asked for."""

    def __init__(self, root, labels=(0, 1, 1), **options):
        assert Path(root).is_dir()
        self.labels, self.options = labels, options

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return Image.new("L", (28, 28), 100), self.labels[index]


class ByTrain(Sets):
    classes = ("one", "two")

    def __init__(self, root, train=True, transform=None, download=False):
        assert download
        super().__init__(root, (0, 1, 1) if train else (1, 0))


class BySplit(Sets):
    known = ("train", "val", "trainval", "test")

    def __init__(self, root, split="trainval", download=False):
        if split not in self.known:
            raise ValueError(f"Unknown value {split!r}")
        super().__init__(root, (0, 1, self.known.index(split)))


class Whole(Sets):
    def __init__(self, root, download=False):
        super().__init__(root)


class Boxes(Sets):
    def __init__(self, root, download=False):
        super().__init__(root, ({"boxes": []},))


class Offline(Sets):
    def __init__(self, root, train=True, download=False):
        Path(root, "half").touch()
        raise RuntimeError("Error downloading\nit")


@pytest.mark.parametrize(
    ("kind", "classes", "labels"),
    [
        (ByTrain, ("one", "two"), {"train": [0, 1, 1], "test": [1, 0]}),
        (BySplit, ("0", "1", "2", "3"), {"train": [0, 1, 0], "validation": [0, 1, 1], "test": [0, 1, 3]}),
        (Whole, ("0", "1"), {"train": [0, 1, 1]}),
    ],
)
def test_sets_of_torchvision(monkeypatch, kind, classes, labels):
    monkeypatch.setattr(torchvision.datasets, "Mine", kind, raising=False)
    info, lines = get(source="torchvision/Mine")
    assert (info.name, info.classes) == ("Mine", classes)
    assert {name: load_arrays(name, RAW)[1].tolist() for name in labels} == labels
    assert len(lines) == len(labels)
    assert [path.name for path in Path().iterdir()] == ["raw"]


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (None, "has no attribute"),
        (Offline, "Error downloading it"),
        (Boxes, "train: picture 0: int"),
        (torchvision, "not a callable object"),
    ],
)
def test_sets_that_torchvision_cannot_give_are_refused(monkeypatch, kind, complaint):
    if kind:
        monkeypatch.setattr(torchvision.datasets, "Mine", kind, raising=False)
    refused(f"^torchvision/Mine: .*{complaint}", source="torchvision/Mine")


@pytest.fixture
def site(monkeypatch):
    """The address of a server of the files here."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_torchvision_downloads_and_checks_the_set_itself(monkeypatch, site):
    """Its class of CIFAR-100, with the address and the checksums of an archive made here."""
    cifar100, values = torchvision.datasets.CIFAR100, {"fine_labels": [0, 1, 1], "data": gray(9, 32).reshape(3, -1)}
    files = {"train": values, "test": values, "meta": {"fine_label_names": ["apple", "bear"]}}
    with tarfile.open("archive", "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-100-python/{name}")
            info.size = len(pickle.dumps(content))
            archive.addfile(info, io.BytesIO(pickle.dumps(content)))
    monkeypatch.setattr(cifar100, "url", f"{site}/archive")
    monkeypatch.setattr(cifar100, "tgz_md5", hashlib.md5(Path("archive").read_bytes()).hexdigest())
    monkeypatch.setattr(cifar100, "train_list", [["train", None]])
    monkeypatch.setattr(cifar100, "test_list", [["test", None]])
    monkeypatch.setattr(cifar100, "meta", cifar100.meta | {"md5": None})
    by_torchvision, _ = get(source="torchvision/CIFAR100")
    assert by_torchvision.classes == ("apple", "bear")
    assert get("archive")[0].edition == by_torchvision.edition
    monkeypatch.setattr(cifar100, "tgz_md5", "0" * 32)
    refused("^torchvision/CIFAR100: File not found or corrupted", source="torchvision/CIFAR100")
