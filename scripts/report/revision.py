"""A revision of the repository, or the working tree, as the report reads it: files, commit, plots of DVC."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException

from src.core.errors import UserError, one_line
from src.core.files import parse_csv


@dataclass(frozen=True)
class Revision:
    """A commit or an experiment by its ``name``, or the working tree if ``name`` is None."""

    name: str | None
    files: DVCFileSystem

    @property
    def label(self) -> str:
        """Return what people call it."""
        return self.name or "the working tree"

    def content(self, path: str) -> bytes:
        """Return the bytes of the file ``path``; none if there is no such file at this revision."""
        try:
            return self.files.read_bytes(path)
        except FileNotFoundError:
            return b""
        except (DvcException, OSError) as error:
            raise self._unreadable(path, error) from None

    def text(self, path: str) -> str:
        """Return the text in ``path``, "" if there is no such file; `UserError` if it is no text."""
        try:
            return self.content(path).decode()
        except UnicodeDecodeError as error:
            raise self._unreadable(path, error) from None

    def values(self, path: str, *keys: str) -> dict[str, Any]:
        """Return the mapping in the JSON file ``path``, {} if there is no such file; `UserError` without ``keys``."""
        text = self.text(path)
        try:
            values = json.loads(text or "{}")
            if text and (missing := [key for key in keys if key not in values]):
                raise ValueError(f"{', '.join(missing)} is missing")
            return dict(values)
        except (ValueError, TypeError) as error:
            raise self._unreadable(path, error) from None

    def rows(self, path: str, *columns: str) -> list[dict[str, Any]]:
        """Return the rows of the CSV file ``path``, [] if there is no such file; `UserError` without ``columns``."""
        content = self.content(path)
        try:
            return parse_csv(content, *columns) if content else []
        except Exception as error:  # a damaged file can raise almost anything
            raise self._unreadable(path, error) from None

    def pictures(self) -> dict[str, bytes]:
        """Return the pictures in plots/ by their names, without .png."""
        return {Path(path).stem: self.content(path) for path in sorted(self.files.glob("plots/*.png"))}

    def _unreadable(self, path: str, error: Exception) -> UserError:
        return UserError(f"{path}: not readable in {self.label}: {one_line(error)}")


def open_revision(name: str | None) -> Revision:
    """Return the revision or experiment ``name``, or the working tree; `UserError` if there is no such revision."""
    try:
        files = DVCFileSystem(rev=name)
        files.ls("")  # DVC looks at the revision no earlier
        return Revision(name, files)
    except (DvcException, OSError) as error:
        raise UserError(f"{name or 'the working tree'}: cannot be read: {one_line(error)}") from None


def commit_of(revision: Revision) -> dict[str, Any]:
    """Return hash, date (UTC) and first line of the commit; ``changed``: the working tree differs from it."""
    scm = revision.files.repo.scm
    try:
        commit = scm.resolve_commit(revision.files.repo.get_rev())
        changed = revision.name is None and scm.is_dirty()
    except Exception as error:  # Git without a commit, or no Git at all
        raise UserError(f"{revision.label}: no commit found: {one_line(error)}") from None
    date = datetime.fromtimestamp(commit.commit_time, UTC).date().isoformat()
    return {"hash": commit.hexsha, "date": date, "subject": commit.message.partition("\n")[0], "changed": changed}


def plots_of(revision: Revision) -> dict[str, dict[str, Any]]:
    """Return the Vega specifications of the plots that dvc.yaml names, by name; `UserError` if DVC fails.

    DVC also lists each of DVCLive's files as a plot, under the path of the file. They are parts of the named plots.
    """
    which = ["diff", revision.name, revision.name] if revision.name else ["show"]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dvc", "plots", *which, "--json", "--out", folder]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"{revision.label}: `dvc plots` failed: {reason}")
    found = json.loads(done.stdout)["data"]
    drawn = {name: plot for name, plots in found.items() for plot in plots if plot["type"] == "vega"}
    return {name: plot["content"] for name, plot in drawn.items() if "/" not in name}
