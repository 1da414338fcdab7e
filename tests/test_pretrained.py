"""Weights from elsewhere: torchvision as the oracle, the forms in which people keep them, and what does not fit."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from networks import INFO, colors, randomized, trained, vgg
from safetensors.torch import save_file
from torchvision_compat import torchvision

from src.core.errors import UserError
from src.core.files import read_csv, read_json
from src.data.prepared import PREPARED, SPLITS, save_info, save_split
from src.network.pretrained import load_pretrained
from src.network.record import load_recorded, network_path
from src.network.vgg import save
from src.results.curves import FOLDER, read_curves
from stages import evaluate, train

ROOT = Path(__file__).parent.parent
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GIVEN, OF_DATA = {"mean": MEAN, "std": STD}, {"mean": INFO.mean, "std": INFO.std}


def foreign(depth=16):
    """torchvision's network with random BatchNorm statistics."""
    return randomized(getattr(torchvision.models, f"vgg{depth}_bn")(num_classes=10))


@pytest.mark.parametrize(("depth", "name"), [(13, "weights.pth"), (16, "weights.safetensors")])
def test_torchvisions_networks_give_the_same_logits(depth, name, tmp_path):
    theirs, path = foreign(depth), tmp_path / name
    (torch.save if path.suffix == ".pth" else save_file)(theirs.state_dict(), path)
    ours = load_pretrained(path, vgg(1.0, "imagenet", depth), GIVEN, OF_DATA)
    images, (mean, std) = torch.rand(2, 3, 32, 32), (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs((images - mean) / std), rtol=1e-5, atol=1e-5)


NETWORK = trained(vgg(depth=11))
TENSORS = {name: tensor for name, tensor in NETWORK.state_dict().items() if name not in ("mean", "std")}
WITHOUT_COUNTERS = {name: tensor for name, tensor in TENSORS.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        WITHOUT_COUNTERS,  # as in torchvision's files from before 2019
        {"state_dict": TENSORS, "epoch": 7},
        {"net": {f"module.{name}": tensor for name, tensor in TENSORS.items()}, "acc": 93.1},
        {f"_orig_mod.{name}": tensor for name, tensor in TENSORS.items()},
    ],
)
@pytest.mark.parametrize("as_zip", [True, False])
def test_forms_in_which_people_keep_weights(content, as_zip, tmp_path):
    torch.save(content, tmp_path / "any.name", _use_new_zipfile_serialization=as_zip)
    network = load_pretrained(tmp_path / "any.name", NETWORK.plan, {}, OF_DATA)
    found = network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in WITHOUT_COUNTERS.items())
    assert found["mean"].tolist() == pytest.approx(INFO.mean)
    assert not network.training


def test_a_file_of_ours_brings_its_normalization_and_may_be_half(tmp_path):
    save(trained(vgg()), tmp_path / "ours", {}, half=True)
    found = load_pretrained(tmp_path / "ours", vgg(), {"std": STD}, {"mean": (9.0, 9.0, 9.0), "std": (9.0, 9.0, 9.0)})
    assert found.mean.tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert found.std.tolist() == pytest.approx(STD)
    assert {tensor.dtype for tensor in found.parameters()} == {torch.float32}


LAST = "classifier.6.weight"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({name: TENSORS[name] for name in TENSORS if name != LAST}, f"missing: {LAST}$"),
        (TENSORS | {"extra": torch.ones(1)}, "surplus: extra$"),
        (TENSORS | {LAST: torch.ones(1000, 64)}, r"other shapes: classifier\.6\.weight \[1000, 64\], not \[10, 64\]$"),
        ({"weight": torch.ones(1)}, r"missing: .*, features\.0\.bias, .* and 51 more; surplus: weight$"),
        (trained(vgg(depth=13)).state_dict(), r"VGG11 of 10 classes .* surplus: .* more; other shapes: "),
        (NETWORK, "holds more than tensors, or is damaged; save model.state_dict"),
        ({"state_dict": {}}, "no weights that can be read: it holds no tensors"),
        (torch.ones(3), r"it holds no tensors by name \(found Tensor\)"),
        (TENSORS | {"epoch": 7}, "'epoch' is no tensor"),
        (TENSORS | {LAST: TENSORS[LAST].to_sparse()}, "is no tensor"),
    ],
)
def test_what_does_not_fit_is_one_line(content, problem, tmp_path):
    torch.save(content, tmp_path / "weights")
    with pytest.raises(UserError, match=rf"weights: .*{problem}") as caught:
        load_pretrained(tmp_path / "weights", NETWORK.plan, {}, OF_DATA)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with prepared images, the weights of a narrow VGG11 in a file, and params that name it."""
    monkeypatch.chdir(tmp_path)
    PREPARED.mkdir(parents=True)
    for name in SPLITS:
        save_split(PREPARED, name, colors(40))
    save_info(PREPARED, INFO)
    torch.save(TENSORS, "mine.pt")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["model"] = {"depth": 11, "head": "compact", "width": 0.125}
    params["train"] |= {"weights": "mine.pt", "weights_mean": [0.5, 0.4, 0.3], "weights_std": [0.2, 0.25, 0.3]}
    params["device"] = "cpu"
    Path("params.yaml").write_text(json.dumps(params))
    Path("dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    return params


@pytest.mark.usefixtures("project")
def test_the_stage_publishes_them_untrained_and_evaluate_follows():
    train.main()
    network, record = load_recorded(network_path("trained"))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images), NETWORK(images))
    assert (record.image_passes, record.pflop, record.pflop_after_root) == (0, 0, 0)
    (note,) = record.notes
    assert note.startswith("the weights of the root are from elsewhere: mine.pt, SHA-256 ")
    assert read_json(Path("metrics/train.json"))["precision"] == "float32"
    curves = read_curves(FOLDER)
    assert curves["step"] == [0]
    evaluate.main()
    (validation,) = [row for row in read_csv(Path("plots/splits.csv")) if row["split"] == "validation"]
    assert curves["val/accuracy"] == pytest.approx([validation["accuracy"]], abs=1e-6)
    assert read_json(Path("metrics/evaluate.json"))["target_epoch"] is None


def test_weights_that_give_no_number_are_told(project):
    torch.save(TENSORS | {LAST: torch.full_like(TENSORS[LAST], torch.nan)}, "mine.pt")
    with pytest.raises(UserError, match=r"^mine\.pt: with these weights the loss on validation is not finite$"):
        train.main()
    assert not network_path("trained").exists()
