"""The fit loop: it learns, it is deterministic, it resumes where it stopped."""

import itertools
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
import torch
import torch.nn.functional as F
from networks import plan, vgg
from test_recipe import recipe

from src.core.errors import UserError
from src.data.prepared import Split
from src.network.cost import parameters
from src.network.inference import predict
from src.network.vgg import VGG
from src.training.checkpoints import Checkpoints
from src.training.loop import Hooks, Reporter, fit
from src.training.optimizers import flops_of_step

ROOT = Path(__file__).parent.parent
PLAN = plan(8, "pool", 16, "pool", head=(16,))
SHORT = {"epochs": 3, "phases": [{"side": 0.5, "epochs": 0.67}], "warmup": 0.3333, "batch_size": 16, "dropout": 0.3}


def colored(count, seed=0):
    """Images whose class can be read off a bright row."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    images = torch.randint(0, 100, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    images[torch.arange(count), :, 3 * labels] = 255
    return Split(images, labels)


def train(reporter=None, checkpoints=None, stop_at=None, model=None, data=None, hooks=None, seed=0, **changes):
    torch.manual_seed(0)
    model = model or VGG(PLAN)
    chosen = recipe(**SHORT | changes)
    hooks = Hooks(reporter or Reporter(), checkpoints, stop_at, **hooks or {})
    return fit(model, data or colored(80), colored(40, 1), chosen, seed, hooks)


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


class InterruptFrom(Reporter):
    """Says that the run is interrupted from a step on, counted over the whole run."""

    def __init__(self, first):
        self.first, self.made = first, 0

    def step(self, epoch, done, total):
        self.made = (epoch - 1) * total + done

    def interrupted(self):
        return self.made >= self.first


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_overfits_64_images(optimizer):
    data = Split(torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8), torch.arange(64) % 10)
    model = VGG(vgg())
    plain = {"flip": "never", "crop_padding": 0, "dropout": 0.0, "lr_peak": 0.02}
    network, _ = train(
        model=model, data=data, epochs=40, phases=[], warmup=0.025, optimizer=optimizer, batch_size=16, **plain
    )
    assert (predict(network, data.images).argmax(1) == data.labels).all()


def test_deterministic_and_seeded():
    assert same(train()[0], train()[0])
    assert not same(train()[0], train(seed=1)[0])
    assert train()[1] == train()[1]


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
@pytest.mark.parametrize("step", [1, 5, 7, 15])
def test_interrupted_at_a_step_and_resumed_gives_the_same_bits(tmp_path, step, optimizer):
    options = {"optimizer": optimizer, "ema_decay": 0.9, "flip": "alternate", "cutout": 8, "normed_filters": True}
    whole, rows = train(**options)
    checkpoints = Checkpoints(tmp_path)
    stop = InterruptFrom(step)
    with pytest.raises(KeyboardInterrupt, match=f"step {step} "):
        train(stop, checkpoints, hooks={"interrupted": stop.interrupted}, **options)
    torch.rand(7)  # whatever happened in between
    again, rows_again = train(checkpoints=checkpoints, **options)
    assert rows_again == rows
    assert same(whole, again)


@pytest.mark.parametrize("seed", range(3))
def test_three_interruptions_at_random_give_the_same_bits(tmp_path, seed):
    options = {"optimizer": "muon", "ema_decay": 0.9, "flip": "alternate"}
    whole, rows = train(**options)
    checkpoints = Checkpoints(tmp_path)
    for step in sorted(random.Random(seed).sample(range(1, 15), 3)):
        stop = InterruptFrom(step)
        with pytest.raises(KeyboardInterrupt, match=f"step {step} "):
            train(stop, checkpoints, hooks={"interrupted": stop.interrupted}, **options)
    again, rows_again = train(checkpoints=checkpoints, **options)
    assert rows_again == rows
    assert same(whole, again)


def test_a_clock_that_goes_backwards_does_not_stop_checkpoints(tmp_path, monkeypatch):
    hours_ago, saved = itertools.count(10**9, -3600), []
    monkeypatch.setattr("time.time", lambda: next(hours_ago))

    class Noted(Checkpoints):
        def save(self, steps, state):
            saved.append(steps)
            super().save(steps, state)

    train(checkpoints=Noted(tmp_path, every_seconds=-1))
    assert saved == list(range(16))
    os.utime(tmp_path / "00000015.pt", (0, 0))
    assert Checkpoints(tmp_path).load(torch.device("cpu"))["steps"] == 15


def test_the_start_tells_the_work_that_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("src.training.budget.macs", lambda model, size: 10**9 * size)  # large enough for six decimals
    told = []

    class Start(InterruptFrom):
        def start(self, epochs, flops, device, bfloat16):
            told.append((epochs, flops, device.type, bfloat16))

    checkpoints, stop = Checkpoints(tmp_path), Start(5)  # one whole epoch
    with pytest.raises(KeyboardInterrupt):
        train(stop, checkpoints, hooks={"interrupted": stop.interrupted}, mixed_precision=False)
    _, rows = train(Start(99), checkpoints, mixed_precision=False)
    (all_epochs, all_flops, *kind), (epochs, flops, *_) = told
    assert (all_epochs, epochs, kind) == (3, 2, ["cpu", False])
    assert all_flops / 1e15 == pytest.approx(rows[-1]["pflop"], abs=1e-6)
    assert (all_flops - flops) / 1e15 == pytest.approx(rows[0]["pflop"], abs=1e-6)


def test_rows(monkeypatch):
    monkeypatch.setattr("src.training.budget.macs", lambda model, size: 10**9 * size)  # large enough for six decimals
    _, rows = train(ema_decay=0.5, optimizer="muon")
    assert [row["image_size"] for row in rows] == [16, 16, 32]
    assert rows[0]["learning_rate"] == pytest.approx(0.001 + 0.009 * 4 / 5)  # of the last of five steps
    model = VGG(PLAN)
    extra = flops_of_step(model, recipe(optimizer="muon")) + 3 * parameters(model)
    flops = sum(6 * 80 * 10**9 * size + 5 * extra for size in (16, 16, 32))
    assert rows[-1]["pflop"] == pytest.approx(flops / 1e15, rel=1e-4)


def test_stops_after_the_first_epoch_with_the_accuracy_asked_for():
    six = {"epochs": 6, "phases": [], "lr_peak": 0.02}
    accuracies = [row["val/accuracy"] for row in train(**six)[1]]
    target = sorted(set(accuracies))[1]  # above the lowest
    first = next(epoch for epoch, accuracy in enumerate(accuracies, start=1) if accuracy >= target)
    assert len(train(**six, stop_at=target)[1]) == first
    assert len(train(**six, stop_at=1.0)[1]) == 6


def test_ema_by_hand():
    seen = []

    class Watch(Reporter):
        def step(self, epoch, done, total):
            seen.append(model.classifier[-1].bias.detach().clone())

    model = VGG(PLAN)
    kept, _ = train(Watch(), model=model, ema_decay=0.75)
    average = seen[0]
    for bias in seen[1:]:
        average = 0.75 * average + 0.25 * bias
    torch.testing.assert_close(kept.classifier[-1].bias.detach(), average)


def test_accumulated_gradients_are_the_whole_batchs():
    without = plan(8, "pool", batch_norm=False)  # BatchNorm sees the parts
    torch.manual_seed(0)
    one, four = VGG(without), VGG(without)
    four.load_state_dict(one.state_dict())
    train(model=one, dropout=0.0, mixed_precision=False)
    train(model=four, dropout=0.0, mixed_precision=False, accumulate=4)
    for a, b in zip(one.parameters(), four.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_not_a_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    model = VGG(PLAN)

    class Poison(Reporter):
        def epoch(self, row):
            torch.nn.init.constant_(model.classifier[-1].bias, float("nan"))

    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UserError, match=r"not finite at step 6 \(epoch 2\)"):
        train(Poison(), checkpoints, model=model)
    assert checkpoints.load(torch.device("cpu"))["steps"] == 5


@pytest.mark.parametrize("bad", [float("-inf"), float("nan")])
@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_weight_that_the_last_step_ruins_is_no_success(tmp_path, place, bad, ema_decay):
    def ruin(model, progress):
        if progress == 1:
            list(model.parameters())[place].data[0] = bad

    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(UserError, match=r"not finite after epoch 3; try a lower lr_peak"):
        train(checkpoints=checkpoints, hooks={"after_step": ruin}, ema_decay=ema_decay)
    assert checkpoints.load(torch.device("cpu"))["steps"] == 10


def test_a_validation_loss_that_overflows_is_no_success():
    def grow(model, progress):
        if progress == 1:
            model.classifier[-1].weight.data[0] = 3e38

    with pytest.raises(UserError, match=r"not finite after epoch 3"):
        train(hooks={"after_step": grow}, mixed_precision=False)


class Full(Reporter):
    def step(self, epoch, done, total):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_is_advice():
    with pytest.raises(UserError, match="with 16 images at a time; set batch_size to 8, or accumulate to 2"):
        train(Full())
    with pytest.raises(UserError, match="with 8 images at a time; set batch_size to 8, or accumulate to 4"):
        train(Full(), accumulate=2)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(2, 1), (3, 1), (15, 3), (30, 5), (50, 1), (75, 5), (300, 2)])
def test_advice_on_memory_works(batch_size, accumulate):
    with pytest.raises(UserError) as caught:
        train(Full(), batch_size=batch_size, accumulate=accumulate)
    at_once = int(re.search(r"with (\d+) images", str(caught.value))[1])
    advised = re.findall(r"(batch_size|accumulate) to (\d+)", str(caught.value))
    assert advised or at_once < 4
    for key, value in advised:
        settings = {"batch_size": batch_size, "accumulate": accumulate, key: int(value)}
        train(**settings, epochs=1, phases=[])
        assert 2 <= settings["batch_size"] // settings["accumulate"] < batch_size // accumulate


def test_a_callers_objective_takes_the_place_of_cross_entropy():
    seen = []

    def objective(model, images, labels):
        logits = model(images)
        seen.append((images.shape, labels.shape, logits.shape))
        return (logits - F.one_hot(labels, 10)).square().mean()

    network, rows = train(hooks={"objective": objective}, epochs=2, phases=[{"side": 0.5, "epochs": 1.0}], dropout=0.0)
    assert seen == [((16, 3, 16, 16), (16,), (16, 10))] * 10
    assert rows[1]["train/loss"] < rows[0]["train/loss"]
    assert 0 <= rows[1]["train/accuracy"] <= 1
    assert not same(network, train(epochs=2, phases=[{"side": 0.5, "epochs": 1.0}], dropout=0.0)[0])


def test_a_mask_after_each_step_holds():
    model = VGG(PLAN)
    weight = model.convolutions[1].weight
    mask = torch.rand_like(weight) < 0.5
    told = []

    def apply_mask(model, progress):
        model.convolutions[1].weight.data *= mask
        told.append(progress)

    network, _ = train(model=model, hooks={"after_step": apply_mask}, optimizer="muon", ema_decay=0.0)
    assert told == [step / 15 for step in range(1, 16)]  # three epochs of five steps
    assert (network.convolutions[1].weight[~mask] == 0).all()
    assert (network.convolutions[1].weight[mask] != 0).float().mean() > 0.99


def test_runs_in_a_thread():
    found = []
    thread = Thread(target=lambda: found.append(train()))
    thread.start()
    thread.join()
    assert same(found[0][0], train()[0])


def test_two_threads_and_the_real_width_give_the_same_bits():
    """What the README claims: same params, machine, threads and versions give the same bytes."""
    first, second = (
        subprocess.run([sys.executable, "-m", "tests.wide_run"], capture_output=True, text=True, check=True, cwd=ROOT)
        for _ in range(2)
    )
    assert first.stdout == second.stdout
    assert len(first.stdout) == 65
