"""Train what you ship: the training forward, the interpreter and the exported file are one arithmetic."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from frontends.torch_modules import Speech
from onnx.reference import ReferenceEvaluator
from torch import nn
from train.crossings import crossing, inputs

from nnaq import pipeline
from nnaq.codebooks.choice import PaletteChoice
from nnaq.errors import DataError
from nnaq.export.onnx import export_model
from nnaq.frontends.torch import load as load_module
from nnaq.interpret import Interpreter, run
from nnaq.ir.text import parse_graph
from nnaq.ir.types import parse_type
from nnaq.kernels.boundary import dequantize_array
from nnaq.quantize.calibrate import calibrate
from nnaq.targets import load_target
from nnaq.train.codes import ends_of
from nnaq.train.emulate import Emulated, weights_and_biases

pytestmark = pytest.mark.usefixtures("one_thread")


def tensors(arrays):
    return {name: torch.tensor(array) for name, array in arrays.items()}


def assert_one_arithmetic(emulated):
    """Outputs and next states of all three executions, bit for bit."""
    integer, arrays = emulated.convert(), inputs()
    outputs, states = emulated(tensors(arrays))
    interpreted = run(integer, arrays)
    first = {state.input: integer.constants[state.initial] for state in integer.states}
    names = ["y", *(state.output for state in integer.states)]
    file = dict(
        zip(names, ReferenceEvaluator(export_model(integer)).run(names, {**arrays, **first}), strict=True)
    )
    assert np.array_equal(outputs["y"].detach().numpy(), interpreted.outputs["y"])
    assert np.array_equal(interpreted.outputs["y"], file["y"])
    for state in integer.states:
        reals = dequantize_array(interpreted.states[state.name], integer.types[state.output])
        assert np.array_equal(states[state.name].detach().numpy(), reals)
        assert np.array_equal(interpreted.states[state.name], file[state.output])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activations": "i16"},
        {"weight_bits": 4},
        {"palettes": {"fc.weight": PaletteChoice(4), "lstm.weight_hh_l0": PaletteChoice(3, "per_gate")}},
    ],
    ids=["i8", "i16", "4-bit weights", "palettes"],
)
def test_before_and_after_training_all_executions_are_equal(options):
    emulated = Emulated(crossing(**options))
    before = emulated.convert()
    assert_one_arithmetic(emulated)
    optimiser = torch.optim.Adam(emulated.parameters(), 1e-2)
    target = torch.rand(24, 1, 3, generator=torch.Generator().manual_seed(0))
    losses = []
    for _ in range(4):
        loss = torch.nn.functional.mse_loss(emulated(tensors(inputs()))[0]["y"], target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert emulated.convert() != before
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in emulated.parameters())
    assert_one_arithmetic(emulated)


def test_parameters_have_the_modules_own_names_and_load_back():
    emulated = Emulated(crossing())
    assert "lstm.weight_ih_l0" in dict(emulated.named_parameters())
    other = Emulated(crossing(weight_bits=8))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    emulated.load_state_dict(other.state_dict())
    assert emulated.convert() == other.convert()


def test_states_handed_on_continue_the_stream_bit_for_bit():
    emulated, arrays = Emulated(crossing()), inputs(frames=12)
    stream = Interpreter(emulated.convert())
    states = None
    for start in (0, 5, 10):
        piece = {"x": arrays["x"][:, :, start : start + 5]}
        outputs, states = emulated(tensors(piece), states)
        states = {name: state.detach() for name, state in states.items()}
        assert np.array_equal(outputs["y"].detach().numpy(), stream.step(piece).outputs["y"])


def test_the_gradient_is_that_of_the_real_graph_up_to_rounding():
    """With 16-bit activations the integers are so fine that both gradients point the same way."""
    emulated = Emulated(crossing("i16"))
    emulated(tensors(inputs()))[0]["y"].square().sum().backward()
    through = {name: p.grad for name, p in emulated.named_parameters()}
    module = Speech(0)
    zeros = torch.zeros(1, 1, 6)
    module(torch.tensor(inputs()["x"]), zeros, zeros)[0].square().sum().backward()
    plain = {name.replace("bias_ih", "bias"): p.grad for name, p in module.named_parameters()}
    for name, gradient in through.items():
        cosine = torch.nn.functional.cosine_similarity(gradient.flatten(), plain[name].flatten(), 0)
        assert cosine > 0.999, name


LINE = """
graph line {
  input x: f32[6]
  constant slope: f32[1]
  y: f32[6] = mul(x, slope)
  output y
}
"""


def test_what_saturates_gets_no_gradient():
    """x in [-1, 1] and slope 2 calibrated; beyond them the input clips, with a steeper slope the result."""
    graph = parse_graph(LINE, {"slope": np.array([2.0], np.float32)})
    ranges = calibrate(graph, [{"x": np.linspace(-1, 1, 6, dtype=np.float32)}])
    emulated = Emulated(pipeline.cross(graph, ranges, pipeline.Options(load_target("edge8"))), ["slope"])
    x = torch.tensor([-3.0, -0.4, 0.0, 0.3, 0.9, 1.5], requires_grad=True)
    emulated({"x": x})[0]["y"].sum().backward()
    assert (x.grad != 0).tolist() == [False, True, True, True, True, False]
    x.grad = None
    with torch.no_grad():
        emulated.slope.mul_(2)
    emulated({"x": x})[0]["y"].sum().backward()
    assert (x.grad != 0).tolist() == [False, True, True, True, False, False]


def test_a_result_is_saturated_from_half_a_step_beyond_the_last_code():
    kind = parse_type("i8[4]<0.5, 3>")
    reals = torch.tensor([61.9, 62.1, 62.3, -66.0])  # 127 stands for 62.0, -128 for -65.5
    codes = torch.tensor([127, 127, 127, -128], dtype=torch.int8)
    assert ends_of(codes, kind).clipped(lambda: reals).tolist() == [2, 3]


class Wide(nn.Module):
    """Every kind of operator at once: pooling, two LSTM layers, tables, products, sums, movement."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.lstm, self.fc = nn.LSTM(16, 5, 2, batch_first=True), nn.Linear(10, 4)
        self.gain = nn.Parameter(torch.randn(4))

    def forward(self, x):
        y = nn.functional.max_pool2d(torch.relu(self.norm(self.conv(x))), (1, 2))
        y, _ = self.lstm(y.permute(0, 2, 1, 3).flatten(2))
        y = self.fc(torch.cat([y, y.tanh() * y - 0.1], -1))
        z = y.exp() * self.gain + y[..., :4]
        return nn.functional.avg_pool1d(z @ z.transpose(1, 2), 3, 1), z


@pytest.mark.parametrize("excluded", [(), ("matmul", "lstm")], ids=["all integer", "islands"])
@pytest.mark.parametrize("activations", ["i8", "i16"])
def test_every_kind_of_operator_trains(activations, excluded):
    graph = load_module(Wide().eval(), [torch.randn(1, 1, 8, 8)], outputs=["a", "b"]).graph
    random = np.random.default_rng(0)
    recordings = [{"x": random.normal(size=(1, 1, 8, 8)).astype(np.float32)} for _ in range(8)]
    real = pipeline.simplify(graph)
    target = replace(load_target("edge8"), exclude=frozenset(excluded))
    options = pipeline.Options(target, activations)
    crossing = pipeline.cross(real, calibrate(real, recordings), options)
    assert len(crossing.islands) == (3 if excluded else 0)
    emulated = Emulated(crossing, [*weights_and_biases(real), "gain"])
    optimiser = torch.optim.Adam(emulated.parameters(), 1e-3)
    for _ in range(3):
        outputs, _ = emulated(tensors(recordings[0]))
        found = run(emulated.convert(), recordings[0]).outputs
        for name in ("a", "b"):
            assert np.array_equal(outputs[name].detach().numpy(), found[name])
        optimiser.zero_grad()
        sum(output.square().mean() for output in outputs.values()).backward()
        optimiser.step()
    assert all(parameter.grad.abs().max() > 0 for parameter in emulated.parameters())


def test_a_constant_that_is_not_trained_stays():
    made = crossing()
    emulated = Emulated(made, ["fc.weight"])
    emulated(tensors(inputs()))[0]["y"].sum().backward()
    assert [name for name, _ in emulated.named_parameters()] == ["fc.weight"]
    with torch.no_grad():
        emulated.fc.weight.mul_(0.5)
    assert np.array_equal(emulated.convert().constants["conv.weight"], made.integer.constants["conv.weight"])
    assert emulated.convert() != made.integer
    with pytest.raises(DataError, match=r"no constant 'fc\.wait' to train"):
        Emulated(made, ["fc.wait"])


CROWD = """
graph crowd {
  input x: f32[6]
  constant w: f32[1]
  constant w.1: f32[1]
  constant train: f32[1]
  a: f32[6] = mul(x, w)
  b: f32[6] = mul(a, w.1)
  y: f32[6] = add(b, train)
  output y
}
"""


def test_names_that_a_module_cannot_have_are_changed_and_known():
    values = {name: np.array([1.5], np.float32) for name in ("w", "w.1", "train")}
    graph = parse_graph(CROWD, values)
    ranges = calibrate(graph, [{"x": np.linspace(-1, 1, 6, dtype=np.float32)}])
    made = pipeline.cross(graph, ranges, pipeline.Options(load_target("edge8")))
    for names in (["w", "w.1", "train"], ["w.1", "train", "w"]):
        emulated = Emulated(made, names)
        assert set(emulated.names.values()) == emulated.trained().keys() == set(names)
        emulated({"x": torch.linspace(-1, 1, 6)})[0]["y"].sum().backward()
        assert all(parameter.grad is not None for parameter in emulated.parameters())
        again = Emulated(made, names)
        again.load_state_dict({name: value * 0.5 for name, value in emulated.state_dict().items()})
        assert all(parameter.tolist() == [0.75] for parameter in again.trained().values())
    assert dict(Emulated(made, ["w", "w.1"]).names) == {"w": "w", "w_1": "w.1"}
