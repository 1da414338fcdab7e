"""CIFAR-10 and CIFAR-100, binary and pickled; what split makes of them; the bundled sample."""

import hashlib
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import CLASSES

from checks.sample import cut
from src.core.errors import ParamsError, UserError
from src.core.params import validate
from src.data import pickles
from src.data.cifar import LAYOUTS
from src.data.fetch import SAMPLE, DownloadSettings, fetch
from src.data.look import opened
from src.data.prepared import Split, load_arrays, load_source, rank_in_class, save_arrays
from src.data.split import SplitSettings, described, split

ROOT = Path(__file__).resolve().parent.parent
FORM = {"side": 32, "fit": "stretch", "unreadable": "stop"}
FILES = (*LAYOUTS[0].train, LAYOUTS[0].test)
SHARES = SplitSettings(test_fraction=0.2, validation_fraction=0.1)


def fetched(path, raw, **form):
    """Bring the data set at ``path`` to ``raw``; what is known of it."""
    return fetch(DownloadSettings(source="path", path=str(path), **FORM | form), raw)[0]


def record(label, red, green, blue):
    """Make one record: each color is a bytes object of up to 1,024 values, the rest is zero."""
    return bytes([label]) + b"".join(plane.ljust(1024, b"\0") for plane in (red, green, blue))


@pytest.fixture
def batches(tmp_path):
    """Six files with 20 records each, two of each class; every pixel of a record is its number."""
    folder = tmp_path / "batches"
    folder.mkdir()
    for number, name in enumerate(FILES):
        content = [bytes([i % 10]) + bytes([number * 20 + i]) * 3072 for i in range(20)]
        (folder / name).write_bytes(b"".join(content))
    return folder


@pytest.fixture
def raw(batches, tmp_path):
    fetched(batches, tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture(scope="module")
def sample_raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "raw"
    fetched(ROOT / SAMPLE, folder)
    return folder


def read(path):
    """Classes, and pixels [N, 32, 32, 3] with labels of train and test."""
    with opened(path) as dataset:
        return dataset.classes, *((part.images, part.labels.tolist()) for part in dataset.parts.values())


def test_records_are_label_then_planes_row_by_row(batches):
    second_row = bytes(32) + bytes([7])
    test = record(3, bytes([10, 11]), b"\x14", b"\xff") + record(9, second_row, b"", b"")
    (batches / "test_batch.bin").write_bytes(test)
    classes, _, (images, labels) = read(batches)
    assert classes == CLASSES
    assert (images.shape, images.dtype, labels) == ((2, 32, 32, 3), np.uint8, [3, 9])
    lit = {tuple(place): int(images[tuple(place)]) for place in np.argwhere(images).tolist()}
    assert lit == {(0, 0, 0, 0): 10, (0, 0, 1, 0): 11, (0, 0, 0, 1): 20, (0, 0, 0, 2): 255, (1, 1, 0, 0): 7}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", r"/test_batch\.bin: 0 bytes"),
        (bytes(3072), r"/test_batch\.bin: 3072 bytes; expected a whole number of 3073-byte records"),
        (record(10, b"", b"", b""), ": test: label 10 found; labels are 0 to 9"),
    ],
)
def test_bad_batch_file_is_refused(batches, tmp_path, content, complaint):
    (batches / "test_batch.bin").write_bytes(content)
    with pytest.raises(UserError, match=f"batches{complaint}"):
        fetched(batches, tmp_path / "raw")


def pickled(folder, layout, protocol=2, version=2):
    """Write ``layout``: name to mapping, as Python 2 (keys and texts are bytes) or 3 pickled it."""
    folder.mkdir()
    text = (lambda value: value.encode()) if version == 2 else str
    for name, values in layout.items():
        names = {text(key): [*map(text, value)] if key.endswith("_names") else value for key, value in values.items()}
        (folder / name).write_bytes(pickle.dumps(names, protocol))
    return folder


def as_pickles(raw, batches):
    """The layout of the "python" archive with the images of ``raw``, in so many training ``batches``."""
    (images, labels), test = (load_arrays(name, raw) for name in ("train", "test"))
    parts = zip(np.array_split(images, batches), np.array_split(labels, batches), strict=True)
    named = {f"data_batch_{number}": part for number, part in enumerate(parts, start=1)} | {"test_batch": test}
    return {
        name: {"data": images.reshape(-1, 3072), "labels": labels.tolist(), "batch_label": "one of them"}
        for name, (images, labels) in named.items()
    } | {"batches.meta": {"label_names": CLASSES, "num_vis": 3072}}


@pytest.mark.parametrize(("protocol", "version"), [(2, 2), (2, 3), (4, 3), (5, 3)])
def test_the_pickled_form_of_the_sample_is_the_sample(sample_raw, tmp_path, protocol, version):
    folder = pickled(tmp_path / "cifar-10-batches-py", as_pickles(sample_raw, 5), protocol, version)
    source = folder
    if protocol == 2:
        source = tmp_path / "without an ending"
        with tarfile.open(source, "w:gz") as archive:
            archive.add(folder, folder.name)
    assert fetched(source, tmp_path / "raw") == load_source(sample_raw)
    for name in ("train", "test"):
        for mine, known in zip(load_arrays(name, tmp_path / "raw"), load_arrays(name, sample_raw), strict=True):
            assert np.array_equal(mine, known)


def test_cifar100_is_the_same_from_both_forms(tmp_path):
    """The fine label counts, which is the second of two; each name of the 100 classes is there."""
    pixels, names = np.random.default_rng(0), [f"thing_{number}" for number in range(100)]
    content = {name: pixels.integers(256, size=(400, 3072), dtype=np.uint8) for name in ("train", "test")}
    fine = np.arange(400, dtype=np.uint8) % 100
    layout = {
        name: {"data": data, "fine_labels": fine.tolist(), "coarse_labels": (fine // 5).tolist()}
        for name, data in content.items()
    }
    pickled(tmp_path / "cifar-100-python", layout | {"meta": {"fine_label_names": names, "coarse_label_names": ["x"]}})
    binary = tmp_path / "cifar-100-binary"
    binary.mkdir()
    for name, data in content.items():
        np.concatenate([fine[:, None] // 5, fine[:, None], data], axis=1).tofile(binary / f"{name}.bin")
    (binary / "fine_label_names.txt").write_text("\n".join([*names, ""]))
    (binary / "coarse_label_names.txt").write_text("x\n")
    infos = [fetched(folder, tmp_path / f"raw {folder.name}") for folder in (binary, tmp_path / "cifar-100-python")]
    assert infos[0] == infos[1]
    assert (infos[0].name, infos[0].classes) == ("CIFAR-100", tuple(names))
    images, labels = load_arrays("test", tmp_path / "raw cifar-100-binary")
    assert np.array_equal(images.reshape(400, -1), content["test"])
    assert np.array_equal(labels, fine)
    splits, info = split(
        tmp_path / "raw cifar-100-python", SplitSettings(test_fraction=0.5, validation_fraction=0.25), 0
    )
    assert info.images == {"train": 300, "validation": 100, "test": 400}
    assert splits["validation"].labels.bincount().tolist() == [1] * 100


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path("touched by a pickle"),)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"data": Hostile()}, "asks for pathlib.Path.touch; only arrays and plain values are read"),
        ({"data": np.float64}, "asks for numpy.float64"),
        ({"data": [[0] * 3072] * 3}, "lacks labels"),
        ({"data": np.zeros((3, 3072)), "labels": [0, 1, 2]}, "images are float64"),
        ({"data": np.zeros((3, 3072), np.uint8), "labels": [0, 1]}, "labels are int64"),
        ({"data": np.zeros((3, 3000), np.uint8), "labels": [0, 1, 2]}, "reshape"),
        ([1, 2], "no pickle that can be read"),
    ],
)
def test_other_pickles_are_refused_and_run_nothing(sample_raw, tmp_path, monkeypatch, values, complaint):
    monkeypatch.chdir(tmp_path)
    folder = pickled(tmp_path / "mine", as_pickles(sample_raw, 5))
    (folder / "data_batch_2").write_bytes(pickle.dumps(values))
    with pytest.raises(UserError, match=f"^mine.*{complaint}"):
        fetched("mine", Path("raw"))
    assert sorted(path.name for path in Path().iterdir()) == ["mine"]


def test_the_unpickler_knows_arrays_alone():
    assert sorted(pickles.KNOWN) == ["_frombuffer", "_reconstruct", "dtype", "ndarray"]


def test_two_data_sets_in_a_folder_are_refused(batches, sample_raw):
    pickled(batches / "cifar-10-batches-py", as_pickles(sample_raw, 5))
    with pytest.raises(UserError, match=r"batches: holds data_batch_1\.bin and data_batch_1; one data set is expected"):
        read(batches)


def test_split_is_stratified_and_uses_every_image_once(raw):
    parts, _ = split(raw, SplitSettings(test_fraction=0.5, validation_fraction=0.2), seed=0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 80, "validation": 20, "test": 20}
    assert parts["train"].labels.bincount().tolist() == [8] * 10
    assert parts["validation"].labels.bincount().tolist() == [2] * 10
    numbers = torch.cat([parts["train"].images, parts["validation"].images])[:, 0, 0, 0]
    assert sorted(numbers.tolist()) == list(range(100))
    for part in parts.values():
        assert (part.images[:, 0, 0, 0] % 10).tolist() == part.labels.tolist()


def test_split_follows_the_seed(raw):
    first, again, other = (split(raw, SHARES, seed)[0]["validation"].images for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_split_without_enough_of_a_class_is_refused(raw):
    with pytest.raises(UserError, match=r"cannot hold out \d+ of \d+ images: The train_size"):
        split(raw, SplitSettings(test_fraction=0.2, validation_fraction=0.99), seed=0)


@pytest.mark.parametrize(
    ("dogs", "others", "test_dogs", "complaint"),
    [
        (20, 20, 0, "test has 0 of class dog; needed of each class: 2 in train, 1 in validation, 2 in test"),
        (20, 20, 1, "test has 1 of class dog"),
        (2, 104, 2, "train has 1 of class dog"),
        (2, 10, 2, "train has 1 of class dog"),
    ],
)
def test_a_class_that_later_stages_cannot_use_is_told_by_split(raw, dogs, others, test_dogs, complaint):
    def write(split, dogs, others):
        counts = [dogs if name == "dog" else others for name in CLASSES]
        labels = np.repeat(np.arange(10, dtype=np.uint8), counts)
        save_arrays(raw, split, np.zeros((len(labels), 3, 32, 32), np.uint8), labels)

    write("train", dogs, others)
    write("test", test_dogs, 2)
    share = 0.5 if others == 10 else 0.1
    with pytest.raises(UserError, match=f"raw: {complaint}"):
        split(raw, SplitSettings(test_fraction=0.2, validation_fraction=share), seed=0)


def test_a_small_class_gets_images_in_each_split(raw):
    """A tenth of six images, twice, is one or none; two and one are needed."""
    (raw / "test.npz").unlink()
    labels = np.repeat(np.arange(10, dtype=np.uint8), [6] + 9 * [100])
    images = np.zeros((len(labels), 3, 32, 32), np.uint8)
    images[:, 0, 0, 0], images[:, 1, 0, 0] = np.divmod(np.arange(len(labels)), 256)
    images[:, 2, 0, 0] = images[:, 1, 0, 0]
    save_arrays(raw, "train", images, labels)
    parts, _ = split(raw, SplitSettings(test_fraction=0.1, validation_fraction=0.1), seed=0)
    counts = {name: part.labels.bincount().tolist() for name, part in parts.items()}
    assert [counts[name][0] for name in ("train", "validation", "test")] == [3, 1, 2]
    assert counts["test"][1:] == [10] * 9
    pixels = torch.cat([part.images for part in parts.values()]).int()
    numbers = 256 * pixels[:, 0, 0, 0] + pixels[:, 1, 0, 0]
    assert sorted(numbers.tolist()) == list(range(906))


def test_what_a_set_has_itself_is_not_held_out(raw):
    images, labels = load_arrays("test", raw)
    save_arrays(raw, "validation", images[::-1], labels[::-1])
    parts, info = split(raw, SHARES, seed=0)
    assert info.images == {"train": 100, "validation": 20, "test": 20}
    assert parts["validation"].images[:, 0, 0, 0].tolist() == images[::-1, 0, 0, 0].tolist()


def test_test_is_held_out_where_a_set_has_none(raw):
    (raw / "test.npz").unlink()
    parts, info = split(raw, SplitSettings(test_fraction=0.2, validation_fraction=0.25), seed=0)
    assert info.images == {"train": 60, "validation": 20, "test": 20}
    assert parts["test"].labels.bincount().tolist() == [2] * 10
    numbers = np.concatenate([part.images[:, 0, 0, 0] for part in parts.values()])
    assert sorted(numbers.tolist()) == list(range(100))


# Found with the code before data sets of other kinds could be read; seed 0, a tenth for validation
PREPARED = {
    "train": ("c7944603643db7318b3d9167d7c88fbdf261d75e97ba6056d1fc1a0ec735dedc", "26049561acf0fcd8"),
    "validation": ("fa98accba0fa914a87e08eea13abcc10b8e48fb97741cc86d143537c4d30ead5", "ee56a19c1fa35120"),
    "test": ("c7a0ff14cc4bbf93a2ec1eafee5c680db49c6a9e91797f5c5df2e628f0a2cfe0", "bf5fd7ab55257c7e"),
}


def test_the_bytes_of_the_prepared_sample_stay(sample_raw):
    parts, _ = split(sample_raw, SHARES, seed=0)
    for name, (images, labels) in PREPARED.items():
        stored = parts[name].labels.numpy().astype(np.uint8)
        assert hashlib.sha256(parts[name].images.numpy().tobytes()).hexdigest() == images
        assert hashlib.sha256(stored.tobytes()).hexdigest().startswith(labels)


def test_statistics_are_numpys(raw):
    images = np.random.default_rng(0).integers(256, size=(9, 3, 32, 32), dtype=np.uint8)
    known = load_source(raw).model_copy(update={"name": "digits", "edition": "12345678"})
    measured = described({"train": Split(torch.from_numpy(images), torch.arange(9))}, known)
    unit = images.astype(np.float64) / 255
    assert (measured.title, measured.side, measured.images) == ("digits, 12345678 edition", 32, {"train": 9})
    assert measured.mean == pytest.approx(unit.mean(axis=(0, 2, 3)), abs=1e-8)
    assert measured.std == pytest.approx(unit.std(axis=(0, 2, 3)), abs=1e-8)


def test_pictures_of_one_color_are_refused(raw):
    for name in ("train", "test"):
        _, labels = load_arrays(name, raw)
        save_arrays(raw, name, np.full((len(labels), 3, 32, 32), 255, np.uint8), labels)
    with pytest.raises(UserError, match="CIFAR-10: all training pixels of a channel are equal"):
        split(raw, SHARES, seed=0)


def test_rank_in_class_counts_earlier_ones():
    assert rank_in_class(np.array([3, 1, 3, 3, 1, 0])).tolist() == [0, 0, 1, 2, 1, 0]


def test_edition_is_that_of_the_content(batches, tmp_path):
    first = fetched(batches, tmp_path / "raw")
    assert len(first.edition) == 8
    assert fetched(batches, tmp_path / "large", side=48).edition == first.edition
    assert load_arrays("test", tmp_path / "large")[0].shape == (20, 3, 48, 48)
    for place in (-1, 0):  # a pixel, a label
        content = bytearray((batches / "test_batch.bin").read_bytes())
        content[place] ^= 1
        (batches / "test_batch.bin").write_bytes(content)
        assert fetched(batches, tmp_path / "raw").edition != first.edition


def test_sample_holds_500_and_100_of_each_class(sample_raw):
    assert load_source(sample_raw).title == "CIFAR-10, sample edition"
    assert load_source(sample_raw).classes == CLASSES
    counts = {name: np.bincount(load_arrays(name, sample_raw)[1]).tolist() for name in ("train", "test")}
    assert counts == {"train": [500] * 10, "test": [100] * 10}


def test_cut_gives_the_first_records_of_each_file(sample_raw, tmp_path):
    cut(ROOT / SAMPLE, tmp_path / "few", train=3, test=2)
    assert {path.name: path.stat().st_size for path in (tmp_path / "few").iterdir()} == {
        name: (2 if name == "test_batch.bin" else 3) * 3073 for name in FILES
    }
    images, labels = load_arrays("train", sample_raw)
    first = [bytes([label]) + image.tobytes() for image, label in zip(images[:3], labels, strict=False)]
    assert (tmp_path / "few/data_batch_1.bin").read_bytes() == b"".join(first)


def test_sample_is_the_first_500_and_100_official_images_of_each_class(sample_raw, tmp_path):
    source = os.environ.get("CIFAR10_ARCHIVE")
    if not source or fetched(source, tmp_path / "raw").edition != "official":
        pytest.skip("CIFAR10_ARCHIVE does not name the official files")
    for name, count in (("train", 500), ("test", 100)):
        images, labels = load_arrays(name, tmp_path / "raw")
        first = rank_in_class(labels) < count
        ours = load_arrays(name, sample_raw)
        assert np.array_equal(ours[0], images[first])
        assert np.array_equal(ours[1], labels[first])


VALID = {DownloadSettings: FORM | {"source": "path", "path": "mine"}, SplitSettings: SHARES.model_dump()}


@pytest.mark.parametrize(
    ("schema", "values", "complaint"),
    [
        (DownloadSettings, {"source": ""}, "source: must be official, sample, path or torchvision/NAME"),
        (DownloadSettings, {"source": 5}, "source: .*string"),
        (DownloadSettings, {"source": "/my/data"}, "found '/my/data'.*set it to path, and download.path to where"),
        (DownloadSettings, {"source": "torchvision/../x"}, "source: must be"),
        (DownloadSettings, {"path": ""}, "path: .*at least 1 character"),
        (DownloadSettings, {"side": 15}, "side: .*greater than or equal to 16"),
        (DownloadSettings, {"side": 97}, "side: .*less than or equal to 96"),
        (DownloadSettings, {"fit": "squeeze"}, "fit: .*'stretch', 'crop' or 'pad'"),
        (DownloadSettings, {"unreadable": "ask"}, "unreadable: .*'stop' or 'skip'"),
        (SplitSettings, {"validation_fraction": 0.0}, "validation_fraction: .*greater than 0"),
        (SplitSettings, {"test_fraction": 1.0}, "test_fraction: .*less than 1"),
    ],
)
def test_bad_settings_are_named(schema, values, complaint):
    with pytest.raises(ParamsError, match=complaint):
        validate(schema, VALID[schema] | values)
