"""Bring a data set of any kind into one form: its pictures as squares of one size, in data/raw."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import Field

from src.core.errors import UserError, one_line
from src.core.files import NAMES
from src.core.params import Settings
from src.core.progress import progress
from src.data.cifar import EDITIONS
from src.data.dataset import Dataset
from src.data.folder import NoPictureError
from src.data.pictures import Fit, UnreadablePictureError, opaque, scaled
from src.data.prepared import CHANNELS, MOST_CLASSES, SIDES, SPLITS, SourceInfo, SplitName, save_arrays, save_info

NAMED = 5  # files that are named
LISTED = 12  # classes whose counts are printed; of more, the ends
COLUMNS = (*NAMES, "layer", "index")  # of tables that have classes beside them


class Form(Settings):
    """What becomes of pictures; params.yaml explains each setting."""

    side: int = Field(ge=SIDES[0], le=SIDES[1])
    fit: Fit
    unreadable: Literal["stop", "skip"]


@dataclass
class Collected:
    """The pictures of a split: ``images`` uint8 [N, 3, side, side], ``labels`` uint8 [N].

    ``digests`` are the SHA-256 of each with its label, before it was scaled; empty where a file was left out.
    ``scaled``: how many had another size. ``texts`` and ``unreadable``: the files that were left out.
    """

    images: np.ndarray
    labels: np.ndarray
    digests: list[bytes]
    scaled: int = 0
    texts: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def put(self, index: int, picture: Image.Image, label: int, form: Form) -> None:
        """Make ``picture``, of any mode, that number ``index``."""
        original = opaque(picture)
        about = f"{label} {original.width} {original.height} ".encode()
        self.digests[index] = hashlib.sha256(about + original.tobytes()).digest()
        self.images[index] = np.asarray(scaled(original, form.side, form.fit)).transpose(2, 0, 1)
        self.labels[index] = label
        self.scaled += original.size != (form.side, form.side)


def store(dataset: Dataset, folder: Path, form: Form) -> tuple[SourceInfo, list[str]]:
    """Write ``dataset`` to the new ``folder``; return what is known of it, and lines that tell what was done.

    The edition is found from all pixels and labels in order, before they are scaled. Raises `UserError` if a picture
    cannot be read, if a label has no name, and unless there are 2 to 256 classes with different names.
    """
    named = _checked(dataset.source, dataset.classes) if dataset.classes else None
    parts = {name: _collect(dataset, name, form) for name in SPLITS if name in dataset.parts}
    largest = max(int(part.labels.max()) for part in parts.values())
    classes = named or _checked(dataset.source, range(largest + 1))
    digest = hashlib.sha256(b"".join(digest for part in parts.values() for digest in part.digests)).hexdigest()
    info = SourceInfo(name=dataset.name, edition=EDITIONS.get(digest, digest[:8]), classes=classes)
    folder.mkdir()
    for name, part in parts.items():
        save_arrays(folder, name, part.images, part.labels)
    save_info(folder, info)
    return info, [line for name, part in parts.items() for line in _told(name, part, classes, form)]


def _checked(source: str, classes: Iterable[object]) -> tuple[str, ...]:
    names = tuple(map(str, classes))
    if not 2 <= len(names) <= MOST_CLASSES:
        raise UserError(f"{source}: {len(names)} classes; there must be 2 to {MOST_CLASSES}")
    if bad := [name for name in names if not name.isprintable() or not name.strip() or names.count(name) > 1]:
        raise UserError(f"{source}: {bad[0]!a} names a class; names must be printable, and each different")
    if columns := [name for name in names if name in COLUMNS]:
        raise UserError(f"{source}: {columns[0]!r} names a class; a column of the tables has this name")
    return names


def _collect(dataset: Dataset, name: SplitName, form: Form) -> Collected:
    part, size = dataset.parts[name], (form.side, form.side)
    total, most = len(part), len(dataset.classes or range(MOST_CLASSES))
    found = Collected(np.empty((total, CHANNELS, *size), np.uint8), np.zeros(total, np.uint8), [b""] * total)
    for index in progress(getattr(part, "order", range(total)), total, name, "pictures"):
        try:
            picture, label = part[index]
            if not 0 <= int(label) < most:
                raise UserError(f"{dataset.source}: {name}: label {label} found; labels are 0 to {most - 1}")
            found.put(index, picture, int(label), form)
        except NoPictureError as text:
            found.texts.append(str(text))
        except UnreadablePictureError as error:
            if form.unreadable == "stop":
                raise UserError(f"{error}; download.unreadable=skip leaves such files out") from None
            found.unreadable.append(str(error))
        except UserError:
            raise
        except Exception as error:  # torchvision's sets, and arrays of strange shapes, can raise almost anything
            raise UserError(f"{dataset.source}: {name}: picture {index}: {one_line(error)}") from error
    kept = np.array([digest != b"" for digest in found.digests], bool)
    if not kept.any():
        raise UserError(f"{dataset.source}: {name}: there is no picture")
    return found if kept.all() else replace(found, images=found.images[kept], labels=found.labels[kept])


def _told(name: str, part: Collected, classes: Sequence[str], form: Form) -> Iterator[str]:
    """Yield what a user must know of ``part``: one line, and one more for each kind of file that was left out."""
    counts = np.bincount(part.labels, minlength=len(classes)).tolist()
    shown = [f"{name} {count:,}" for count, name in sorted(zip(counts, classes, strict=True), reverse=True)]
    if len(set(counts)) == 1:
        shown = [f"{counts[0]:,} in each of {len(classes)} classes"]
    elif len(classes) > LISTED:
        shown[NAMED:-NAMED] = ["..."]
    yield f"{name}: {len(part.labels):,} pictures, {part.scaled:,} scaled ({form.fit}): {', '.join(shown)}"
    for reason, files in (("a text", part.texts), ("unreadable", part.unreadable)):
        if files:
            named = [*files[:NAMED], "..."] if len(files) > NAMED else files
            yield f"{name}: {len(files):,} left out ({reason}): {', '.join(named)}"
