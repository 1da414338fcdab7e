"""Batch files: reading, splitting, describing, editions; the bundled sample and the script that makes it."""

import lzma
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from checks.make_sample import archived, first_of_each_class, sample
from src.core.errors import ParamsError, UserError
from src.core.params import validate
from src.data.cifar10 import (
    FILES,
    OFFICIAL_SHA256,
    SAMPLE_SHA256,
    TEST_FILE,
    TRAIN_FILES,
    edition,
    read_batch,
    read_records,
)
from src.data.fetch import SAMPLE, DownloadSettings, unpack
from src.data.prepared import CLASSES, Split, rank_in_class
from src.data.split import SplitSettings, described, split

ROOT = Path(__file__).resolve().parent.parent


def record(label, red, green, blue):
    """Make one record: each color is a bytes object of up to 1,024 values, the rest is zero."""
    return bytes([label]) + b"".join(plane.ljust(1024, b"\0") for plane in (red, green, blue))


@pytest.fixture
def raw(tmp_path):
    """Six files with 20 records each, two of each class; every pixel of a record is its number."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for number, name in enumerate(FILES):
        content = [bytes([i % 10]) + bytes([number * 20 + i]) * 3072 for i in range(20)]
        (folder / name).write_bytes(b"".join(content))
    return folder


@pytest.fixture(scope="module")
def sample_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample") / "raw"
    unpack(ROOT / SAMPLE, folder)
    return folder


def test_records_are_label_then_planes_row_by_row(tmp_path):
    path = tmp_path / "batch.bin"
    second_row = bytes(32) + bytes([7])
    path.write_bytes(record(3, bytes([10, 11]), b"\x14", b"\xff") + record(9, second_row, b"", b""))
    batch = read_batch(path)
    assert batch.images.shape == (2, 3, 32, 32)
    assert (batch.images.dtype, batch.labels.dtype) == (torch.uint8, torch.int64)
    assert batch.labels.tolist() == [3, 9]
    lit = {tuple(place): batch.images[tuple(place)].item() for place in batch.images.nonzero().tolist()}
    assert lit == {(0, 0, 0, 0): 10, (0, 0, 0, 1): 11, (0, 1, 0, 0): 20, (0, 2, 0, 0): 255, (1, 0, 1, 0): 7}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "0 bytes"), (bytes(3072), "3072 bytes"), (record(10, b"", b"", b""), "label 10 found; labels are 0 to 9")],
)
def test_bad_batch_file_is_refused_by_name(tmp_path, content, complaint):
    path = tmp_path / "batch.bin"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"batch.bin: {complaint}"):
        read_batch(path)


def test_missing_batch_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"batch\.bin: No such file"):
        read_batch(tmp_path / "batch.bin")


def test_folder_in_place_of_a_batch_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="Is a directory"):
        read_batch(tmp_path)


def test_raw_records_are_the_bytes_of_the_file(tmp_path):
    content = record(3, b"\x01", b"\x02", b"\x03") + record(9, b"", b"", b"")
    (tmp_path / "batch.bin").write_bytes(content)
    records = read_records(tmp_path / "batch.bin")
    assert records.shape == (2, 3073)
    assert records.tobytes() == content


def test_split_is_stratified_and_uses_every_image_once(raw):
    parts = split(raw, 0.2, seed=0)
    assert {name: len(part) for name, part in parts.items()} == {"train": 80, "validation": 20, "test": 20}
    assert parts["train"].labels.bincount().tolist() == [8] * 10
    assert parts["validation"].labels.bincount().tolist() == [2] * 10
    numbers = torch.cat([parts["train"].images, parts["validation"].images])[:, 0, 0, 0]
    assert sorted(numbers.tolist()) == list(range(100))
    for part in parts.values():
        assert (part.images[:, 0, 0, 0] % 10).tolist() == part.labels.tolist()


def test_split_follows_the_seed(raw):
    first, again, other = (split(raw, 0.2, seed)["validation"].images for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_split_without_enough_of_a_class_is_refused(raw):
    with pytest.raises(UserError, match="cannot hold out 1% of each class"):
        split(raw, 0.01, seed=0)


@pytest.mark.parametrize(
    ("dogs", "others", "test_dogs", "complaint"),
    [
        (20, 20, 0, "test has 0 of class dog; needed of each class: 2 in train, 1 in validation, 2 in test"),
        (20, 20, 1, "test has 1 of class dog"),
        (2, 104, 2, "validation has 0 of class dog"),
        (2, 10, 2, "train has 1 of class dog"),
    ],
)
def test_a_class_that_later_stages_cannot_use_is_told_by_split(raw, dogs, others, test_dogs, complaint):
    def write(file, dogs, others):
        counts = [dogs if name == "dog" else others for name in CLASSES]
        (raw / file).write_bytes(b"".join(count * record(label, b"", b"", b"") for label, count in enumerate(counts)))

    write(TRAIN_FILES[0], dogs, others)
    write(TEST_FILE, test_dogs, 2)
    for file in TRAIN_FILES[1:]:
        (raw / file).write_bytes(record(0, b"", b"", b""))
    with pytest.raises(UserError, match=f"raw: {complaint}"):
        split(raw, 0.5 if others == 10 else 0.1, seed=0)


def test_statistics_are_numpys():
    images = torch.randint(256, (9, 3, 32, 32), dtype=torch.uint8)
    measured = described({"train": Split(images, torch.arange(9))}, "digits", "12345678", ("0", "1"))
    unit = images.numpy().astype(np.float64) / 255
    assert (measured.title, measured.side, measured.images) == ("digits, 12345678 edition", 32, {"train": 9})
    assert measured.mean == pytest.approx(unit.mean(axis=(0, 2, 3)), abs=1e-8)
    assert measured.std == pytest.approx(unit.std(axis=(0, 2, 3)), abs=1e-8)


def test_rank_in_class_counts_earlier_ones():
    assert rank_in_class(np.array([3, 1, 3, 3, 1, 0])).tolist() == [0, 0, 1, 2, 1, 0]


def test_edition_of_other_bytes_is_custom(raw):
    assert edition(raw) == "custom"


def test_edition_needs_all_six(raw):
    (raw / TEST_FILE).unlink()
    with pytest.raises(UserError, match=r"test_batch\.bin: No such file.*dvc repro download"):
        edition(raw)


def test_one_flipped_bit_is_no_longer_the_sample(sample_folder, tmp_path):
    for name in FILES:
        (tmp_path / name).write_bytes((sample_folder / name).read_bytes())
    assert edition(tmp_path) == "sample"
    content = bytearray((tmp_path / TEST_FILE).read_bytes())
    content[-1] ^= 1
    (tmp_path / TEST_FILE).write_bytes(content)
    assert edition(tmp_path) == "custom"


def test_sample_holds_500_and_100_of_each_class(sample_folder):
    assert sorted(path.name for path in sample_folder.iterdir()) == sorted(FILES)
    batches = {name: read_batch(sample_folder / name) for name in FILES}
    assert {len(batch) for batch in batches.values()} == {1000}
    assert torch.cat([batches[name].labels for name in TRAIN_FILES]).bincount().tolist() == [500] * 10
    assert batches[TEST_FILE].labels.bincount().tolist() == [100] * 10


def test_sample_is_the_first_of_each_class_in_order():
    labels = [2, 0, 2, 2, 1, 0, 0, 1, 2]
    records = np.array([[label, number] for number, label in enumerate(labels)], dtype=np.uint8)
    assert first_of_each_class(records, 2)[:, 1].tolist() == [0, 1, 2, 4, 5, 7]


def test_script_makes_the_bundled_archive_from_its_files(sample_folder):
    files = {name: (sample_folder / name).read_bytes() for name in FILES}
    # The compressed bytes are not compared: they may differ between versions of liblzma.
    assert archived(files) == lzma.decompress((ROOT / SAMPLE).read_bytes())


def test_bundled_archive_holds_no_time_user_or_group():
    with tarfile.open(ROOT / SAMPLE) as archive:
        about = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in archive}
    assert about == {(0, 0, 0, "", "", 0o644, tarfile.REGTYPE)}


def test_script_makes_the_bundled_sample_from_the_official_bytes(sample_folder, tmp_path):
    source = Path(os.environ.get("CIFAR10_ARCHIVE") or ROOT / "data/raw")
    if not source.exists():
        pytest.skip("the official files are not here: neither CIFAR10_ARCHIVE nor data/raw")
    unpack(source, tmp_path / "raw")
    if edition(tmp_path / "raw") != "official":
        pytest.skip(f"{source} is another edition")
    assert sample(tmp_path / "raw") == {name: (sample_folder / name).read_bytes() for name in FILES}


def test_every_file_of_the_two_editions_has_its_own_checksum():
    assert set(OFFICIAL_SHA256) == set(SAMPLE_SHA256) == set(FILES)
    assert len({*OFFICIAL_SHA256.values(), *SAMPLE_SHA256.values()}) == 12


@pytest.mark.parametrize(
    ("schema", "values", "complaint"),
    [
        (DownloadSettings, {"source": ""}, "source: .*at least 1 character"),
        (DownloadSettings, {"source": 5}, "source: .*string"),
        (SplitSettings, {"validation_fraction": 0.0}, "validation_fraction: .*greater than 0"),
        (SplitSettings, {"validation_fraction": 1.0}, "validation_fraction: .*less than 1"),
    ],
)
def test_bad_settings_are_named(schema, values, complaint):
    with pytest.raises(ParamsError, match=complaint):
        validate(schema, values)
