"""Reading params.yaml for one stage: only the keys that dvc.yaml declares for it, checked against a schema.

A stage cannot read a key that dvc.yaml does not declare for it, so that DVC knows what each result depends on.
"""

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from src.core.errors import ParamsError, one_line

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
SELF_EXPLAINING = ("missing", "extra_forbidden", "value_error")  # their messages already say what was found
_TEMPLATE = re.compile(r"\$\{([^}]+)\}")


class Settings(BaseModel):
    """Base of every schema: immutable, no unknown key, no silent conversion of types, no infinite number."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Shared(Settings):
    """Keys that several stages declare."""

    seed: int = Field(ge=0, lt=2**32)  # what NumPy takes
    device: Literal["auto", "cpu", "cuda", "mps"]


Schema = TypeVar("Schema", bound=Settings)


def load_params(stage: str, schema: type[Schema], key: str | None = None) -> Schema:
    """Return the keys that ``stage`` declares in dvc.yaml, as an instance of ``schema``.

    ``key`` is the item of a ``foreach`` stage (a recipe's name). Raises `ParamsError` on an unknown
    key, a wrong type or a value out of range, naming the key, the value and what is allowed.
    """
    params, declared = _entries("params", stage, key)
    return validate(schema, _select(params, declared))


def stage_deps(stage: str, key: str | None = None) -> list[Path]:
    """Return the deps of ``stage`` in dvc.yaml; ``key`` is the item of a ``foreach`` stage."""
    _, deps = _entries("deps", stage, key)
    return [Path(dep) for dep in deps]


def recipe_name(stage: str, description: str) -> str:
    """Return the recipe that the command line of ``stage`` names; exit 2 with the usage if it names none."""
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=description)
    parser.add_argument("recipe", help="a name under compress.recipes in params.yaml")
    return parser.parse_args().recipe


def validate(schema: type[Schema], values: Any, prefix: str = "") -> Schema:
    """Return ``values`` as an instance of ``schema``; `ParamsError` in one line for the first mistake.

    ``prefix`` is where in params.yaml ``values`` stand.
    """
    return layered(schema, {prefix: values})


def layered(schema: type[Schema], layers: Mapping[str, Any], complete: str | None = None) -> Schema:
    """Return an instance of ``schema`` from settings in several places of params.yaml, later ones over earlier ones.

    ``layers`` maps each place to the settings there. Raises `ParamsError` in one line for the first mistake; it names
    the place where the wrong value stands. A missing key is reported in the place ``complete``, or in the last one.
    """
    values: dict[str, Any] = {}
    for place, layer in layers.items():
        if not isinstance(layer, Mapping):
            raise ParamsError(f"{PARAMS}: {place}: must be a mapping of keys to values (found {layer!r})")
        values |= layer
    try:
        return schema.model_validate(values)
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        path = ".".join([*filter(None, [_place(layers, first, complete)]), *map(str, first["loc"])])
        value = "" if first["type"] in SELF_EXPLAINING else f" (found {first['input']!r})"
        raise ParamsError(f"{PARAMS}: {path}: {_allowed(first, schema)}{value}") from None


def _place(layers: Mapping[str, Any], mistake: Mapping[str, Any], complete: str | None) -> str:
    """Return the last place with the wrong value; ``complete`` for a missing key, if it is given; else the last."""
    last = [*layers][-1]
    if not mistake["loc"]:  # settings that contradict each other
        return last
    holders = [place for place, layer in layers.items() if mistake["loc"][0] in layer]
    return holders[-1] if holders else complete or last


def _allowed(mistake: Mapping[str, Any], schema: type[Settings]) -> str:
    if mistake["type"] == "missing":
        return "missing"
    if mistake["type"] != "extra_forbidden":
        return mistake["msg"].removeprefix("Value error, ")
    return f"unknown key; allowed here: {', '.join(_fields_at(schema, mistake['loc'][:-1]))}"


def _fields_at(schema: Any, path: Iterable[Any]) -> list[str]:
    """Return the names of the keys that ``schema`` takes below ``path``; list positions and dict keys are skipped."""
    for part in path:
        field = getattr(schema, "model_fields", {}).get(part)
        annotation = field.annotation if field else schema
        arguments = [a for a in getattr(annotation, "__args__", ()) if hasattr(a, "model_fields")]
        schema = arguments[-1] if arguments else annotation
    return sorted(getattr(schema, "model_fields", {}))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in ``path``; `ParamsError` if the file is missing or holds something else."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ParamsError(f"{path}: {error.strerror}; run from the top of the repository") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: not valid YAML: {one_line(error)}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> dict[str, Any]:
    """Return the mapping in ``text``, read as DVC reads it; `ParamsError`, which begins with ``name``, without one.

    That is YAML 1.2: ``0042`` is 42, ``yes`` and ``1:30`` are strings, and a key that stands twice is a mistake.
    """
    try:
        content = YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ParamsError(f"{name}: not valid YAML: {line}{one_line(error.problem or error)}") from None
    except Exception as error:  # ruamel.yaml lets other errors through as well
        raise ParamsError(f"{name}: not valid YAML: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{name}: expected a mapping of keys to values, found {type(content).__name__}")
    return content


def _entries(kind: str, stage: str, key: str | None) -> tuple[dict[str, Any], list[str]]:
    """Return params.yaml, and the entries under ``kind`` (params or deps) of ``stage`` in dvc.yaml.

    Their templates, which may name a value of params.yaml, and key and item of a foreach stage, are filled in.
    """
    params, entry = read_yaml(PARAMS), read_yaml(PIPELINE)["stages"][stage]
    known = params
    if key is not None:
        (place,) = _TEMPLATE.findall(entry["foreach"])
        known = params | {"key": key, "item": _get(params, [*place.split("."), key])}
    return params, [_fill(path, known) for path in entry.get("do", entry).get(kind, [])]


def _fill(path: str, known: dict[str, Any]) -> str:
    """Put values in place of ``${section.name}``, ``${key}`` and ``${item.name}``, as DVC does."""
    return _TEMPLATE.sub(lambda match: str(_get(known, match[1].split("."))), path)


def _get(tree: Any, path: list[str]) -> Any:
    for depth, part in enumerate(path, start=1):
        if not isinstance(tree, dict) or part not in tree:
            known = f"; there are: {', '.join(map(str, tree))}" if isinstance(tree, dict) else ""
            raise ParamsError(f"{PARAMS}: {'.'.join(path[:depth])}: missing{known}")
        tree = tree[part]
    return tree


def _select(params: dict[str, Any], declared: list[str]) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name in declared:
        *parents, leaf = path = name.split(".")
        branch = chosen
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = _get(params, path)
    return chosen
