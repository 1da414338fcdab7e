"""The controls reinitialize and small: new weights in the parent's shape, and a narrower VGG16 of as many MACs."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from networks import colors, plan, trained
from src.compression.scratch import FromScratch, can_whiten
from src.training.schedule import chosen_recipe

from src.compression.candidate import Candidate, Context, Export
from src.compression.tree import CompressSettings, check
from src.core.errors import ParamsError, UserError
from src.network.cost import macs
from src.network.vgg import VGG, Conv, ModelSettings, Plan, Pool, vgg16_plan
from src.techniques import factorize, prune_channels, reinitialize, small
from src.training.checkpoints import Checkpoints

PARAMS = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())
COMMITTED = FromScratch.model_validate(PARAMS["compress"]["from_scratch"])
SETTINGS = COMMITTED.model_copy(update={"batch_size": 20, "mixed_precision": False})
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
    return Context(colors(60), colors(30), seed=0)


def control(parent, context, **changes):
    chosen = reinitialize.Settings(from_scratch=SETTINGS.model_copy(update=changes))
    return reinitialize.apply(parent, context, chosen)


def parent(shape=TINY, image_passes=130, **others):
    return Candidate(trained(shape), image_passes=image_passes, pflop=7.0, **others)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_committed_settings_are_those_of_the_recipe_thorough():
    thorough = chosen_recipe("thorough", PARAMS["train"]["defaults"], PARAMS["train"]["recipes"])
    ours = COMMITTED.recipe(vgg16_plan(ModelSettings(head="compact", width=1.0)), thorough.epochs)
    assert ours == thorough.model_copy(update={"mixed_precision": "auto"})


@pytest.mark.parametrize(
    ("epochs", "phases", "warmup"),
    [
        (34, [(24, 8), (32, 26)], 1.0),
        (6, [(24, 2), (32, 4)], 1.0),
        (2, [(32, 2)], 1.0),
        (1, [(32, 1)], 1.0),
    ],
)
def test_a_quarter_of_the_epochs_have_small_images(epochs, phases, warmup):
    recipe = COMMITTED.recipe(TINY, epochs)
    assert [(phase.size, phase.epochs) for phase in recipe.phases] == phases
    assert recipe.warmup_epochs == warmup


def test_small_images_alone_and_a_warm_up_that_is_longer_than_the_run():
    recipe = COMMITTED.model_copy(update={"small_images_share": 1.0, "warmup_epochs": 5.0}).recipe(TINY, 3)
    assert [(phase.size, phase.epochs) for phase in recipe.phases] == [(24, 3)]
    assert recipe.warmup_epochs == 3


def test_the_shape_stays_and_the_weights_are_new(context, monkeypatch):
    monkeypatch.setattr("src.training.loop.macs", lambda model, size: 10**10)  # large enough for six decimals
    before = parent(steps=("pruned",), notes=("said",), export=Export(fold=True, precision="int8"))
    after = control(before, context)
    assert after.network.plan == TINY
    assert torch.equal(after.network.mean, before.network.mean)
    assert torch.equal(after.network.std, before.network.std)
    assert not any(torch.equal(a, b) for a, b in zip(weights(before), weights(after), strict=True))
    assert after.image_passes == 2 * 60  # 130 rounded to whole epochs
    assert after.pflop == pytest.approx(6 * 120 * 1e10 / 1e15, rel=1e-3)  # of this training alone
    assert after.export == Export(fold=True)
    accuracy = context.validation_accuracy(after.network)
    new = f"the same shape, trained 2 epochs from new weights: validation accuracy {accuracy:.4f}"
    assert after.steps == ("pruned", new)
    assert after.notes == ()


def weights(candidate):
    return [parameter for parameter in candidate.network.parameters() if parameter.dim() > 1]


def test_more_passes_separate_the_colors_without_any_old_weight(context):
    candidate = control(parent(image_passes=20 * 60), context, ema_decay=0.0, cutout=0)
    assert context.validation_accuracy(candidate.network) > 0.5


def test_same_bytes_again_other_weights_by_another_seed_and_one_epoch_at_least(context):
    first, again = (control(parent(image_passes=1), context) for _ in range(2))
    assert first.image_passes == 60
    assert same(first.network, again.network)
    other = control(parent(image_passes=1), replace(context, seed=5))
    assert not same(first.network, other.network)


def test_interrupted_training_goes_on_and_gives_the_same_weights(context, tmp_path):
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
    assert whole.pflop == resumed.pflop


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


def test_the_shapes_that_techniques_leave_can_be_trained_from_new_weights(context):
    network = trained(plan(16, 32, "pool", 32, head=(32,)))
    low_rank = factorize.factorized(network, 0.5)
    chosen = prune_channels.Settings.model_construct(**PARAMS["compress"]["steps"]["prune_channels"])
    chosen = chosen.model_copy(update={"importance": "magnitude"})
    for shape in (low_rank, prune_channels.prune(network, context.train, chosen)):
        assert shape.plan != network.plan
        after = control(Candidate(shape, image_passes=60), context)
        assert after.network.plan == shape.plan
        assert all(parameter.isfinite().all() for parameter in after.network.parameters())


@pytest.mark.parametrize("limit", [1_251_280, 1_251_281, 3_000_000, 19_940_608, 19_940_607])
def test_width_is_the_widest_that_fits_by_brute_force(limit):
    def cost(step):
        return macs(VGG(vgg16_plan(ModelSettings(head="compact", width=step / 64))))

    step = 1
    while cost(step + 1) <= limit:
        step += 1
    assert small.widest(limit) == step / 64


def test_too_few_macs_for_any_vgg16_are_told(context):
    with pytest.raises(UserError, match=r"small: the narrowest VGG16 has 1,251,280 MACs, .* only 1,251,279"):
        small.widest(1_251_279)
    tiny = Candidate(trained(plan(8, "pool")), image_passes=60)
    with pytest.raises(UserError, match="small: the narrowest VGG16 has 1,251,280 MACs"):
        small.apply(tiny, context, small.Settings(from_scratch=SETTINGS))


def test_small_has_at_most_the_macs_of_its_parent_and_its_passes(context):
    before = Candidate(trained(plan(32, 32, "pool", 64)), image_passes=65, pflop=7.0)
    after = small.apply(before, context, small.Settings(from_scratch=SETTINGS))
    widths = after.network.plan.widths
    assert len(widths) == 13 + 2
    assert all(width % 8 == 0 for width in widths)
    limit, found = macs(before.network), macs(after.network)
    wider = small.plan_of(small.widest(limit) + 1 / 64)
    assert found <= limit < macs(VGG(wider))
    assert after.image_passes == 60
    width = small.widest(limit)
    assert after.steps[0].startswith(f"VGG16 of width {width:g}, {found:,} MACs (the network before has {limit:,}), ")
    assert after.export == Export()


def node(parent, step, **settings):
    return {"from": parent, "step": step, **settings}


def tree(**recipes):
    reference = {"dense": node("vgg16", "keep"), "tuned": node("vgg16", "fine_tune")}
    one_epoch = PARAMS["compress"] | {"fine_tune": PARAMS["compress"]["fine_tune"] | {"epochs": 1}}
    return check(CompressSettings(**one_epoch | {"recipes": reference | recipes}))


def test_controls_do_not_count_for_tuned_and_what_follows_them_does():
    controls = {"pruned": node("vgg16", "prune_channels"), "scratch": node("pruned", "reinitialize")}
    recipes = tree(**controls, narrow=node("pruned", "small"), scratch8=node("scratch", "quantize"))
    assert [recipes[name].epochs for name in ("pruned", "scratch", "narrow")] == [1, 0, 0]
    with pytest.raises(ParamsError, match=r"tuned: must fine-tune .* 2 of taught"):
        tree(**controls, taught=node("scratch", "distill"))


def test_a_recipe_changes_the_training_of_a_control_and_mistakes_are_named():
    pruned = node("vgg16", "prune_channels")
    recipes = tree(pruned=pruned, scratch=node("pruned", "reinitialize", from_scratch={"lr_peak": 0.02}))
    assert recipes["scratch"].settings.from_scratch == COMMITTED.model_copy(update={"lr_peak": 0.02})
    with pytest.raises(ParamsError, match=r"recipes\.r: reinitialize cannot follow fold"):
        tree(f=node("vgg16", "fold"), r=node("f", "reinitialize"))
    with pytest.raises(ParamsError, match=r"recipes\.r\.from_scratch\.small_images_share: .*found 2"):
        tree(r=node("vgg16", "small", from_scratch={"small_images_share": 2}))
    wrong = PARAMS["compress"] | {"from_scratch": PARAMS["compress"]["from_scratch"] | {"whiten": 3}}
    with pytest.raises(ParamsError, match=r"^params\.yaml: compress\.from_scratch\.whiten: "):
        check(CompressSettings(**wrong))
