"""The code of a stage, here and at a commit: which files run, and which of their definitions differ.

Two files are the same code if their syntax trees agree without comments, docstrings and positions. Files are mappings
from path to content, with paths from the top of the repository. Imports are absolute, as everywhere in this project.
"""

import ast
import hashlib
import json
from collections.abc import Container, Iterator, Mapping
from functools import cache
from pathlib import Path, PurePosixPath

from scripts.revision import git
from src.core.code import bare_tree
from src.core.errors import UserError, one_line

Files = Mapping[str, bytes]


def files_here(path: str) -> Files:
    """Return the files of ``path``, a file or a folder, without what Python caches in it."""
    found = sorted(Path(path).rglob("*")) if Path(path).is_dir() else [Path(path)]
    return {file.as_posix(): file.read_bytes() for file in found if file.is_file() and "__pycache__" not in file.parts}


@cache
def files_at(commit: str, path: str) -> Files:
    """Return the files of ``path``, a file or a folder, at ``commit``; none if it did not exist there."""
    entries = git("ls-tree", "-r", "-z", commit, "--", path).decode().split("\0")[:-1]
    blobs = {name: head.split()[2] for head, name in (entry.split("\t", 1) for entry in entries)}
    return {name: _blob(blob) for name, blob in blobs.items()}


@cache
def _blob(name: str) -> bytes:
    return git("cat-file", "blob", name)


def commit_with(recorded: Mapping[str, str], lock: str) -> str | None:
    """Return the newest commit where each path has the MD5 in ``recorded``; None if there is none.

    Only commits count that changed one of the paths or the file ``lock``.
    """
    commits = git("log", "--format=%H", "--", lock, *recorded).decode().split()
    same = (c for c in commits if all(dvc_md5(path, files_at(c, path)) == md5 for path, md5 in recorded.items()))
    return next(same, None)


def dvc_md5(path: str, files: Files) -> str:
    """Return the MD5 that DVC records for ``path``, which holds ``files``: that of the file, or of a folder's list."""
    if path in files:
        return _md5(files[path])
    relative = {str(PurePosixPath(name).relative_to(path)): _md5(content) for name, content in files.items()}
    listed = [{"md5": md5, "relpath": name} for name, md5 in sorted(relative.items())]
    return _md5(json.dumps(listed).encode()) + ".dir"


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def reached(files: Files, starts: Container[str]) -> Files:
    """Return those of ``files`` that run: the ones in ``starts``, what these import, and all that is not Python."""
    waiting = [path for path in files if path in starts or not path.endswith(".py")]
    result = {}
    while waiting:
        path = waiting.pop()
        if path in files and path not in result:
            result[path] = files[path]
            waiting += imports(path, files[path]) if path.endswith(".py") else []
    return result


@cache
def imports(path: str, source: bytes) -> list[str]:
    """Return the paths of all modules that ``source`` may import, with the packages above them."""
    modules = set()
    for node in ast.walk(_parsed(path, source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return sorted(candidate for module in modules for candidate in _candidates(module.split(".")))


def _candidates(parts: list[str]) -> Iterator[str]:
    """Yield each file that an import of the dotted name ``parts`` may run: modules and packages on the way to it."""
    for length in range(1, len(parts) + 1):
        place = "/".join(parts[:length])
        yield from (f"{place}.py", f"{place}/__init__.py")


def _parsed(path: str, source: bytes) -> ast.Module:
    try:
        return bare_tree(source)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path}: no valid Python: {one_line(error)}") from None


def code_changes(old: Files, new: Files) -> list[str]:
    """Return the files that are not the same code in ``old`` and ``new``, each with the definitions that differ."""
    result = []
    for path in sorted(old.keys() | new.keys()):
        if path not in old or path not in new:
            result.append(f"{path} ({'gone' if path in old else 'new'})")
        elif names := _changed_names(path, old[path], new[path]):
            result.append(f"{path} ({', '.join(names)})")
    return result


def _changed_names(path: str, old: bytes, new: bytes) -> list[str]:
    if old == new:
        return []
    if not path.endswith(".py"):
        return ["content"]
    before, after = _definitions(path, old), _definitions(path, new)
    if before == after:
        return []
    return sorted({name for name, _ in set(before) ^ set(after)}) or ["order"]


@cache
def _definitions(path: str, source: bytes) -> list[tuple[str, str]]:
    """Return the name and the syntax tree of each statement at the top of ``source``."""
    return [(_name(statement), ast.dump(statement)) for statement in _parsed(path, source).body]


def _name(statement: ast.stmt) -> str:
    """Return the name that ``statement`` defines, or its first line."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return "imports"
    return getattr(statement, "name", None) or ast.unparse(statement).split(" = ")[0].splitlines()[0][:60]
