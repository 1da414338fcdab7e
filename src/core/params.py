"""Reading params.yaml for one stage: only the keys that dvc.yaml declares for it, checked against a schema.

A stage cannot read a key that dvc.yaml does not declare for it, so that DVC knows what each result depends on. A key
that no stage declares is a typing mistake.
"""

import argparse
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from src.core.errors import ParamsError, one_line

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
SELF_EXPLAINING = ("missing", "extra_forbidden", "value_error")  # their messages say already what was found
_TEMPLATE = re.compile(r"\$\{([^}]+)\}")


class _Loader(yaml.SafeLoader):
    """YAML as DVC reads and writes it, version 1.2, where 1e-3 and 5e-05 are numbers (PyYAML stops at 1.1)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), [*"-+.0123456789"]
)


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
    params, stages = read_yaml(PARAMS), read_yaml(PIPELINE)["stages"]
    _reject_undeclared(params, stages)
    known = _known(params, stages[stage], key)
    declared = [_fill(path, known) for path in _declared(stages[stage])]
    return validate(schema, _select(params, declared))


def stage_deps(stage: str, key: str | None = None) -> list[Path]:
    """Return the deps of ``stage`` in dvc.yaml; ``key`` is the item of a ``foreach`` stage."""
    params, stages = read_yaml(PARAMS), read_yaml(PIPELINE)["stages"]
    known = _known(params, stages[stage], key)
    return [Path(_fill(path, known)) for path in stages[stage].get("do", stages[stage])["deps"]]


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


def layered(schema: type[Schema], layers: Mapping[str, Any]) -> Schema:
    """Return an instance of ``schema`` from settings in several places of params.yaml, later ones over earlier ones.

    ``layers`` maps each place to the settings there. Raises `ParamsError` in one line for the first mistake; it names
    the place where the wrong value stands.
    """
    values: Any = {}
    for place, layer in layers.items():
        if len(layers) > 1 and not isinstance(layer, Mapping):
            raise ParamsError(f"{PARAMS}: {place}: must be a mapping of keys to values (found {layer!r})")
        values = merged(values, layer) if len(layers) > 1 else layer
    try:
        return schema.model_validate(values)
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        path = ".".join([*filter(None, [_place(layers, first)]), *map(str, first["loc"])])
        found = "" if first["type"] in SELF_EXPLAINING else f" (found {first['input']!r})"
        raise ParamsError(f"{PARAMS}: {path}: {_allowed(first, schema)}{found}") from None


def merged(defaults: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``defaults`` with ``changes`` over them; a mapping inside a mapping is merged in the same way."""
    result = dict(defaults)
    for name, value in changes.items():
        before = result.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = merged(before, value)
        result[name] = value
    return result


def _place(layers: Mapping[str, Any], mistake: Mapping[str, Any]) -> str:
    """Return the place of the last layer that holds the wrong value, or of the defaults that lack a missing one."""
    location = mistake["loc"][:-1] if mistake["type"] == "missing" else mistake["loc"]
    holders = [place for place, layer in layers.items() if _holds(layer, location)]
    if mistake["type"] == "missing" and len(holders) > 1:
        return holders[-2]
    return holders[-1] if holders else [*layers][-1]


def _holds(tree: Any, location: Iterable[Any]) -> bool:
    for part in location:
        if not isinstance(tree, Mapping) or part not in tree:
            return False
        tree = tree[part]
    return True


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
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ParamsError(f"{path}: {error.strerror}; run from the top of the repository") from None
    except Exception as error:  # PyYAML lets other errors through as well
        raise ParamsError(f"{path}: not valid YAML: {one_line(error)}") from None
    if not isinstance(content, dict):
        raise ParamsError(f"{path}: expected a mapping of keys to values, found {type(content).__name__}")
    return content


def _declared(stage: dict[str, Any]) -> list[str]:
    return stage.get("do", stage).get("params", [])


def _known(params: dict[str, Any], stage: dict[str, Any], key: str | None) -> dict[str, Any]:
    """Return what templates of ``stage`` may name: ``params``, and key and item of a foreach stage."""
    if key is None:
        return params
    (place,) = _TEMPLATE.findall(stage["foreach"])
    return params | {"key": key, "item": _get(params, [*place.split("."), key])}


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


def _reject_undeclared(params: dict[str, Any], stages: dict[str, Any]) -> None:
    """Raise `ParamsError` for a key in params.yaml that no stage of dvc.yaml declares."""
    declared = {path for stage in stages.values() for path in _declared(stage)}
    templates = {match for text in _strings(stages) for match in _TEMPLATE.findall(text)}
    used = {path for path in templates if path.split(".")[0] not in ("key", "item")}
    patterns = [tuple(_TEMPLATE.sub("*", path).split(".")) for path in declared | used]
    for path in _leaves(params):
        if not any(_covers(pattern, path) for pattern in patterns):
            siblings = {p[len(path) - 1] for p in patterns if p[: len(path) - 1] == path[:-1] and len(p) >= len(path)}
            problem = f"unknown key; allowed here: {', '.join(sorted(siblings))}"
            if path[-1] in siblings:
                problem = f"must be a mapping of keys to values (found {_get(params, list(path))!r})"
            raise ParamsError(f"{PARAMS}: {'.'.join(path)}: {problem}")


def _covers(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return len(pattern) <= len(path) and all(a in ("*", b) for a, b in zip(pattern, path, strict=False))


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    if isinstance(tree, dict) and tree:
        for name, child in tree.items():
            yield from _leaves(child, (*path, str(name)))
    else:
        yield path


def _strings(tree: Any) -> Iterable[str]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list):
        for child in tree:
            yield from _strings(child)
    elif isinstance(tree, str):
        yield tree
