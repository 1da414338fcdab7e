"""params.yaml: what is refused, and how it is said."""

import re
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import parse_yaml as parse_as_dvc
from pydantic import Field

from src.core.errors import ParamsError
from src.core.params import Settings, Shared, load_params, read_yaml

ROOT = Path(__file__).parents[1]

PIPELINE = {
    "stages": {
        "bake": {"cmd": "bake", "params": ["seed", "device", "oven", "cake.kind", "cake.kinds.${cake.kind}"]},
        "slice": {"foreach": "${cut.ways}", "do": {"cmd": "slice ${key}", "params": ["cut.ways.${key}"]}},
        "serve": {"cmd": "${table.waiter} serve", "params": ["table.seats"]},
    }
}
PARAMS = {
    "seed": 1,
    "device": "auto",
    "oven": {"degrees": 180},
    "cake": {"kind": "plain", "kinds": {"plain": {"eggs": 2}, "rich": {"eggs": "many"}}},
    "cut": {"ways": {"thin": {"parts": 12}, "thick": {"parts": 4}}},
    "table": {"waiter": "python", "seats": 4},
}


class Oven(Settings):
    degrees: float = Field(ge=50, le=300)


class Kind(Settings):
    eggs: int


class Cake(Settings):
    kind: str
    kinds: dict[str, Kind]


class Bake(Shared):
    oven: Oven
    cake: Cake


class Way(Settings):
    parts: int


class Cut(Settings):
    ways: dict[str, Way]


class Slice(Settings):
    cut: Cut


@pytest.fixture
def kitchen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(params):
        (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
        (tmp_path / "params.yaml").write_text(params if isinstance(params, str) else yaml.safe_dump(params))

    write(PARAMS)
    return write


def changed(path, value):
    params = yaml.safe_load(yaml.safe_dump(PARAMS))
    *parents, leaf = path.split(".")
    branch = params
    for parent in parents:
        branch = branch[parent]
    branch[leaf] = value
    return params


def test_reads_only_what_the_stage_declares(kitchen):
    params = load_params("bake", Bake)
    assert params.oven.degrees == 180
    assert params.seed == 1
    assert list(params.cake.kinds) == ["plain"]  # rich, which is wrong, is no concern of this run


def test_item_of_a_foreach_stage(kitchen):
    assert load_params("slice", Slice, "thin").cut.ways == {"thin": Way(parts=12)}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("oven.degrees", 1000, ["oven.degrees", "1000", "less than or equal to 300"]),
        ("oven.degrees", "hot", ["oven.degrees", "'hot'", "number"]),
        ("oven.degrees", True, ["oven.degrees", "True", "number"]),
        ("oven.degree", 100, ["oven.degree", "unknown key", "degrees"]),
        ("cake.kind", "sour", ["cake.kinds.sour", "missing", "plain, rich"]),
        ("device", "tpu", ["device"]),
        ("seed", -1, ["seed", "-1", "greater than or equal to 0"]),
        ("seed", 2**32, ["seed", "4294967296", "less than 4294967296"]),
        ("oven.degrees", float("inf"), ["oven.degrees", "inf", "finite"]),
        ("oven", 180, ["oven: ", "dictionary", "180"]),
        ("cake", "plain", ["cake.kind: missing"]),
    ],
)
def test_mistakes_are_named(kitchen, path, value, said):
    kitchen(changed(path, value))
    with pytest.raises(ParamsError) as caught:
        load_params("bake", Bake)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("params.yaml: ")
    assert all(part in message for part in said), message
    assert caught.value.exit_code == 2


def test_numbers_as_dvc_writes_them(kitchen, tmp_path):
    apply_overrides(tmp_path / "params.yaml", ["oven.degrees=0.00005"])  # as -S does
    assert "5e-05" in (tmp_path / "params.yaml").read_text()
    with pytest.raises(ParamsError, match=r"oven\.degrees: .*50 \(found 5e-05\)"):
        load_params("bake", Bake)
    kitchen((tmp_path / "params.yaml").read_text().replace("5e-05", "2.5E2"))
    assert load_params("bake", Bake).oven.degrees == 250


SCALARS = """
0042 010 08 0o17 0x1F 1:30 yes no on off ~ null true 1e-3 5e-05 +1 1_000 .5 .inf 2024-01-31 '0042'
"""


def test_values_and_names_are_what_dvc_reads(tmp_path):
    text = (
        "".join(f"key{place}: {scalar}\n" for place, scalar in enumerate(SCALARS.split()))
        + "recipes: {no: 1, 0042: 2}\n"
    )
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert repr(read_yaml(path)) == repr(parse_as_dvc(text, str(path)))
    assert read_yaml(path)["key0"] == 42
    assert read_yaml(path)["key6"] == "yes"
    assert list(read_yaml(path)["recipes"]) == ["no", 42]


def test_a_key_that_stands_twice_is_refused(kitchen):
    kitchen("seed: 1\noven:\n  degrees: 180\n  degrees: 200\n")
    with pytest.raises(ParamsError, match=r'^params\.yaml: not valid YAML: line 4: .*"degrees"'):
        load_params("bake", Bake)


def keys(tree, above=""):
    """The path of each value in ``tree`` that is no mapping, or an empty one."""
    if not isinstance(tree, dict) or not tree:
        return [above]
    return [path for name, child in tree.items() for path in keys(child, f"{above}.{name}".lstrip("."))]


def test_every_key_of_params_yaml_is_used_by_a_stage():
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    declared = [path for stage in stages.values() for path in stage.get("do", stage).get("params", [])]
    declared += re.findall(r"\$\{([\w.]+)\}", str(stages))  # in commands and foreach: train.launcher, release
    used = [re.compile(re.sub(r"\$\{[\w.]+\}", r"[^.]+", path) + r"(\..*)?") for path in declared]
    committed = keys(read_yaml(ROOT / "params.yaml"))
    assert [path for path in committed if not any(use.fullmatch(path) for use in used)] == []


def test_not_utf8(kitchen, tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"seed: 1 # \xe9")
    with pytest.raises(ParamsError, match=r"params\.yaml: not valid YAML: .*utf-8"):
        load_params("bake", Bake)


def test_missing_key(kitchen):
    params = changed("seed", 1)
    del params["oven"]
    kitchen(params)
    with pytest.raises(ParamsError, match=r"oven: missing"):
        load_params("bake", Bake)


@pytest.mark.parametrize("text", ["- a list", "a: [1", ""])
def test_no_mapping(kitchen, text):
    kitchen(text)
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        load_params("bake", Bake)
