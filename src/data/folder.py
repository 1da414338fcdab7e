"""Pictures in a folder or an archive, with a folder for each class, by the rules of torchvision's ImageFolder."""

import codecs
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from src.core.errors import UserError
from src.data.dataset import Dataset
from src.data.members import Member
from src.data.pictures import UnreadablePictureError, read_picture
from src.data.prepared import SplitName

SPLITS: dict[str, SplitName] = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "validation", "valid": "validation", "validation": "validation"},
}
HEAD = 4096  # bytes by which text is recognized


class NoPictureError(UserError):
    """A text, which somebody laid beside the pictures."""


@dataclass(frozen=True)
class Pictures:
    """Files, each of which lies in the folder of one of the ``classes``."""

    files: Sequence[Member]
    classes: Sequence[str]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Return the picture number ``index`` as RGB, and its label.

        Raises `NoPictureError` if it is a text, and `UnreadablePictureError` if it is something else that Pillow does
        not read.
        """
        file = self.files[index]
        try:
            content = file.read()
            return read_picture(io.BytesIO(content), file.name), self.classes.index(file.parts[0])
        except UnreadablePictureError:
            if _is_text(content):
                raise NoPictureError(file.name) from None
            raise
        except UserError as error:  # of a damaged archive
            raise UnreadablePictureError(str(error)) from None

    @property
    def order(self) -> list[int]:
        """The order in which an archive is read fastest."""
        return sorted(range(len(self)), key=lambda index: self.files[index].place)


def find(source: Path, name: str, files: Sequence[Member]) -> Dataset:
    """Return the pictures among ``files``: a folder for each class, or such folders below train, test and val.

    Folders around all of them are passed over. Raises `UserError` if there is no folder of a class, or if folders look
    like splits and like classes.
    """
    files = _inside(files)
    groups: dict[SplitName, list[Member]] = {}
    for file in files:
        if split := SPLITS.get(file.parts[0].lower()):
            groups.setdefault(split, []).append(replace(file, parts=file.parts[1:]))
    others = [file.parts for file in files if file.parts[0].lower() not in SPLITS]
    if others and groups.keys() == {"train"} and any(len(file.parts) > 1 for file in groups["train"]):
        raise UserError(f"{source}: train holds folders, as splits do; rename it, or take {others[0][0]} elsewhere")
    deep = [parts[0] for parts in others if len(parts) > 2]
    if deep and "train" in groups and len(groups) > 1:
        raise UserError(f"{source}: {deep[0]} is no split; call it train, val or test, or take it elsewhere")
    if "train" not in groups or len(groups) == 1:  # classes that have such names
        if len(named := _named_like_splits(files)) > 1:
            raise UserError(f"{source}: {' and '.join(named)} look like splits; call them train, val and test")
        groups = {"train": files}
    in_class = {split: [file for file in group if len(file.parts) > 1] for split, group in groups.items()}
    if empty := [split for split, group in in_class.items() if not group]:
        raise UserError(f"{source}: {empty[0]}: there is no folder of pictures for each class")
    classes = sorted({file.parts[0] for group in in_class.values() for file in group})
    parts = {split: Pictures(sorted(group, key=lambda file: file.parts), classes) for split, group in in_class.items()}
    return Dataset(str(source), name, classes, parts)


def _inside(files: Sequence[Member]) -> list[Member]:
    """Return those of ``files`` that lie in a folder, below the folders that hold all of them."""
    inside = [file for file in files if len(file.parts) > 1]
    while len({file.parts[0] for file in inside}) == 1:
        inside = [replace(file, parts=file.parts[1:]) for file in inside if len(file.parts) > 2]
    return inside


def _named_like_splits(files: Sequence[Member]) -> list[str]:
    """Return the outer folders with the name of a split in theirs, as in training_set, if all pictures lie deeper."""
    if any(len(file.parts) == 2 for file in files):
        return []
    outer = sorted({file.parts[0] for file in files})
    return [name for name in outer if SPLITS.keys() & set(re.split("[^a-z]+", name.lower()))]


def _is_text(content: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(content[:HEAD])
    except UnicodeDecodeError:
        return False
    return text != "" and "\0" not in text
