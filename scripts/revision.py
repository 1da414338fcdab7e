"""The files of a commit, of an experiment or of the working tree.

Git itself reads them, by paths from the folder of the project. So this works in a clone without old files
(``--filter``), where the libraries of DVC fetch nothing, and for a project inside a larger repository.
"""

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from src.core.errors import UserError, one_line
from src.core.files import parse_csv
from src.data.prepared import DatasetInfo
from src.results.comparison import DATASET

EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")  # the middle is the commit it started from
WORKING_TREE = "the working tree"


@dataclass(frozen=True)
class Revision:
    """A commit or an experiment by its ``name`` and the hash of its ``commit``, or the working tree with neither."""

    name: str | None = None
    commit: str | None = None

    @property
    def label(self) -> str:
        """Return what people call it."""
        return self.name or WORKING_TREE

    def content(self, path: str) -> bytes:
        """Return the bytes of the file ``path``; none if there is no such file; `UserError` if it cannot be read."""
        try:
            if self.commit is None:
                return Path(path).read_bytes() if Path(path).exists() else b""
            return git("cat-file", "blob", f"{self.commit}:./{path}") if self._paths(path) else b""
        except (OSError, UserError) as error:
            raise self._unreadable(path, error) from None

    def text(self, path: str) -> str:
        """Return the text in ``path``, "" if there is no such file; `UserError` if it is no text."""
        return self._parsed(path, bytes.decode, "")

    def values(self, path: str, *keys: str) -> dict[str, Any]:
        """Return the mapping in the JSON file ``path``, {} if there is no such file; `UserError` without ``keys``."""

        def mapping(content: bytes) -> dict[str, Any]:
            values = dict(json.loads(content))
            if missing := [key for key in keys if key not in values]:
                raise ValueError(f"{', '.join(missing)} is missing")
            return values

        return self._parsed(path, mapping, {})

    def rows(self, path: str, *columns: str) -> list[dict[str, Any]]:
        """Return the rows of the CSV file ``path``, [] if there is no such file; `UserError` without ``columns``."""
        return self._parsed(path, lambda content: parse_csv(content, *columns), [])

    def dataset(self) -> DatasetInfo | None:
        """Return what is known of the data set; None of older commits; `UserError` if the file is damaged."""
        return self._parsed(str(DATASET), DatasetInfo.model_validate_json, None)

    def pictures(self) -> dict[str, bytes]:
        """Return the pictures by their names, without .png; older commits have them in plots/."""
        folders = ("plots/", "plots/pictures/")
        paths = [path for folder in folders for path in self._files(folder) if path.endswith(".png")]
        return {Path(path).stem: self.content(path) for path in sorted(paths)}

    def _files(self, folder: str) -> list[str]:
        return self._paths(folder) if self.commit else [path.as_posix() for path in Path(folder).glob("*")]

    def _paths(self, path: str) -> list[str]:
        """Return ``path`` if the commit has it; what lies in it if it ends with a slash."""
        return git("ls-tree", "-z", "--name-only", str(self.commit), path).decode().split("\0")[:-1]

    def _parsed(self, path: str, parse: Callable[[bytes], Any], default: Any) -> Any:
        """Return what ``parse`` makes of the file ``path``, or ``default`` if there is no such file."""
        content = self.content(path)
        try:
            return parse(content) if content else default
        except Exception as error:  # a damaged file can raise almost anything
            raise self._unreadable(path, error) from None

    def _unreadable(self, path: str, error: Exception) -> UserError:
        return UserError(f"{path}: not readable in {self.label}: {one_line(error)}")


def open_revision(name: str | None) -> Revision:
    """Return the commit or the experiment ``name``, or the working tree; `UserError` if there is none of this name."""
    if name is None:
        return Revision()
    commit = _resolved(name) or _resolved(_experiment(name))
    if commit is None:
        raise UserError(f"{name}: no commit, branch, tag or experiment has this name")
    return Revision(name, commit)


def commit_of(revision: Revision) -> dict[str, Any]:
    """Return hash, date (UTC) and first line of the commit; ``changed``: the working tree differs from it."""
    shown = ["-c", "log.showSignature=false", "log", "-1", "--format=%H%n%ct%n%s", revision.commit or "HEAD"]
    commit, seconds, subject = git(*shown).decode(errors="replace").splitlines()
    date = datetime.fromtimestamp(int(seconds), UTC).date().isoformat()
    changed = revision.commit is None and bool(git("status", "--porcelain", "--untracked-files=no", "--", "."))
    return {"hash": commit, "date": date, "subject": subject, "changed": changed}


def missing(objects: str) -> bool:
    """Return whether this clone lacks some of ``objects``, as happens after ``git clone --filter``; fetches nothing.

    ``objects`` is a commit with all before it, or a folder of a commit (``HEAD:./``).
    """
    listed = git("rev-list", "--objects", "--missing=print", objects)
    return re.search(rb"^\?", listed, re.MULTILINE) is not None


def git(*arguments: str) -> bytes:
    """Return what the command of Git prints; `UserError` with Git's own reason if it fails."""
    done = _run(*arguments)
    if done.returncode:
        raise UserError(f"`git {arguments[0]}` failed: {one_line(done.stderr.decode(errors='replace'))}")
    return done.stdout


def _resolved(name: str | None) -> str | None:
    """Return the hash of the commit ``name``, None if there is none."""
    if name is None:
        return None
    done = _run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if done.returncode and done.stderr:  # a name that is not there is no error: Git is silent
        raise UserError(f"{name}: cannot be read: {one_line(done.stderr.decode(errors='replace'))}")
    return done.stdout.decode().strip() or None


def _experiment(name: str) -> str | None:
    """Return the ref of the experiment ``name``: the one that started from HEAD, or else the newest."""
    refs = git("for-each-ref", "--sort=-committerdate", "--format=%(refname)", "refs/exps").decode().split()
    named = [ref for ref in refs if (match := EXPERIMENT.fullmatch(ref)) and match[1] == name]
    head = _resolved("HEAD") or ""
    return next((ref for ref in named if f"/{head[:2]}/{head[2:]}/" in ref), named[0] if named else None)


def _run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("git: not installed, or not in PATH") from None
