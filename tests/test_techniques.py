"""Every technique against an oracle of its own."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from networks import candidate as made
from networks import colors, plan, trained, vgg
from onnx.numpy_helper import to_array
from test_recipe import BASE

from src.compression.context import Context
from src.compression.importance import accumulate_gradients
from src.compression.positions import POSITIONS, separation_by_block
from src.core.errors import UserError
from src.data.prepared import Split
from src.export.onnx import Calibration, export
from src.export.runtime import logits
from src.network.cost import macs
from src.network.folding import folded, has_batch_norm, without_batch_norm
from src.network.inference import to_unit
from src.network.record import Export
from src.network.vgg import Conv, Plan, Pool, load, rebuild, save
from src.techniques import distill, factorize, fine_tune, fold, half, keep, prune_channels, quantize, truncate
from src.techniques import quantize_weights as grid
from src.training.recipe import Training

TINY = plan(16, "pool", 32, 32, "pool", head=(24,))
SETTINGS = {"batch_size": 20, "optimizer": "muon", "phases": [], "lr_start": 0.0005, "lr_peak": 0.005, "warmup": 0.1}
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
TRAINING = Training(**{key: value for key, value in BASE.items() if key != "epochs"} | SETTINGS)
EPOCH = {"train": TRAINING, "budget": 1}
PRUNE = prune_channels.Settings(
    ratio=0.5,
    importance="taylor",
    draw=0,
    ranking="global",
    importance_images=1000,
    importance_batch=20,
    round_to=8,
    max_layer_ratio=0.9,
    **EPOCH,
)


@torch.no_grad()
def outputs(network, images=IMAGES):
    return network(images)


def settings(ratio, **others):
    return PRUNE.model_copy(update={"ratio": ratio, **others})


@pytest.fixture(scope="module")
def context():
    scores = {"csi": (0.3, 0.4, 0.7, 0.9, 0.8), "probe": (0.4, 0.6, 0.8, 0.7, 0.7)}
    blocks = [block.name for block in TINY.features]
    separation = {name: dict(zip(blocks, values, strict=True)) for name, values in scores.items()}
    return Context(colors(60), colors(30), seed=0, root=made(trained(TINY)), separation=separation)


@pytest.mark.parametrize(("head", "fewer"), [("compact", 0), ("imagenet", 64 * 48 * 512)])
def test_fold_is_exact_and_saves_what_it_says(head, fewer, context):
    network = trained(vgg(head=head))
    once = fold.apply(made(network), context, fold.Settings())
    torch.testing.assert_close(outputs(once.network), outputs(network), atol=1e-4, rtol=0)
    sizes = [sum(p.numel() for p in n.parameters()) for n in (network, once.network)]
    assert sizes[0] - sizes[1] == 2 * sum(layer.channels for layer in network.plan.convolutions) + fewer
    assert once.network.plan.pooled_side == 1
    assert once.record.steps == (f"folded BatchNorm{' and the repeated pool' if head == 'imagenet' else ''}",)
    again = fold.apply(once, context, fold.Settings())
    assert again.record.steps[1] == "there was nothing to fold"
    torch.testing.assert_close(outputs(again.network), outputs(once.network), atol=0, rtol=0)


def test_separation_of_another_network_is_refused(context):
    other = plan(16, "pool", 32, 32, "pool", 32, head=(24,))
    for by in ("csi", "probe"):
        with pytest.raises(UserError, match=rf"positions\.csv: no {by} for block 'conv5'"):
            truncate.apply(made(trained(other)), context, truncate.Settings(by=by, epsilon=0.0, head_c=1.0))


@pytest.mark.parametrize("cell", ["", "high", "inf"])
def test_a_score_that_is_no_number_is_named(cell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    POSITIONS.parent.mkdir()
    POSITIONS.write_text(f"block,csi,probe\nconv1,0.5,0.5\nconv2,0.6,{cell}\n")
    with pytest.raises(UserError, match=r"^plots/positions\.csv: probe of conv[12]: must be a number \(found "):
        separation_by_block()
    POSITIONS.write_text("block,csi,probe\nconv1,0,1\n")
    assert separation_by_block() == {"csi": {"conv1": 0.0}, "probe": {"conv1": 1.0}}


def test_the_probe_can_name_the_layer(context):
    settings = truncate.Settings(by="probe", epsilon=0.0, head_c=1.0)
    candidate = truncate.apply(made(trained(TINY)), context, settings)
    assert candidate.network.plan.features == TINY.features[:3]
    assert "cut after conv2 (validation accuracy of the probe 0.8000, highest 0.8000)" in candidate.record.steps[0]


@pytest.mark.parametrize("without", [False, True])
def test_truncated_network_ends_at_the_named_layer_and_classifies(without, context):
    network = trained(TINY)
    whole = without_batch_norm(network) if without else network
    candidate = truncate.apply(made(whole), context, truncate.Settings(by="csi", epsilon=0.0, head_c=1.0))
    assert candidate.network.plan.features == whole.plan.features[:4]
    assert candidate.network.plan.head == ()
    image = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(candidate.network.features(image), network.features[:10](image), atol=1e-4, rtol=0)
    assert "cut after conv3 (validation CSI 0.9000, highest 0.9000)" in candidate.record.steps[0]
    assert candidate.record.export.fold
    assert context.validation_accuracy(candidate.network) > 0.9


@pytest.mark.parametrize("classes", [2, 10])
def test_truncated_head_decides_as_scikit_learn_does(classes, context):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    network = trained(TINY.model_copy(update={"classes": classes}))
    train = Split(context.train.images, context.train.labels % classes)
    context = replace(context, train=train)
    cut_off = truncate.apply(made(network), context, truncate.Settings(by="csi", epsilon=0.9, head_c=0.5)).network
    assert cut_off.plan.features == TINY.features[:1]
    with torch.no_grad():
        unit = context.train.images.float() / 255
        normalized = (unit - network.mean.view(1, 3, 1, 1)) / network.std.view(1, 3, 1, 1)
        pooled = network.features[:3](normalized).mean((2, 3)).numpy()
    scaler = StandardScaler().fit(pooled)
    oracle = LogisticRegression(C=0.5, max_iter=1000).fit(scaler.transform(pooled), train.labels)
    expected = torch.from_numpy(oracle.predict_log_proba(scaler.transform(pooled))).float()
    torch.testing.assert_close(outputs(cut_off, unit).log_softmax(1), expected, atol=0.05, rtol=0)


def test_truncate_says_when_its_solver_did_not_converge(context, monkeypatch):
    monkeypatch.setattr(truncate, "HEAD_ITERATIONS", 2)
    candidate = truncate.apply(made(trained(TINY)), context, truncate.Settings(by="csi", epsilon=0.0, head_c=1.0))
    assert candidate.record.notes == ("the head's solver stopped after 2 iterations before it converged",)


def with_dead_channels(whole, dead):
    """A network in which the first ``dead`` channels of every convolution do nothing, and all others something."""
    network = trained(whole)
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


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
def test_pruning_takes_the_channels_that_do_nothing(importance, context):
    network = with_dead_channels(TINY.model_copy(update={"head": ()}), 8)
    pruned = prune_channels.prune(network, context.train, settings(24 / 80, importance=importance))
    assert pruned.plan.widths == (8, 24, 24)
    torch.testing.assert_close(outputs(pruned), outputs(network), atol=1e-4, rtol=0)
    assert network.plan.widths == (16, 32, 32)
    assert network.features[0].out_channels == 16


def test_pruned_network_rebuilt_from_its_plan_equals_the_pruned_one(context, tmp_path):
    pruned = prune_channels.prune(trained(TINY), context.train, settings(0.5))
    save(pruned, tmp_path / "pruned.safetensors", {})
    assert load(tmp_path / "pruned.safetensors").plan == pruned.plan
    rebuilt = rebuild(Plan.model_validate_json(pruned.plan.model_dump_json()), pruned.state_dict())
    torch.testing.assert_close(outputs(rebuilt), outputs(pruned), atol=0, rtol=0)


def test_pruning_agrees_with_torch_pruning_used_by_hand(context):
    import torch_pruning as tp

    network = trained(TINY)
    pruned = prune_channels.prune(network, context.train, settings(0.4, importance="magnitude", round_to=1))
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


@pytest.mark.parametrize("ranking", ["global", "uniform"])
@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
@pytest.mark.parametrize("round_to", [1, 8, 20])
def test_no_layer_is_pruned_away(importance, round_to, ranking, context):
    chosen = settings(0.99, importance=importance, round_to=round_to, max_layer_ratio=0.75, ranking=ranking)
    left = prune_channels.prune(trained(TINY), context.train, chosen).plan
    for width, before in zip(left.widths, TINY.widths, strict=True):
        least = min(before, math.ceil(before / 4 / round_to) * round_to)
        assert least <= width <= before
        assert width == least if ranking == "uniform" else width == before or width % round_to == 0


@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
@pytest.mark.parametrize(("ratio", "widths"), [(0.5, (8, 16, 16, 12)), (0.25, (12, 24, 24, 18))])
def test_a_uniform_ranking_gives_every_importance_the_same_widths(importance, ratio, widths, context):
    chosen = settings(ratio, importance=importance, ranking="uniform", round_to=1)
    assert prune_channels.prune(trained(TINY), context.train, chosen).plan.widths == widths


def test_rounding_errors_cost_no_channel(context):
    """In floating-point numbers 20 * (1 - 0.8) is less than 4."""
    chosen = settings(0.8, importance="magnitude", ranking="uniform", round_to=1, max_layer_ratio=0.95)
    network = trained(TINY.with_widths((10, 20, 30, 40)))
    assert prune_channels.prune(network, context.train, chosen).plan.widths == (2, 4, 6, 8)


def test_random_channels_differ_by_draw_and_seed_alone(context):
    network = trained(TINY.model_copy(update={"head": ()}))

    def kept(draw, seed):
        chosen = settings(0.5, importance="random", ranking="uniform", round_to=1, draw=draw)
        pruned = prune_channels.prune(network, context.train, chosen, seed)
        assert pruned.plan.widths == (8, 16, 16)
        return pruned.features[0].weight

    assert torch.equal(kept(0, 0), kept(0, 0))
    assert not torch.equal(kept(0, 0), kept(1, 0))
    assert not torch.equal(kept(0, 0), kept(0, 5))
    strength = network.features[0].weight.flatten(1).norm(dim=1)
    weakest = {strength.topk(8, largest=False).indices[k].item() for k in range(8)}
    chosen = {i for i in range(16) if any(torch.equal(network.features[0].weight[i], row) for row in kept(0, 0))}
    assert len(chosen) == 8
    assert chosen & weakest  # magnitude would keep none of these


def test_distillation_against_a_case_worked_out_by_hand():
    chosen = distill.Settings(temperature=2.0, mixing=0.75, **EPOCH)
    student, teacher = torch.tensor([[0.0, 2.0]]), torch.tensor([[2.0, 0.0]])

    class Fixed(torch.nn.Module):
        def forward(self, images):
            return teacher

    loss = distill.distillation(Fixed(), chosen)(lambda images: student, torch.zeros(1), torch.tensor([0]))
    p, q = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))], [1 / (1 + math.exp(1)), 1 / (1 + math.exp(-1))]
    divergence = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    entropy = math.log(1 + math.exp(2))
    assert loss.item() == pytest.approx(0.75 * 4 * divergence + 0.25 * entropy, rel=1e-5)


def test_a_student_comes_nearer_to_its_teacher_and_the_teachers_cost_is_counted(context, monkeypatch):
    monkeypatch.setattr("src.training.budget.macs", lambda model, side: 10**10)
    simple = plan(16, "pool", batch_norm=False)
    teacher, student = trained(simple), trained(simple)
    with torch.no_grad():
        teacher.classifier[-1].weight.mul_(20)  # sure of its classes
        student.load_state_dict(teacher.state_dict())
        student.classifier[-1].weight.zero_()
    before = distance(student, teacher, context)
    weights = [parameter.clone() for parameter in teacher.parameters()]
    faster = TRAINING.model_copy(update={"lr_peak": 0.02})
    chosen = distill.Settings(temperature=4.0, mixing=1.0, train=faster, budget=20 * 8 / 6)
    candidate = distill.apply(made(student), replace(context, root=made(teacher)), chosen)
    assert distance(candidate.network, teacher, context) < 0.8 * before
    assert all(torch.equal(a, b) for a, b in zip(weights, teacher.parameters(), strict=True))
    assert candidate.record.pflop == pytest.approx(20 * (6 + 2) * 60 * 1e10 / 1e15, rel=0.001)
    assert "distilled at temperature 4, the teacher counts 100%" in candidate.record.steps[0]


def distance(network, teacher, context):
    """Mean divergence of the networks' probabilities on the training images."""
    images = context.train.images.float() / 255
    ours, theirs = (outputs(each, images).log_softmax(1) for each in (network, teacher))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True).item()


def test_taylor_adds_the_absolute_gradients_of_batches(context):
    network, images = trained(TINY), context.train[:60]
    accumulate_gradients(network, images, batch=20)
    expected = torch.zeros_like(network.classifier[-1].weight)
    for part in (images[:20], images[20:40], images[40:]):
        loss = F.cross_entropy(network(part.images / 255), part.labels, reduction="sum")
        expected += torch.autograd.grad(loss, network.classifier[-1].weight)[0].abs()
    torch.testing.assert_close(network.classifier[-1].weight.grad, expected, rtol=1e-4, atol=1e-5)


def test_prune_fine_tunes_and_says_what_it_did(context, monkeypatch):
    monkeypatch.setattr("src.training.budget.macs", lambda model, side: 10**10)  # large enough for six decimals
    repeated = TINY.model_copy(update={"pooled_side": 7})
    candidate = prune_channels.apply(made(trained(repeated), image_passes=7, pflop=1.0), context, settings(0.5))
    assert sum(candidate.network.plan.widths) <= 52
    assert candidate.network.plan.pooled_side == 1
    assert not candidate.network.training
    assert "fine-tuned 1 epoch:" in candidate.record.steps[0]
    after = context.validation_accuracy(candidate.network)  # in float32, as before the fine-tuning
    assert f"-> {after:.4f}" in candidate.record.steps[0]
    assert "folded before" in candidate.record.notes[0]
    assert candidate.record.image_passes == 7 + 60
    spent = pytest.approx(6 * 60 * 1e10 / 1e15, abs=1e-4)
    assert candidate.record.pflop_after_root == spent
    assert candidate.record.pflop == 1 + candidate.record.pflop_after_root
    assert candidate.record.export == Export(fold=True)


def test_fine_tuning_trains_every_weight_and_leaves_the_rest_alone(context):
    network = trained(TINY)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    candidate = fine_tune.apply(made(network), context, fine_tune.Settings(**EPOCH))
    assert candidate.network.plan == TINY
    assert not any(torch.equal(a, b) for a, b in zip(before, candidate.network.parameters(), strict=True))
    assert candidate.record.image_passes == 60
    assert candidate.record.export == Export()


def test_quantize_leaves_the_rounding_to_the_export(context):
    chosen = quantize.Settings(calibration_images=12, method="entropy")
    candidate = quantize.apply(made(trained(TINY)), context, chosen)
    assert has_batch_norm(candidate.network)
    expected = Export(fold=True, precision="int8", calibration_images=12, calibration_method="entropy")
    assert candidate.record.export == expected
    few = quantize.apply(made(trained(TINY)), context, chosen.model_copy(update={"calibration_images": 1000}))
    assert few.record.export.calibration_images == 60


def test_smoothing_undoes_uneven_channels_between_thin_layers(context):
    network = factorize.factorized(trained(TINY), 0.5)
    uneven = rebuild(network.plan, network.state_dict())
    thin = [pair for pair in pairwise(uneven.features) if all(isinstance(layer, torch.nn.Conv2d) for layer in pair)]
    for first, second in thin[::2]:  # what goes into the 3 x 3 convolutions
        factors = torch.logspace(-2, 2, len(first.weight))
        first.weight.data *= factors.view(-1, 1, 1, 1)
        second.weight.data /= factors.view(1, -1, 1, 1)
    images = context.train.images
    (one, places), (other, _) = (quantize.smoothed(each, images) for each in (network, uneven))
    assert places == len(thin) > 0
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(outputs(one), outputs(network), rtol=1e-3, atol=1e-4)


def test_smoothing_looks_at_images_as_the_network_sees_them(context):
    network, _ = quantize.smoothed(factorize.factorized(trained(TINY), 0.5), context.train.images)
    pairs = [pair for pair in pairwise(network.features) if all(isinstance(layer, torch.nn.Conv2d) for layer in pair)]
    maps, outputs_of = network.normalized(to_unit(context.train.images)), {}
    with torch.no_grad():
        for layer in network.features:
            maps = outputs_of[layer] = layer(maps)
    for thin, _ in pairs:
        largest = outputs_of[thin].abs().amax((0, 2, 3))
        torch.testing.assert_close(largest, torch.ones_like(largest))


FIVE = torch.tensor([[0.0, 0.12, -0.38, 0.9, -1.7]])  # places 0, 0.24, -0.76, 1.8 and -3.4 for the step 0.5


def test_five_weights_on_a_grid_of_three_bits_by_hand():
    own, weight = grid.Grid(FIVE, 3), FIVE.clone().requires_grad_()
    torch.nn.init.constant_(own.log_step, math.log(0.5))
    given = own(weight)
    assert given.tolist() == [pytest.approx([0, 0, -0.5, 1, -1.5])]  # codes 0, 0, -1, 2, -3
    given.sum().backward()
    assert weight.grad.tolist() == [pytest.approx([1, 1, 1, 1, 0])]  # the last one is clipped
    # Of each step (equation 3 of the paper): code - place, or the code of what is clipped; times 0.5 for its logarithm
    assert own.log_step.grad.item() == pytest.approx(0.5 * ((0 - 0.24) + (-1 + 0.76) + (2 - 1.8) - 3), rel=1e-5)


@pytest.mark.parametrize("largest", [1, 3, 7, 127])
def test_steps_start_where_rounding_changes_the_channel_least(largest):
    random = np.random.default_rng(0)
    rows = random.normal(size=(4, 300)) * [[1], [1e-3], [0.02], [0]]
    rows[2, 7] = 1.0  # a channel that began as the identity
    found = grid.nearest_step(torch.tensor(rows, dtype=torch.float32), largest).numpy()

    def error(row, step):
        return np.square(np.clip(np.rint(row / step), -largest, largest) * step - row).sum()

    for row, step in zip(rows[:3], found, strict=False):
        whole = np.abs(row).max() / largest
        assert error(row, step) <= 1.05 * min(error(row, whole * share) for share in np.linspace(0.02, 1, 500))
    assert found[2] == pytest.approx(1 / largest, rel=0.1)  # what LSQ's start would cut off
    assert found[3] == pytest.approx(grid.SMALLEST_STEP)


def test_code_lengths_of_five_weights_by_hand():
    """Codes -3 to 3 occur 1, 0, 1, 2, 0, 1 and 0 times, and one more time each: shares of 12."""
    place = torch.tensor([0.0, 0.24, -0.76, 1.8, -3.0], requires_grad=True)
    lengths = grid.code_lengths(place, 3)
    often, twice, once = math.log2(12 / 3), math.log2(12 / 2), math.log2(12)
    by_hand = [
        often,
        0.76 * often + 0.24 * once,  # between 0 and 1
        0.76 * twice + 0.24 * often,  # between -1 and 0
        0.2 * once + 0.8 * twice,  # between 1 and 2
        twice,
    ]
    assert lengths.tolist() == pytest.approx(by_hand, rel=1e-5)
    lengths.sum().backward()
    slopes = [once - often, once - often, often - twice, twice - once, once - twice]
    assert place.grad.tolist() == pytest.approx(slopes, rel=1e-4)


def test_the_rate_pulls_weights_towards_zero_and_widens_the_steps():
    network = trained(TINY)
    grid.put_on_grid(network, 4)
    grid.bits_per_weight(network).backward()
    own, weight = grid.grid_of(network.convolutions[1])
    outward = (weight * weight.grad)[own.place(weight).abs() < own.largest]
    assert outward.sum() > 0.5 * outward.abs().sum() > 0
    assert (own.log_step.grad < 0).all()
    assert [grid.grid_of(layer)[0].largest for layer in network.weighted_layers] == [127, 7, 7, 7, 127]


@pytest.fixture(scope="module")
def gridded(context):
    network = trained(TINY.model_copy(update={"pooled_side": 3}))
    with torch.no_grad():
        network.features[4].weight[::2] *= -1  # BatchNorm turns signs
        network.convolutions[1].weight[3] = 0
    training = TRAINING.model_copy(update={"ema_decay": 0.5})
    chosen = grid.Settings(train=training, budget=2, bits=3, rate=0.1, calibration_images=40, method="minmax")
    return grid.apply(made(network), context, chosen)


def test_the_int8_file_holds_the_grid_of_the_trained_network(gridded, context, tmp_path):
    save(gridded.network, tmp_path / "a.safetensors", {})
    network = folded(load(tmp_path / "a.safetensors"))  # as the stage export does
    images = context.train.images.numpy()
    export(network, tmp_path / "a.onnx", calibration=Calibration(images, "minmax"))
    stored = {tensor.name: to_array(tensor) for tensor in onnx.load(tmp_path / "a.onnx").graph.initializer}
    for number, (name, scale) in enumerate(gridded.network.scales.items()):
        codes, weight = stored[f"{name}_quantized"], gridded.network.get_parameter(name).detach()
        assert codes.dtype == np.int8
        assert np.abs(codes).max() == 3 or number in (0, 4)
        assert np.array_equal(stored[f"{name}_scale"], scale)
        assert torch.equal(torch.tensor(codes) * scale.view(-1, *[1] * (codes.ndim - 1)), weight)
    export(network, tmp_path / "float.onnx")
    expected = outputs(gridded.network, context.train.images / 255).numpy()
    np.testing.assert_allclose(logits(tmp_path / "float.onnx", images), expected, atol=1e-4, rtol=0)
    # In int8 the activations are rounded too
    assert np.abs(logits(tmp_path / "a.onnx", images) - expected).max() < 0.1 * np.abs(expected).max()


def test_a_grid_ends_folded_and_its_record_says_how_to_export_it(gridded):
    assert not has_batch_norm(gridded.network)
    assert (gridded.network.plan.grid, gridded.network.plan.pooled_side) == (True, 1)
    expected = Export(fold=True, precision="int8", calibration_images=40, calibration_method="minmax")
    assert gridded.record.export == expected
    assert "weights of 3 bits, rate 0.1, fine-tuned" in gridded.record.steps[0]


def test_settling_folds_batch_norm_and_changes_no_logit_but_by_the_rounding_of_scales():
    network = trained(TINY)
    grid.put_on_grid(network, 3)
    with torch.no_grad():
        network.features[4].weight[::2] *= -1
        grid.grid_of(network.convolutions[1])[1][3] = 0
        expected = network(IMAGES)
    settled = grid.settled(network)
    assert torch.equal(settled.scales["features.3.weight"][3], torch.tensor(grid.EMPTY_SCALE))
    torch.testing.assert_close(outputs(settled), expected, rtol=0, atol=0.02 * expected.abs().max().item())


def test_keep_and_half_change_the_file_alone(context):
    network = trained(TINY)
    kept, halved = (t.apply(made(network), context, t.Settings()) for t in (keep, half))
    assert kept.network is halved.network is network
    assert kept.record.export == Export()
    assert halved.record.export == Export(precision="float16")


def test_a_convolution_of_another_kernel_and_without_relu_can_be_folded_and_pruned(context):
    """Three blocks as a factorized convolution has them: 1x1, 3x3, 1x1, ReLU after the last alone."""
    blocks = [
        Conv(name="conv0.in", channels=8, kernel=1, padding=0, batch_norm=False, relu=False),
        Conv(name="conv0.core", channels=8, batch_norm=False, relu=False),
        Conv(name="conv0.out", channels=16, kernel=1, padding=0),
        Pool(name="pool0"),
    ]
    network = trained(Plan(features=blocks, head=()))
    torch.testing.assert_close(outputs(folded(network)), outputs(network), atol=1e-4, rtol=0)
    pruned = prune_channels.prune(network, context.train, settings(0.4))
    assert [block.kernel for block in pruned.plan.convolutions] == [1, 3, 1]
    assert sum(pruned.plan.widths) < 32
    assert outputs(pruned).shape == (4, 10)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_factorized_without_loss_where_the_rank_is_low(batch_norm):
    network = trained(plan(16, 32, "pool", 32, head=(32,), batch_norm=batch_norm))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in network.convolutions[1:]:
            into, out = torch.randn(4, layer.in_channels, generator=generator), torch.randn(layer.out_channels, 3)
            core = torch.randn(3, 4, 3, 3, generator=generator)
            layer.weight.copy_(torch.einsum("or,rikl,ic->ockl", out, core, into))
        hidden = network.classifier[0]
        hidden.weight.copy_(torch.randn(32, 2) @ torch.randn(2, 32))
    low = factorize.factorized(network, 1 - 1e-9)
    assert low.plan.widths == (16, 4, 3, 32, 4, 3, 32, 2, 32)
    assert [block.kernel for block in low.plan.convolutions] == [3, 1, 3, 1, 1, 3, 1]
    torch.testing.assert_close(outputs(low), outputs(network), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(outputs(folded(low)), outputs(network), rtol=1e-3, atol=1e-3)


def test_rank_is_the_number_of_singular_values_that_hold_the_energy():
    matrix = np.diag([3.0, 2.0, 1.0, 0.0])  # squares 9, 4, 1: shares 9/14, 13/14, 1
    shares = (9 / 14, 0.65, 13 / 14, 0.95, 1.0)
    assert [factorize._rank(matrix, share) for share in shares] == [1, 2, 2, 3, 3]
    assert [factorize._rank(matrix, share, 2) for share in shares] == [2, 2, 2, 4, 4]
    assert factorize._rank(matrix, 1.0, 8) == 4  # there are no more values


def test_factorize_cuts_macs_and_leaves_alone_what_would_not_get_cheaper(context):
    network = trained(plan(16, 32, "pool", 32, head=(32,)))
    assert factorize.factorized(network, 1.0).plan == network.plan  # full rank: nothing to gain
    chosen = factorize.Settings(energy=0.5, round_to=1, **EPOCH)
    candidate = factorize.apply(made(network), context, chosen)
    assert macs(candidate.network) < 0.8 * macs(network)
    assert candidate.network.classifier[-1].weight.shape == network.classifier[-1].weight.shape
    assert "factorized with 50% of the energy" in candidate.record.steps[0]
    assert candidate.record.export == Export(fold=True)
    again = factorize.factorized(candidate.network, 0.9).plan
    assert {block.name for block in candidate.network.plan.convolutions} <= {block.name for block in again.convolutions}
