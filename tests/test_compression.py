"""src.compression: every technique against an oracle of its own, recipes, and the stage that runs them."""

import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from networks import trained

from src.compression.candidate import Candidate, Context, rebuild
from src.compression.tree import parse
from src.core.dataset import PREPARED, Split, Statistics, save_split, save_statistics
from src.core.errors import ParamsError, UserError, exit_cleanly
from src.core.files import write_csv
from src.deployment.onnx import logits
from src.network.vgg import Conv, ModelSettings, Plan, load, save, vgg16_plan
from src.techniques import fold, prune_channels, quantize, truncate
from stages import compress

ROOT = Path(__file__).parent.parent
TINY = Plan(features=(Conv(channels=16), "pool", Conv(channels=32), Conv(channels=32), "pool"), head=(24,))
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
FINE_TUNE = prune.FineTune(epochs=1, batch_size=20)


def colours(count):
    """Images whose class is their brightness: any layer separates them."""
    labels = torch.arange(count) % 10
    noise = torch.randint(0, 8, (count, 3, 32, 32), generator=torch.Generator().manual_seed(count))
    return Split((labels.view(-1, 1, 1, 1) * 24 + noise).to(torch.uint8), labels)


@torch.no_grad()
def outputs(network, images=IMAGES):
    return network(images)


def settings(ratio, **others):
    return prune.Settings(ratio=ratio, fine_tune=FINE_TUNE, **others)


@pytest.fixture(scope="module")
def context():
    return Context(colours(60), colours(30), (0.3, 0.4, 0.7, 0.9, 0.8), seed=0)


@pytest.mark.parametrize(("head", "fewer"), [("compact", 0), ("imagenet", 64 * 48 * 512)])
def test_fold_is_exact_and_saves_what_it_says(head, fewer, context):
    network = trained(vgg16_plan(ModelSettings(head=head, width=0.125)))
    folded = fold.apply(Candidate(network), context, fold.Settings())
    torch.testing.assert_close(outputs(folded.network), outputs(network), atol=1e-4, rtol=0)
    sizes = [sum(p.numel() for p in n.parameters()) for n in (network, folded.network)]
    assert sizes[0] - sizes[1] == 2 * sum(layer.channels for layer in network.plan.convolutions) + fewer
    assert folded.network.plan.pooled_side == 1
    assert folded.steps == ("folded BatchNorm" + " and repeated pool" * (head == "imagenet"),)
    again = fold.apply(folded, context, fold.Settings())
    assert again.notes == ("nothing was left to fold",)
    torch.testing.assert_close(outputs(again.network), outputs(folded.network), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("csi", "epsilon", "position"),
    [
        ([0.3, 0.5, 0.9, 0.9, 0.9], 0.0, 2),
        ([0.3, 0.5, 0.5, 0.8, 0.9], 0.05, 4),  # a flat stretch does not cut what still rises later
        ([0.3, 0.5, 0.88, 0.9, 0.7], 0.05, 2),
        ([0.3, 0.2], 0.0, 0),
    ],
)
def test_cut_is_the_first_layer_near_the_highest_index(csi, epsilon, position):
    assert truncate.cut(tuple(csi), epsilon) == position


def test_index_is_read_at_the_end_of_each_convolution_and_pool():
    names = ["features.2", "features.3", "features.6", "features.9", "features.10"]
    rows = [{"layer": f"features.{i}", "validation": i / 100} for i in range(11)]
    assert truncate.feature_csi(TINY, rows) == tuple(int(name.split(".")[1]) / 100 for name in names)
    with pytest.raises(UserError, match=r"csi\.csv: no row for layer 'features.10'"):
        truncate.feature_csi(TINY, rows[:-1])


@pytest.mark.parametrize("folded", [False, True])
def test_truncated_network_ends_at_the_named_layer_and_classifies(folded, context):
    network = trained(TINY)
    whole = fold.without_batch_norm(network) if folded else network
    candidate = truncate.apply(Candidate(whole), context, truncate.Settings(epsilon=0.0, head_c=1.0))
    assert candidate.network.plan.features == whole.plan.features[:4]
    assert candidate.network.plan.head == ()
    kept = len(candidate.network.features)
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(candidate.network.features(image), network.features[:10](image), atol=1e-4, rtol=0)
    assert f"cut after features.{kept - 1} (validation CSI 0.9000, highest 0.9000)" in candidate.steps[0]
    assert context.accuracy(candidate.network) > 0.9


def test_truncated_head_decides_as_scikit_learn_does(context):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    network = trained(TINY)
    cut_off = truncate.apply(Candidate(network), context, truncate.Settings(epsilon=0.9, head_c=0.5)).network
    assert cut_off.plan.features == TINY.features[:1]
    with torch.no_grad():
        unit = context.train.images.float() / 255
        normalised = (unit - network.mean.view(1, 3, 1, 1)) / network.std.view(1, 3, 1, 1)
        pooled = network.features[:3](normalised).mean((2, 3)).numpy()
    scaler = StandardScaler().fit(pooled)
    oracle = LogisticRegression(C=0.5, max_iter=1000).fit(scaler.transform(pooled), context.train.labels)
    expected = torch.from_numpy(oracle.decision_function(scaler.transform(pooled))).float()
    given = outputs(cut_off, unit)
    torch.testing.assert_close(given - given.mean(1, keepdim=True), expected, atol=0.05, rtol=0)


def with_dead_channels(plan, dead):
    """A network in which the first ``dead`` channels of every convolution do nothing, and all others something."""
    network = trained(plan)
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for before, after in pairwise(layers):
            before.weight[:dead] = 0
            before.bias[:dead] = 0
            after.weight[:, :dead] = 0
        for norm in norms:
            norm.weight[:dead] = 0
            norm.bias[:dead] = 0
            norm.bias[dead:] = 5  # lifts the others over ReLU's threshold
    return network


@pytest.mark.parametrize("importance", ["magnitude", "taylor", "bn_scale"])
def test_pruning_takes_the_channels_that_do_nothing(importance, context):
    plan = TINY.model_copy(update={"head": ()})
    network = with_dead_channels(plan, 8)
    pruned = prune.prune(network, context.train, settings(24 / 80, importance=importance))
    assert prune.widths(pruned.plan) == (8, 24, 24)
    torch.testing.assert_close(outputs(pruned), outputs(network), atol=1e-4, rtol=0)
    assert prune.widths(network.plan) == (16, 32, 32)
    assert network.features[0].out_channels == 16


def test_pruned_network_rebuilt_from_its_plan_equals_the_pruned_one(context, tmp_path):
    pruned = prune.prune(trained(TINY), context.train, settings(0.5))
    save(pruned, tmp_path / "pruned.safetensors")
    assert load(tmp_path / "pruned.safetensors").plan == pruned.plan
    rebuilt = rebuild(Plan.model_validate_json(pruned.plan.model_dump_json()), pruned.state_dict())
    torch.testing.assert_close(outputs(rebuilt), outputs(pruned), atol=0, rtol=0)


def test_pruning_agrees_with_torch_pruning_used_by_hand(context):
    import torch_pruning as tp

    network = trained(TINY)
    pruned = prune.prune(network, context.train, settings(0.4, importance="magnitude", round_to=1))
    importance = tp.importance.GroupMagnitudeImportance()
    tp.pruner.BasePruner(
        network,
        torch.zeros(1, 3, 32, 32),
        importance,
        global_pruning=True,
        pruning_ratio=0.4,
        ignored_layers=[network.classifier[-1]],
    ).step()
    torch.testing.assert_close(outputs(pruned), outputs(network), atol=1e-5, rtol=0)


@pytest.mark.parametrize("importance", ["magnitude", "taylor", "bn_scale"])
@pytest.mark.parametrize("round_to", [1, 8, 20])
def test_no_layer_is_pruned_away(importance, round_to, context):
    chosen = settings(0.99, importance=importance, round_to=round_to, max_layer_ratio=0.75)
    plan = prune.prune(trained(TINY), context.train, chosen).plan
    for width, before in zip(prune.widths(plan), prune.widths(TINY), strict=True):
        assert before / 4 <= width <= before
        assert width == before or width % round_to == 0


def test_bn_scale_needs_batch_norm(context):
    with pytest.raises(ParamsError, match="must come before fold"):
        prune.prune(fold.without_batch_norm(trained(TINY)), context.train, settings(0.5, importance="bn_scale"))


def test_prune_step_fine_tunes_and_says_what_it_did(context):
    plan = TINY.model_copy(update={"pooled_side": 7})
    candidate = prune.apply(Candidate(trained(plan)), context, settings(0.5))
    assert prune.channels(candidate.network.plan) <= 52
    assert candidate.network.plan.pooled_side == 1
    assert not candidate.network.training
    assert "fine-tuned 1 epochs" in candidate.steps[0]
    assert "folded before" in candidate.notes[0]


def test_quantize_folds_and_calibrates_on_training_images(context):
    candidate = quantize.apply(Candidate(trained(TINY)), context, quantize.Settings(calibration_images=12))
    assert not fold.has_batch_norm(candidate.network)
    known = {image.numpy().tobytes() for image in context.train.images}
    assert len(candidate.calibration.images) == 12
    assert {image.numpy().tobytes() for image in candidate.calibration.images} <= known


def test_every_recipe_of_params_yaml_is_sound():
    recipes = yaml.safe_load((ROOT / "params.yaml").read_text())["compress"]["recipes"]
    assert {"dense", "folded", "truncated", "channels", "int8", "flagship"} <= set(recipes)
    for name, items in recipes.items():
        assert len(parse(name, items)) == len(items)


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        (
            ["melt"],
            r"compress\.recipes\.r\.0: unknown step 'melt'; there are: fold, truncate, prune_channels, quantize",
        ),
        (["fold", "quantize", "fold"], r"compress\.recipes\.r\.2\.fold: no step may come after quantize"),
        (["quantize", "quantize"], r"compress\.recipes\.r\.1\.quantize: no step may come after quantize"),
        ([{"truncate": {"epsilon": 2}}], r"compress\.recipes\.r\.0\.truncate\.epsilon: .*less than 1 \(found 2\)"),
        (["fold", {"truncate": {"eps": 0.1}}], r"r\.1\.truncate\.eps: unknown key; allowed here: epsilon"),
        ([{"prune_channels": {"fine_tune": {"epochs": 1}}}], r"r\.0\.prune_channels\.ratio: missing"),
        (
            [{"prune_channels": {"ratio": 0.5, "fine_tune": {"epochs": 0}}}],
            r"r\.0\.prune_channels\.fine_tune\.epochs: .*greater than or equal to 1 \(found 0\)",
        ),
        (
            [{"prune_channels": {"ratio": 0.5, "fine_tune": {"epochs": 1, "batch_size": 250, "accumulate": 3}}}],
            r"r\.0\.prune_channels\.fine_tune: accumulate must divide batch_size, 250, .*\(found 3\)",
        ),
        ([{"quantize": {"method": "guess"}}], r"r\.0\.quantize\.method: .*'minmax', 'entropy' or 'percentile'"),
        ([{"fold": {}, "quantize": {}}], r"r\.0: must be a step's name, or one name with its settings"),
        ([3], r"r\.0: must be a step's name"),
        ([{"truncate": 0.5}], r"r\.0\.truncate: .*\(found 0\.5\)"),
    ],
)
def test_wrong_recipes_are_refused_by_name(items, complaint):
    with pytest.raises(ParamsError, match=complaint):
        parse("r", items)


def test_a_step_needs_no_settings_where_there_are_defaults():
    steps = parse("r", ["truncate", {"fold": None}, {"quantize": {}}])
    assert [step.name for step in steps] == ["truncate", "fold", "quantize"]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A folder with all that the stage reads: params, a small network, its CSI and a few images."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"device": "cpu"}
    fine_tune = {"epochs": 1, "batch_size": 20}
    params["compress"]["recipes"] = {
        "all": ["truncate", {"prune_channels": {"ratio": 0.5, "fine_tune": fine_tune}}, "fold", "quantize"],
        "bad": ["melt"],
        "dense": [],
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    PREPARED.mkdir(parents=True)
    for name, count in (("train", 60), ("validation", 30), ("test", 40)):
        save_split(PREPARED, name, colours(count))
    save_statistics(PREPARED, Statistics("sample", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)))
    Path("models").mkdir()
    save(trained(TINY), compress.MODEL)
    write_csv(compress.CSI, [{"layer": f"features.{i}", "validation": min(i, 9) / 10} for i in range(11)])
    return tmp_path


def run_stage(recipe, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compress", recipe])
    exit_cleanly(compress.main)
    return compress.FILES / f"{recipe}.onnx", compress.METRICS / f"{recipe}.json"


def test_stage_writes_a_file_and_what_it_is(workspace, monkeypatch):
    file, metrics = run_stage("all", monkeypatch)
    values = json.loads(metrics.read_text())
    test = colours(40)
    assert values["test_accuracy"] == (logits(file, test.images).argmax(1) == test.labels.numpy()).mean()
    assert values["bytes"] == file.stat().st_size
    assert (values["recipe"], values["edition"], values["plan"]["head"]) == ("all", "sample", [])
    weights = [9 * before * after for before, after in pairwise([3, *values["plan"]["convolutions"]])]
    last = values["plan"]["convolutions"][-1]
    assert values["parameters"] == sum(weights) + sum(values["plan"]["convolutions"]) + 10 * last + 10
    assert values["macs"] == sum(w * side**2 for w, side in zip(weights, (32, 16, 16), strict=True)) + 10 * last
    assert len(values["steps"]) == 4
    first = file.read_bytes(), metrics.read_bytes()
    run_stage("all", monkeypatch)
    assert (file.read_bytes(), metrics.read_bytes()) == first


@pytest.mark.parametrize(
    ("recipe", "complaint"),
    [
        ("none", "error: params.yaml: compress.recipes.none: missing; there are: all, bad, dense\n"),
        ("bad", "error: params.yaml: compress.recipes.bad.0: unknown step 'melt'; there are: "),
    ],
)
def test_stage_refuses_what_it_does_not_know_and_writes_nothing(recipe, complaint, workspace, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stop:
        run_stage(recipe, monkeypatch)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(complaint)
    assert not compress.FILES.exists()
