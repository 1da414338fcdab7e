"""The controls train_on, reinitialize and small: equal cost, and what each keeps of its parent."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from networks import candidate, colors, plan, trained, vgg

from src.compression.context import Context
from src.compression.training import can_whiten
from src.compression.tree import CompressSettings, check
from src.core.errors import ParamsError, UserError
from src.network.cost import macs
from src.network.record import Export
from src.network.vgg import VGG, Conv, Plan, Pool
from src.techniques import factorize, prune_channels, reinitialize, small, train_on
from src.training.budget import StepCost
from src.training.checkpoints import Checkpoints
from src.training.recipe import Training, chosen_recipe

PARAMS = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())
DEFAULTS, TRAININGS = PARAMS["train"]["defaults"], PARAMS["compress"]["train"]
SCRATCH = Training(**DEFAULTS | TRAININGS["long"])
SETTINGS = SCRATCH.model_copy(update={"batch_size": 20, "mixed_precision": False})
TINY = plan(16, "pool", 24, "pool", head=(24,))
TRUNCATED_AND_PRUNED = plan(8, 16, "pool", 8)
FACTORIZED_FIRST = Plan(
    features=[
        Conv(name="conv0.in", channels=2, kernel=1, padding=0, batch_norm=False, relu=False),
        Conv(name="conv0.core", channels=8, batch_norm=False, relu=False),
        Conv(name="conv0", channels=16, kernel=1, padding=0),
        Pool(name="pool0"),
    ],
    head=(),
)


@pytest.fixture(scope="module")
def context():
    return Context(colors(60), colors(30), seed=0, root=candidate(trained(TINY), image_passes=900, pflop=7.0))


def control(parent, context, **changes):
    return reinitialize.apply(parent, context, reinitialize.Settings(train=SETTINGS.model_copy(update=changes)))


def parent(shape=TINY, epochs=2, **record):
    """A parent whose path has spent what ``epochs`` epochs of ``shape`` with images of the full side cost."""
    network = trained(shape)
    pflop = epochs * StepCost(network, SETTINGS, 60).full_epoch / 1e15
    return candidate(network, image_passes=1000, pflop=7 + pflop, pflop_after_root=pflop, **record)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_training_from_scratch_in_the_tree_is_that_of_the_recipe_thorough():
    thorough = chosen_recipe("thorough", DEFAULTS, PARAMS["train"]["recipes"])
    changes = {"mixed_precision": "auto", "warmup": SCRATCH.warmup}
    assert SCRATCH.lasting(24) == thorough.model_copy(update=changes)


def test_the_shape_stays_and_the_weights_are_new(context):
    before = parent(steps=("pruned",), notes=("said",), export=Export(fold=True, precision="int8"))
    after = control(before, context)
    assert after.network.plan == TINY
    assert torch.equal(after.network.mean, before.network.mean)
    assert torch.equal(after.network.std, before.network.std)
    assert not any(torch.equal(a, b) for a, b in zip(weights(before), weights(after), strict=True))
    assert after.record.image_passes == 2 * 60
    assert after.record.pflop == after.record.pflop_after_root  # of this training alone
    assert after.record.pflop == pytest.approx(before.record.pflop_after_root, rel=1e-3)  # its first filters are fixed
    assert after.record.export == Export(fold=True)
    accuracy = context.validation_accuracy(after.network)
    new = f"the same shape, trained 2 epochs from scratch: validation accuracy {accuracy:.4f}"
    assert after.record.steps == ("pruned", new)
    assert after.record.notes == ()


def test_the_root_is_trained_on_for_what_the_path_has_spent(context):
    root = [tensor.clone() for tensor in context.root.network.state_dict().values()]
    settings = SETTINGS.model_copy(update={"normed_filters": False, "phases": []})
    spent = 3 * StepCost(context.root.network, settings, 60).full_epoch / 1e15
    before = candidate(trained(TRUNCATED_AND_PRUNED), pflop_after_root=spent)
    after = train_on.apply(before, context, train_on.Settings(train=settings))
    assert after.network.plan == TINY
    assert after.record.image_passes == 900 + 3 * 60
    assert after.record.pflop - 7 == pytest.approx(after.record.pflop_after_root)
    assert after.record.pflop_after_root == spent
    assert after.record.steps[0].startswith("trained the root on for 3 epochs: ")
    assert all(torch.equal(a, b) for a, b in zip(root, context.root.network.state_dict().values(), strict=True))
    assert not same(after.network, context.root.network)


def weights(candidate):
    return [parameter for parameter in candidate.network.parameters() if parameter.dim() > 1]


def test_more_epochs_separate_the_colors_without_any_old_weight(context):
    after = control(parent(epochs=20), context, ema_decay=0.0, cutout=0)
    assert context.validation_accuracy(after.network) > 0.5


def test_same_bytes_again_other_weights_by_another_seed_and_one_epoch_at_least(context):
    first, again = (control(parent(epochs=0), context) for _ in range(2))
    assert first.record.image_passes == 60
    assert same(first.network, again.network)
    other = control(parent(epochs=0), replace(context, seed=5))
    assert not same(first.network, other.network)


def test_interrupted_training_resumes_and_gives_the_same_weights(context, tmp_path):
    whole = control(parent(), context)
    answers = iter([False, False, False, True])
    stopped = replace(
        context,
        checkpoints=Checkpoints(tmp_path),
        interruption=lambda: contextlib.nullcontext(lambda: next(answers)),
    )
    with pytest.raises(KeyboardInterrupt):
        control(parent(), stopped)
    assert list(tmp_path.glob("*.pt"))
    resumed = control(parent(), replace(context, checkpoints=Checkpoints(tmp_path)))
    assert same(whole.network, resumed.network)
    assert whole.record == resumed.record


def test_first_filters_are_fixed_patches_only_where_the_plan_allows_it(context):
    assert can_whiten(TINY)
    assert can_whiten(TRUNCATED_AND_PRUNED)
    assert not can_whiten(FACTORIZED_FIRST)
    assert not can_whiten(TINY.with_convolutions(batch_norm=False))
    for shape, fixed in ((TRUNCATED_AND_PRUNED, True), (FACTORIZED_FIRST, False)):
        after = control(parent(shape), context)
        assert after.network.plan == shape
        assert after.network.convolutions[0].weight.requires_grad is not fixed
        assert all(parameter.isfinite().all() for parameter in after.network.parameters())


def test_the_shapes_that_techniques_leave_can_be_trained_from_scratch(context):
    network = trained(plan(16, 32, "pool", 32, head=(32,)))
    low_rank = factorize.factorized(network, 0.5)
    chosen = prune_channels.Settings.model_construct(**PARAMS["compress"]["steps"]["prune_channels"])
    chosen = chosen.model_copy(update={"importance": "magnitude"})
    for shape in (low_rank, prune_channels.prune(network, context.train, chosen)):
        assert shape.plan != network.plan
        after = control(candidate(shape), context)
        assert after.network.plan == shape.plan
        assert all(parameter.isfinite().all() for parameter in after.network.parameters())


@pytest.mark.parametrize("limit", [1_251_280, 1_251_281, 3_000_000, 19_940_608, 19_940_607])
def test_width_is_the_widest_that_fits_by_brute_force(limit):
    def cost(step):
        return macs(VGG(vgg(step / 64)))

    step = 1
    while cost(step + 1) <= limit:
        step += 1
    assert small.widest(limit, vgg()) == step / 64


def test_too_few_macs_for_any_vgg16_are_told(context):
    with pytest.raises(UserError, match=r"small: the narrowest VGG16 has 1,251,280 MACs, .* only 1,251,279"):
        small.widest(1_251_279, vgg())
    tiny, context = candidate(trained(plan(8, "pool"))), replace(context, root=candidate(VGG(vgg())))
    with pytest.raises(UserError, match="small: the narrowest VGG16 has 1,251,280 MACs"):
        small.apply(tiny, context, small.Settings(train=SETTINGS, widths=None))


def test_small_has_at_most_the_macs_of_its_parent(context):
    before = candidate(trained(plan(32, 32, "pool", 64)))
    after = small.apply(
        before, replace(context, root=candidate(VGG(vgg()))), small.Settings(train=SETTINGS, widths=None)
    )
    widths = after.network.plan.widths
    assert len(widths) == 13 + 2
    assert all(width % 8 == 0 for width in widths)
    limit, found = macs(before.network), macs(after.network)
    wider = small.plan_of(small.widest(limit, vgg()) + 1 / 64, vgg())
    assert found <= limit < macs(VGG(wider))
    assert after.record.image_passes == 60
    width = small.widest(limit, vgg())
    assert after.record.steps[0].startswith(
        f"VGG16 of width {width:g}, {found:,} MACs (the network before has {limit:,}), "
    )
    assert after.record.export == Export()


def test_small_of_given_widths_is_cut_after_as_many_layers(context):
    root, before = vgg(depth=11), candidate(trained(TINY))
    settings = small.Settings(train=SETTINGS, widths=[8, 16, 24])
    after = small.apply(before, replace(context, root=candidate(VGG(root))), settings)
    assert [block.name for block in after.network.plan.features] == ["conv1_1", "pool1", "conv2_1", "pool2", "conv3_1"]
    assert after.network.plan.widths == (8, 16, 24)
    assert after.network.plan.head == ()
    cost = 1024 * 27 * 8 + 256 * 72 * 16 + 64 * 144 * 24 + 24 * 10
    assert after.record.steps[0].startswith(f"VGG of widths 8-16-24, {cost:,} MACs (the network before has ")
    assert small.plan_with(root.widths, root) == root
    ends = [small.plan_with(root.widths[:count], root) for count in (8, 9)]
    assert [(plan.features[-1].name, len(plan.head)) for plan in ends] == [("conv5_2", 0), ("pool5", 1)]
    with pytest.raises(UserError, match=r"small: VGG11 has 10 widths to choose \(found 11\)"):
        small.plan_with([8] * 11, root)


def node(parent, step, **settings):
    return {"from": parent, "step": step, **settings}


def tree(section=PARAMS["compress"], **recipes):
    reference = {"dense": node("trained", "keep")}
    return check(CompressSettings(**section | {"recipes": reference | recipes}), DEFAULTS)


def test_a_control_needs_a_path_that_trains():
    for step in ("train_on", "reinitialize", "small"):
        with pytest.raises(ParamsError, match=rf"recipes\.r\.from: {step} trains for what its parent's path has spent"):
            tree(cut=node("trained", "truncate"), r=node("cut", step))
    recipes = tree(pruned=node("trained", "prune_channels"), r=node("pruned", "small"), again=node("r", "reinitialize"))
    assert recipes["r"].settings.train == SCRATCH


@pytest.mark.parametrize("control", ["train_on", "reinitialize"])
def test_what_follows_a_control_does_not_undo_what_came_before_it(control):
    recipes = {"sparse": node("trained", "prune_weights"), "c": node("sparse", control)}
    assert tree(**recipes, r=node("c", "fine_tune"))["r"].parent == "c"
    with pytest.raises(ParamsError, match=rf"recipes\.r: truncate cannot follow {control}"):
        tree(**recipes, r=node("c", "truncate"))


def test_a_recipe_changes_the_training_of_a_control_and_mistakes_are_named():
    pruned = node("trained", "prune_channels")
    recipes = tree(pruned=pruned, scratch=node("pruned", "reinitialize", train={"lr_peak": 0.02}))
    assert recipes["scratch"].settings.train == SCRATCH.model_copy(update={"lr_peak": 0.02})
    with pytest.raises(ParamsError, match=r"recipes\.r: reinitialize cannot follow fold"):
        tree(pruned=pruned, f=node("pruned", "fold"), r=node("f", "reinitialize"))
    with pytest.raises(ParamsError, match=r"recipes\.r\.train\.cutout: .*found -1"):
        tree(pruned=pruned, r=node("pruned", "small", train={"cutout": -1}))
    wrong = PARAMS["compress"] | {"train": TRAININGS | {"long": {"whiten": 3}}}
    with pytest.raises(ParamsError, match=r"^params\.yaml: compress\.train\.long\.whiten: "):
        tree(wrong)
