"""Fine-tune a small speech-shaped model through its own integers, and check that three executions agree.

A Conv1d, an LSTM with explicit states and a Linear learn to follow the smoothed loudness of noise
in three bands. The float model is trained first; its integers (4-bit weights, 8-bit activations)
lose accuracy; training through the integer kernels wins some of it back. At the end the module, the
interpreter and the exported ONNX file (run by onnx.reference) must give the very same integers.

    python examples/train_through_integers.py
"""

import time
from dataclasses import dataclass

import numpy as np
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

import nnaq
from nnaq import pipeline
from nnaq.export.onnx import export_model
from nnaq.quantize.calibrate import calibrate

FRAMES = 32
OPTIONS = nnaq.ImportOptions(time={"x": 2, "y": 0}, states={"h": "h_next", "c": "c_next"})


class Speech(nn.Module):
    """x [1,4,T] -> y [T,1,3], and the states of the LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lstm, self.fc = nn.Conv1d(4, 16, 3, padding=1), nn.LSTM(16, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        frames = torch.relu(self.conv(x)).permute(2, 0, 1)
        hidden, (h, c) = self.lstm(frames, (h, c))
        return torch.sigmoid(self.fc(hidden)), h, c


def example(seed: int) -> tuple[Tensor, Tensor]:
    """Noise that swells and fades, and the smoothed loudness of three sums of its channels."""
    random = np.random.default_rng(seed)
    swell = 0.5 + 0.5 * np.sin(np.arange(FRAMES) * random.uniform(0.1, 0.4) + random.uniform(0, 6))
    x = (random.normal(size=(4, FRAMES)) * swell).astype(np.float32)
    loud, y = np.abs(x[:3] + x[1:]), np.zeros((FRAMES, 1, 3), np.float32)
    for t in range(FRAMES):
        y[t, 0] = 0.7 * y[t - 1, 0] + 0.3 * np.tanh(loud[:, t])
    return torch.tensor(x[None]), torch.tensor(y)


@dataclass
class Losses:
    """Mean squared errors on held-out examples, and seconds per step of training through integers."""

    real: float
    integer: float
    tuned: float
    step_seconds: float


def experiment(seed: int, real_steps: int = 800, integer_steps: int = 150) -> Losses:
    """Train in float, lower, train through the integers; assert that all executions agree."""
    torch.manual_seed(seed)
    module, zeros = Speech(), torch.zeros(1, 1, 12)
    for rate in (1e-2, 2e-3):
        train(module.parameters(), lambda x: module(x, zeros, zeros)[0], rate, real_steps)
    real = loss_of(lambda x: module(x, zeros, zeros)[0])

    inputs = (torch.randn(1, 4, FRAMES), zeros, zeros)
    graph = nnaq.load_module(module, inputs, OPTIONS, outputs=("y", "h_next", "c_next")).graph
    simple = pipeline.simplify(graph)
    ranges = calibrate(simple, [{"x": example(i)[0].numpy()} for i in range(20)])
    crossing = pipeline.cross(simple, ranges, pipeline.Options(nnaq.load_target("edge8"), weight_bits=4))

    emulated = nnaq.Emulated(crossing)
    integer = loss_of(lambda x: emulated({"x": x})[0]["y"])
    start = time.perf_counter()
    train(emulated.parameters(), lambda x: emulated({"x": x})[0]["y"], 1e-3, integer_steps)
    step_seconds = (time.perf_counter() - start) / integer_steps
    assert_three_executions_agree(emulated)
    return Losses(real, integer, loss_of(lambda x: emulated({"x": x})[0]["y"]), step_seconds)


def train(parameters, model, rate: float, steps: int) -> None:
    """A plain loop: one example a step."""
    optimiser = torch.optim.Adam(parameters, rate)
    for step in range(steps):
        x, y = example(step)
        loss = nn.functional.mse_loss(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def loss_of(model) -> float:
    """The mean loss over 20 examples that no training step sees."""
    with torch.no_grad():
        pairs = (example(10_000 + i) for i in range(20))
        return float(np.mean([nn.functional.mse_loss(model(x), y).item() for x, y in pairs]))


def assert_three_executions_agree(emulated: nnaq.Emulated) -> None:
    """Module, interpreter and exported file: the same float32 outputs, bit for bit."""
    x, integer = example(77)[0], emulated.convert()
    trained = emulated({"x": x})[0]["y"].detach().numpy()
    interpreted = nnaq.run(integer, {"x": x.numpy()}).outputs["y"]
    states = {state.input: integer.constants[state.initial] for state in integer.states}
    (file,) = ReferenceEvaluator(export_model(integer)).run(["y"], {"x": x.numpy(), **states})
    assert np.array_equal(trained, interpreted)
    assert np.array_equal(trained, file)


def main() -> None:
    torch.set_num_threads(1)
    print("seed   float     integer   fine-tuned through integers   ms a step")
    for seed in range(3):
        found = experiment(seed)
        print(
            f"{seed:4d}   {found.real:.5f}   {found.integer:.5f}   {found.tuned:.5f}"
            f"{1e3 * found.step_seconds:31.1f}"
        )


if __name__ == "__main__":
    main()
