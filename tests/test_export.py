"""What the ONNX files hold, and that ONNX Runtime makes of them what PyTorch does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from networks import plan, trained

from src.core.errors import UserError
from src.export.onnx import Calibration, export, nonzero_parameters
from src.export.runtime import feeds, logits, session
from src.export.weights import codebook, histogram, layer_weights
from src.network.inference import predict, to_unit
from src.network.vgg import Conv, Hidden, Plan, load, save
from stages import export as stage

ROOT = Path(__file__).parent.parent
PLANS = {
    "compact": plan(8, "pool", 16, "pool", head=(12,)),
    "imagenet": plan(8, "pool", 16, "pool", head=(12,), pooled_side=7),
    "truncated": plan(8, "pool", 16, "pool"),
    "folded": plan(8, "pool", 16, batch_norm=False),
    "odd": plan(8, "pool", 16, "pool", padding=0),  # the second pool rounds 13 up to 7
    "factorized": Plan(
        features=(
            Conv(name="conv.in", channels=4, kernel=1, padding=0, batch_norm=False, relu=False),
            Conv(name="conv.core", channels=6, batch_norm=False, relu=False),
            Conv(name="conv", channels=8, kernel=1, padding=0),
        ),
        head=(Hidden(name="hidden.in", width=5, relu=False), Hidden(name="hidden", width=12)),
    ),
}
EXPORT = """
import sys
from pathlib import Path
from src.export.onnx import export
from src.network.vgg import load
export(load(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (300, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=PLANS)
def exported(request, tmp_path_factory):
    torch.manual_seed(0)
    network = trained(PLANS[request.param])
    path = tmp_path_factory.mktemp("export") / "new" / "network.onnx"
    export(network, path)
    return network, path


@pytest.fixture(scope="module")
def quantized(tmp_path_factory, images):
    torch.manual_seed(0)
    network = trained(PLANS["folded"])
    path = tmp_path_factory.mktemp("int8") / "network.onnx"
    export(network, path, calibration=Calibration(images.numpy(), "minmax"))
    return network, path


def unit(images):
    return images.numpy().astype(np.float32) / 255


def test_onnx_runtime_equals_pytorch_at_any_batch_size(exported, images):
    network, path = exported
    for count in (1, 5):
        batch = unit(images[:count])
        given = session(path, threads=1).run(["logits"], {"images": batch})[0]
        with torch.no_grad():
            expected = network(torch.from_numpy(batch)).numpy()
        assert given.shape == (count, 10)
        np.testing.assert_allclose(given, expected, atol=1e-4, rtol=0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_graph_gives_the_logits_of_the_one_that_pytorch_writes(exported, images, tmp_path):
    network, path = exported
    names = {"input_names": ["images"], "output_names": ["logits"]}
    dynamic = {"images": {0: "N"}, "logits": {0: "N"}}
    other = tmp_path / "other.onnx"
    batch = torch.zeros(2, 3, 32, 32)
    torch.onnx.export(network, (batch,), other, dynamic_axes=dynamic, dynamo=False, **names)  # needs no onnxscript
    ours, theirs = (logits(file, images.numpy()) for file in (path, other))
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), rtol=0)


def test_interface_and_tensors_of_the_file(exported):
    network, path = exported
    model = onnx.load(path)
    (given,), (result,) = session(path).get_inputs(), session(path).get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(float)", ["N", 3, 32, 32])
    assert (result.name, result.type, result.shape) == ("logits", "tensor(float)", ["N", 10])
    learned = {name for name, _ in network.named_parameters()}
    assert learned <= {tensor.name for tensor in model.graph.initializer}
    assert [path.name for path in path.parent.iterdir()] == ["network.onnx"]
    assert model.ir_version <= 10  # what ONNX Runtime 1.18 reads
    onnx.checker.check_model(model, full_check=True)


def test_file_tells_nothing_of_where_it_was_made(exported):
    content = exported[1].read_bytes()
    home = str(Path.home())
    for trace in (
        str(ROOT),
        home if len(home) > 4 else "site-packages",
        "site-packages",
        ".py",
        "stack_trace",
        "pkg.torch",
        "src.network.vgg",
    ):
        assert trace.encode() not in content


def test_same_bytes_from_another_folder_and_process(tmp_path):
    stored = tmp_path / "network.safetensors"
    save(trained(PLANS["truncated"]), stored, {})
    export(load(stored), tmp_path / "here.onnx")
    elsewhere = tmp_path / "some" / "where"
    elsewhere.mkdir(parents=True)
    there = elsewhere / "there.onnx"
    command = [sys.executable, "-c", EXPORT, str(stored), str(there)]
    subprocess.run(command, cwd=elsewhere, env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}, check=True)
    assert there.read_bytes() == (tmp_path / "here.onnx").read_bytes()


def test_logits_over_several_batches(exported, images):
    network, path = exported
    expected = predict(network, images[:260], batch_size=7).numpy()
    given = logits(path, images[:260].numpy())
    np.testing.assert_allclose(given, expected, atol=1e-4, rtol=0)
    assert np.abs(given - given[::-1]).mean() > 1e-3  # another order would be noticed


def test_feeds_are_what_pytorch_sees(images):
    batches = [feed["images"] for feed in feeds(images.numpy())]
    assert [len(batch) for batch in batches] == [250, 50]
    assert torch.equal(torch.from_numpy(np.concatenate(batches)), to_unit(images))


def test_half_file_holds_float16_weights_and_gives_the_same_logits(tmp_path, images):
    stored = tmp_path / "network.safetensors"
    save(trained(PLANS["compact"]), stored, {}, half=True)
    network = load(stored)  # its weights are float16 numbers
    export(network, tmp_path / "dense.onnx")
    export(network, tmp_path / "half.onnx", half=True)
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "half.onnx").graph.initializer}
    for name, tensor in network.named_parameters():
        assert tensors[name].dtype == (np.float16 if tensor.dim() > 1 else np.float32)
        assert np.array_equal(tensors[name].astype(np.float32), tensor.detach().numpy())
    halved = {name for name, values in tensors.items() if values.dtype == np.float16}
    assert halved == {name for name, tensor in network.named_parameters() if tensor.dim() > 1}  # no mean, no std
    dense, half = (logits(tmp_path / f"{name}.onnx", images.numpy()) for name in ("dense", "half"))
    np.testing.assert_allclose(half, dense, atol=1e-3, rtol=0)
    assert nonzero_parameters(network, tmp_path / "half.onnx") == nonzero_parameters(network, tmp_path / "dense.onnx")
    onnx.checker.check_model(tmp_path / "half.onnx", full_check=True)


def test_a_file_without_one_of_the_parameters_is_refused(exported):
    other = trained(plan(8, "pool", 16, "pool", 4, head=(12, 12)))
    with pytest.raises(ValueError, match="holds no parameter"):
        nonzero_parameters(other, exported[1])


def test_int8_runs_integer_kernels_and_stays_close(quantized, images, tmp_path):
    network, path = quantized
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kernels = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert (kernels.count("QLinearConv"), kernels.count("QGemm")) == (2, 1)
    assert not {"Conv", "Relu", "Gemm"} & set(kernels)
    expected = predict(network, images).numpy()
    assert np.abs(logits(path, images.numpy()) - expected).max() < 0.1 * np.abs(expected).max()  # 0.05 with VNNI


def test_int8_products_do_not_overflow_on_any_processor(images):
    """Without fusions ONNX Runtime computes in float32. Sums in int16 are 80 times farther from that (AVX2)."""
    path = ROOT / "released/flagship.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    exact = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (expected,) = exact.run(None, next(feeds(images.numpy())))
    assert np.abs(logits(path, images.numpy())[: len(expected)] - expected).mean() < 0.01 * np.abs(expected).mean()


def test_int8_weights_are_per_channel_and_normalization_is_float(quantized):
    model = onnx.load(quantized[1])
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert tensors["features.0.weight_quantized"].dtype == np.int8
    assert tensors["features.0.weight_scale"].shape == (8,)
    nodes = {node.op_type: node for node in model.graph.node}
    assert nodes["Sub"].input[0] == "images"
    assert nodes["Div"].input[0] == nodes["Sub"].output[0]


def test_int8_file_has_the_same_bytes_every_time_and_is_made_in_silence(quantized, images, tmp_path, capfd):
    network, path = quantized
    export(network, tmp_path / "again.onnx", calibration=Calibration(images.numpy(), "minmax"))
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()
    assert [made.name for made in tmp_path.iterdir()] == ["again.onnx"]
    assert capfd.readouterr() == ("", "")


def test_packed_bytes_are_those_of_the_gzip_program_and_fewer_with_zeros(tmp_path):
    network, file, packed = trained(plan(64, 64)), tmp_path / "network.onnx", []
    for _ in range(2):
        export(network, file)
        packed.append(stage._cost(network, file)["packed_bytes"])
        program = subprocess.run(["gzip", "-6", "--no-name", "--stdout", file], capture_output=True, check=True)
        assert packed[-1] == pytest.approx(len(program.stdout), rel=0.01)
        with torch.no_grad():
            network.convolutions[1].weight[:32] = 0
    assert packed[1] < 0.6 * packed[0]


def learned_and_not_zero(network):
    return sum(int((tensor != 0).sum()) for tensor in network.parameters())


def test_nonzero_parameters_of_a_float_file_are_those_of_the_network(exported):
    assert nonzero_parameters(*exported) == learned_and_not_zero(exported[0])


def test_nonzero_parameters_of_an_int8_file_lack_what_was_rounded_to_zero(quantized):
    network, path = quantized
    rounded_away = 0
    for name, tensor in network.named_parameters():
        if name.endswith("weight"):
            rows = tensor.abs().flatten(1)
            step = rows.amax(1, keepdim=True) / 127
            rounded_away += int((rows < step / 2).sum())
    assert rounded_away > 0
    assert nonzero_parameters(network, path) == learned_and_not_zero(network) - rounded_away


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_other_ways_of_calibration_stay_close_too(method, quantized, images, tmp_path):
    export(quantized[0], tmp_path / "network.onnx", calibration=Calibration(images.numpy(), method))
    expected = predict(quantized[0], images).numpy()
    given = logits(tmp_path / "network.onnx", images.numpy())
    assert np.abs(given - expected).mean() < 0.05 * np.abs(expected).max()
    differences, own = expected - expected.mean(0), given - given.mean(0)  # from the mean image
    assert np.corrcoef(differences.ravel(), own.ravel())[0, 1] > 0.5


def test_weights_are_those_of_filters_and_matrices_by_layer():
    network = trained(PLANS["compact"])
    found = layer_weights(network)
    assert list(found) == ["conv0", "conv2", "hidden0", "last"]
    for layer, entries in zip([*network.convolutions, *network.linear_layers], found.values(), strict=True):
        assert np.array_equal(entries, layer.weight.detach().numpy().ravel())


def test_histogram_of_five_values_worked_out_by_hand():
    """Bins are 0.004 wide, around multiples of 0.004; what lies beyond 0.2 is in the bin of 0.2."""
    rows = histogram({"one": np.array([0, -0.0009, 0.0431], np.float32), "two": np.array([0.7, -0.195], np.float32)})
    values = [round(row["value"], 6) for row in rows]
    assert (len(values), values[0], values[-1]) == (101, -0.2, 0.2)
    filled = [(value, row["count"], row["zeros"]) for value, row in zip(values, rows, strict=True) if row["count"]]
    assert filled == [(-0.196, 1, 0), (0, 2, 1), (0.044, 1, 0), (0.2, 1, 0)]
    assert sum(row["zeros"] for row in rows) == 1


def test_histogram_counts_each_weight_once():
    drawn = np.random.default_rng(0).normal(0, 0.1, 5000).astype(np.float32)
    rows = histogram({"one": drawn[:2000], "two": drawn[2000:]})
    expected = np.bincount(np.clip(np.floor(drawn.astype(float) / 0.004 + 50.5), 0, 100).astype(int), minlength=101)
    assert [row["count"] for row in rows] == expected.tolist()


def test_codebook_has_the_values_of_each_layer_and_is_empty_where_a_layer_has_many():
    few = np.array([0.5, 0, 0, -1, 0.5, 0], np.float32)
    assert codebook({"one": few, "two": few[:1]}) == [
        {"layer": "one", "value": -1, "count": 1},
        {"layer": "one", "value": 0, "count": 3},
        {"layer": "one", "value": 0.5, "count": 2},
        {"layer": "two", "value": 0.5, "count": 1},
    ]
    many = np.arange(257, dtype=np.float32)
    assert len(codebook({"one": many[:256]})) == 256
    assert codebook({"one": few, "two": many}) == []


def test_weights_in_the_record_are_those_of_the_stored_network_before_folding():
    network = trained(PLANS["compact"])
    found = stage._weights(network)
    entries = np.concatenate(
        [layer.weight.detach().flatten() for layer in [*network.convolutions, *network.linear_layers]]
    )
    small = np.abs(entries) < 0.002  # the bin in the middle
    assert found["weights"][50]["count"] == small.sum() > 0
    assert found["codebook"] == []  # the second layer has more than 256 weights, all different


def test_session_refuses_what_is_no_onnx_file(tmp_path):
    with pytest.raises(UserError, match=r"missing\.onnx: not readable"):
        session(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(UserError, match=r"text\.onnx: not readable"):
        session(tmp_path / "text.onnx")
