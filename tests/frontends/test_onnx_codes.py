"""Files that are quantised already keep their codes: the same int8 weights, the same scales."""

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from export.runtimes import RUNNER
from frontends.onnx_models import evaluate, model, normal
from onnx import helper, numpy_helper

from nnaq import pipeline
from nnaq.errors import FrontendError
from nnaq.frontends.onnx import load, load_model
from nnaq.frontends.ports import Imported, ImportOptions
from nnaq.interpret import run
from nnaq.ir.types import Quant, TensorType
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target

RNG = np.random.default_rng(3)
CODES = RNG.integers(-127, 128, (6, 4, 3)).astype(np.int8)
MATRIX = RNG.integers(-127, 128, (4, 6)).astype(np.int8)
HELD = {
    "s": np.float32(0.02),
    "z": np.uint8(131),
    "t": np.float32(0.05),
    "u": np.int8(-7),
    "o": np.float32(1 / 128),
    "zero": np.int8(0),
    "w": CODES,
    "ws": np.linspace(0.001, 0.004, 6).astype(np.float32),
    "m": MATRIX,
    "b": RNG.integers(-2000, 2000, 6).astype(np.int32),
    "bs": (np.float32(0.02) * np.linspace(0.001, 0.004, 6)).astype(np.float32),
    "ms": np.float32(0.003),
    "zero6": np.zeros(6, np.int8),
    "mu": (MATRIX.astype(np.int16) + 128).astype(np.uint8),
    "mz": np.uint8(128),
}


def built(text: str, opset: int = 19) -> onnx.ModelProto:
    words = set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())
    return model(text, {name: array for name, array in HELD.items() if name in words}, opset)


def integer_of(imported: Imported, inputs: dict[str, np.ndarray]):
    """The integer graph under the file's codes; the ranges are those of other inputs."""
    real = pipeline.simplify(imported.graph)
    wrong = {name: 100 * array for name, array in inputs.items()}
    options = pipeline.Options(load_target("edge8"), codes=imported.codes)
    return pipeline.cross(real, calibrate(real, [wrong]), options).integer


CONV = (
    "(float[1,4,12] x) => (float y) { a = QuantizeLinear(x, s, z) d = DequantizeLinear(a, s, z) "
    "k = DequantizeLinear<axis=0>(w, ws, zero6) c = DequantizeLinear<axis=0>(b, bs) "
    "v = Conv<pads=[1,1]>(d, k, c) r = Relu(v) q = QuantizeLinear(r, t, u) y = DequantizeLinear(q, t, u) }"
)


def test_scales_of_the_file_are_facts():
    imported = load_model(built(CONV), "tiny")
    assert [node.op for node in imported.graph.nodes if node.op != "reshape"] == ["conv1d", "relu"]
    assert imported.codes["x"] == TensorType("i8", (1, 4, 12), Quant((float(np.float32(0.02)),), 3))
    (weight,) = imported.codes.keys() & imported.graph.constants.keys()
    kind = imported.codes[weight]
    assert (kind.dtype, kind.quant.axis, kind.zero_point) == ("i8", 0, 0)
    assert "the file is quantised: codes of 1 weights and 2 values" in imported.notes


def test_a_quantised_file_stays_what_it_is():
    imported = load_model(built(CONV), "tiny")
    x = normal(1, 4, 12)
    integer = integer_of(imported, {"x": x})
    assert any(np.array_equal(array, CODES) for array in integer.constants.values())
    biases = [
        array for array in integer.constants.values() if array.dtype == np.int32 and array.shape == (6,)
    ]
    assert any(np.array_equal(array, HELD["b"]) for array in biases)
    found, expected = run(integer, {"x": x}).outputs["y"], evaluate(built(CONV), {"x": x})["y"]
    np.testing.assert_allclose(found, expected, atol=float(HELD["t"]) * 1.01)
    assert np.mean(found == expected) > 0.9


def test_a_matrix_keeps_its_codes_when_it_is_turned():
    text = (
        "(float[T,4] x) => (float y) { a = QuantizeLinear(x, s, z) d = DequantizeLinear(a, s, z) "
        "k = DequantizeLinear<axis=1>(m, ws, zero6) v = MatMul(d, k) "
        "q = QuantizeLinear(v, t, u) y = DequantizeLinear(q, t, u) }"
    )
    imported = load_model(built(text), "tiny")
    integer = integer_of(imported, {"x": normal(5, 4)})
    assert any(np.array_equal(array, MATRIX.T) for array in integer.constants.values())


def test_codes_of_uint8_are_moved_to_int8():
    text = (
        "(float[T,4] x) => (float y) { a = QuantizeLinear(x, s, z) d = DequantizeLinear(a, s, z) "
        "k = DequantizeLinear(mu, ms, mz) g = Transpose(k) h = Transpose(g) v = MatMul(d, h) "
        "q = QuantizeLinear(v, t, u) y = DequantizeLinear(q, t, u) }"
    )
    imported = load_model(built(text), "tiny")
    integer = integer_of(imported, {"x": normal(5, 4)})
    assert any(np.array_equal(array, MATRIX.T) for array in integer.constants.values())


def test_weights_that_the_file_quantises_itself():
    text = (
        "(float[T,4] x) => (float y) { a = QuantizeLinear(x, s, z) d = DequantizeLinear(a, s, z) "
        "e = QuantizeLinear(f, ms, zero) k = DequantizeLinear(e, ms, zero) y = MatMul(d, k) }"
    )
    given = built(text)
    held = (MATRIX * np.float32(0.003)).astype(np.float32)
    given.graph.initializer.append(numpy_helper.from_array(held, "f"))
    imported = load_model(given, "tiny")
    integer = integer_of(imported, {"x": normal(5, 4)})
    assert any(np.array_equal(array, MATRIX.T) for array in integer.constants.values())


QLINEAR = {
    "QLinearConv": (
        "q = QLinearConv<pads=[1,1]>(a, s, z, w, ws, zero6, t, u, b)",
        "d = DequantizeLinear(a, s, z) k = DequantizeLinear<axis=0>(w, ws, zero6) "
        "c = DequantizeLinear<axis=0>(b, bs) v = Conv<pads=[1,1]>(d, k, c) q = QuantizeLinear(v, t, u)",
    ),
    "QLinearMatMul": (
        "p = Transpose<perm=[0,2,1]>(a) q = QLinearMatMul(p, s, z, m, ms, zero, t, u)",
        "p = Transpose<perm=[0,2,1]>(a) d = DequantizeLinear(p, s, z) k = DequantizeLinear(m, ms, zero) "
        "v = MatMul(d, k) q = QuantizeLinear(v, t, u)",
    ),
}


@pytest.mark.parametrize("op", QLINEAR)
def test_operators_on_codes_are_real_ones_between_quantisers(op):
    given, spelled = (
        built(f"(float[1,4,12] x) => (int8 q) {{ a = QuantizeLinear(x, s, z) {text} }}")
        for text in QLINEAR[op]
    )
    imported = load_model(given, "tiny")
    x = normal(1, 4, 12)
    expected = evaluate(spelled, {"x": x})["q"].astype(np.float32)
    found = run(integer_of(imported, {"x": x}), {"x": x}).outputs["q"]
    codes = np.rint(found / HELD["t"]) + int(HELD["u"])
    assert codes.shape == expected.shape
    assert np.abs(codes - expected).max() <= 1
    assert np.mean(codes == expected) > 0.9


MICROSOFT = {
    "QLinearAdd": ("QLinearAdd(a, s, z, a, s, z, t, u)", lambda x: x + x),
    "QLinearMul": ("QLinearMul(a, s, z, a, s, z, t, u)", lambda x: x * x),
    "QLinearSigmoid": ("QLinearSigmoid(a, s, z, o, zero)", lambda x: 1 / (1 + np.exp(-x))),
    "QLinearLeakyRelu": ("QLinearLeakyRelu<alpha=0.1>(a, s, z, t, u)", lambda x: np.where(x < 0, x / 10, x)),
    "QLinearConcat": ("QLinearConcat<axis=0>(t, u, a, s, z, a, s, z)", lambda x: np.concatenate([x, x])),
    "QLinearSoftmax": ("QLinearSoftmax<axis=-1, opset=13>(a, s, z, o, zero)", None),
    "QGemm": ("QGemm(a, s, z, m, ws, zero6, b, t, u)", None),
}


@pytest.mark.parametrize("op", MICROSOFT)
def test_operators_on_codes_of_onnx_runtime(op):
    call, meaning = MICROSOFT[op]
    given = built(f"(float[3,4] x) => (int8 q) {{ a = QuantizeLinear(x, s, z) q = com.microsoft.{call} }}")
    given.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    imported = load_model(given, "tiny")
    assert imported.codes["x"].dtype == "i8"
    if meaning is not None:
        x = normal(3, 4)
        found = run(imported.graph, {"x": x}).outputs["q"]
        np.testing.assert_allclose(found, meaning(x), rtol=1e-5, atol=1e-6)


def test_a_dynamic_scale_is_left_to_the_calibration():
    text = (
        "(float[T,4] x) => (float y) { a, e, g = DynamicQuantizeLinear(x) k = MatMulInteger(a, m, g, zero) "
        "c = Cast<to=1>(k) h = Mul(e, ms) y = Mul(c, h) }"
    )
    imported = load_model(built(text), "tiny")
    assert "value x: its scale comes from the calibration" in imported.notes
    x = normal(5, 4)
    expected = x @ (MATRIX.astype(np.float32) * HELD["ms"])
    np.testing.assert_allclose(run(imported.graph, {"x": x}).outputs["y"], expected, rtol=1e-4, atol=1e-5)


def test_codes_may_move_between_their_quantisers():
    text = (
        "(float[1,4,12] x) => (float y) { a = QuantizeLinear(x, s, z) p = MaxPool<kernel_shape=[2]>(a) "
        "h = Transpose<perm=[0,2,1]>(p) y = DequantizeLinear(h, s, z) }"
    )
    imported = load_model(built(text), "tiny")
    x = normal(1, 4, 12)
    integer = integer_of(imported, {"x": x})
    expected = evaluate(built(text), {"x": x})["y"]
    np.testing.assert_allclose(run(integer, {"x": x}).outputs["y"], expected, rtol=1e-6)


def test_weights_with_a_scale_for_every_block_become_real_weights():
    text = (
        "(float[T,4] x) => (float y) "
        "{ k = DequantizeLinear<axis=0, block_size=2>(m, blocks) y = MatMul(x, k) }"
    )
    given = built(text, 21)
    scales = RNG.uniform(0.001, 0.01, (2, 6)).astype(np.float32)
    given.graph.initializer.append(numpy_helper.from_array(scales, "blocks"))
    imported = load_model(given, "tiny")
    assert not imported.codes
    x = normal(3, 4)
    expected = x @ (MATRIX * np.repeat(scales, 2, 0))
    np.testing.assert_allclose(run(imported.graph, {"x": x}).outputs["y"], expected, rtol=1e-4, atol=1e-5)


def test_codes_of_16_bits_around_another_point_are_calibrated():
    text = "(float[T,4] x) => (float y) { a = QuantizeLinear(x, s, far) y = DequantizeLinear(a, s, far) }"
    given = built(text, 21)
    given.graph.initializer.append(numpy_helper.from_array(np.uint16(100), "far"))
    imported = load_model(given, "tiny")
    assert not imported.codes
    assert any("no codes of nnaq are the file's uint16" in note for note in imported.notes)


def test_two_scales_of_one_value_are_told():
    text = (
        "(float[T,4] x) => (float y) { a = QuantizeLinear(x, s, z) d = DequantizeLinear(a, s, z) "
        "q = QuantizeLinear(d, t, u) y = DequantizeLinear(q, t, u) }"
    )
    notes = load_model(built(text), "tiny").notes
    assert any("the file gives it two code types" in note for note in notes)


def test_an_activation_with_a_scale_for_every_channel_is_refused():
    text = (
        "(float[1,6,4] x) => (float y) { a = QuantizeLinear<axis=1>(x, ws, zero6) "
        "y = DequantizeLinear<axis=1>(a, ws, zero6) }"
    )
    with pytest.raises(FrontendError, match="only weights may have several scales"):
        load_model(built(text), "tiny")


# --- a published file

FILE = "smart-turn-v3.2-cpu.onnx"
DEMO = Path(__file__).parents[2] / ".demo" / FILE


def smart_turn() -> Path:
    """A turn detector that its makers publish in int8; skips the test where there is none."""
    given = os.environ.get("NNAQ_SMART_TURN")
    path = Path(given) if given else DEMO
    if not given and not DEMO.is_file():
        try:
            package = metadata.distribution("pipecat-ai")
        except metadata.PackageNotFoundError:
            pytest.skip(
                f"{FILE} is not here: `pip download --no-deps pipecat-ai`, unzip the wheel and put the file "
                "into .demo, or set NNAQ_SMART_TURN to it"
            )
        path = Path(str(package.locate_file(f"pipecat/audio/turn/smart_turn/data/{FILE}")))
    if not path.is_file():
        pytest.skip(f"there is no {path}: `make demo` fetches it")
    return path


@pytest.fixture(scope="module")
def turn():
    """The file, its import and its integer graph."""
    path = smart_turn()
    imported = load(path, ImportOptions(shapes={"input_features": (1, 80, 800)}))
    features = np.clip(RNG.normal(0, 0.5, (1, 80, 800)), -1, 1.5).astype(np.float32)
    real = pipeline.simplify(imported.graph)
    options = pipeline.Options(load_target("edge8"), codes=imported.codes)
    crossing = pipeline.cross(real, calibrate(real, [{"input_features": features}]), options)
    return path, imported, crossing, features


def test_a_published_int8_file_stays_int8(turn):
    path, imported, crossing, _ = turn
    assert not crossing.islands
    held = (numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer)
    weights = [array for array in held if array.dtype == np.int8 and array.ndim > 1]
    made = [array for array in crossing.integer.constants.values() if array.dtype == np.int8]
    assert len(weights) == len(imported.codes.keys() & imported.graph.constants.keys()) == 31
    for weight in weights:
        assert any(np.array_equal(weight, a) or np.array_equal(weight.T, a) for a in made)


def test_a_published_int8_file_decides_the_same(turn, tmp_path):
    path, _, crossing, features = turn
    shutil.copy(path, tmp_path / "turn.onnx")
    np.savez(tmp_path / "turn.in.npz", input_features=features)
    subprocess.run([sys.executable, str(RUNNER), str(tmp_path)], check=True)
    found = run(crossing.integer, {"input_features": features}).outputs["logits"]
    with np.load(tmp_path / "turn.out.npz") as expected:
        np.testing.assert_allclose(found, expected["logits"], atol=0.05)
