"""The networks that are written as .tflite files: a voice detector, a keyword spotter, an encoder of LSTMs.

The detector is Silero VAD behind its spectrum, with the published weights; the others have drawn weights.
States are explicit, every layer is one that tflite-micro has.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import nnaq
from nnaq.crossing import Lowering, import_options
from nnaq.frontends import ImportOptions
from nnaq.quantize.recipe import Recipe, load_recipe
from nnaq.tasks.recordings import find_recordings, read_audio

SPEECH = Path(__file__).parents[1] / "examples" / "speech"
RATE, WINDOW, HOP = 16000, 256, 128


@dataclass
class Network:
    """A module, what it is calibrated and judged on, and how its ports are meant."""

    module: nn.Module
    examples: tuple[Tensor, ...]
    calibration: list[dict[str, Tensor]]
    evaluation: list[dict[str, Tensor]]
    options: ImportOptions
    outputs: tuple[str, ...]

    def lowered(self, recipe: Recipe, target: str) -> Lowering:
        return nnaq.lower(
            self.module, self.examples, self.calibration, self.evaluation, recipe, target, self.options,
            self.outputs,
        )  # fmt: skip


class Detector(nn.Module):
    """Magnitudes [T,129,4] of four short frames to the probability of speech, per step of 32 ms."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        strides = (1, 2, 2, 1)
        self.encoder = nn.ModuleList()
        for k, stride in enumerate(strides):
            held = torch.tensor(weights[f"encoder.{k}.weight"])
            layer = nn.Conv1d(held.shape[1], held.shape[0], 3, stride, 1)
            layer.weight.data, layer.bias.data = held, torch.tensor(weights[f"encoder.{k}.bias"])
            self.encoder.append(layer)
        self.lstm = nn.LSTM(128, 128)
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0")
        for name, source in zip(names, ("onnx_LSTM_209", "onnx_LSTM_210", "onnx_LSTM_211"), strict=True):
            getattr(self.lstm, name).data = torch.tensor(weights[source])
        self.lstm.bias_hh_l0.data.zero_()
        self.score = nn.Linear(128, 1)
        self.score.weight.data = torch.tensor(weights["output.weight"][:, :, 0])
        self.score.bias.data = torch.tensor(weights["output.bias"])

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for layer in self.encoder:
            x = torch.relu(layer(x))
        y, (h, c) = self.lstm(x.transpose(1, 2).reshape(-1, 1, 128), (h, c))
        return torch.sigmoid(self.score(torch.relu(y))), h, c


class Spotter(nn.Module):
    """A separable convolution net over 49 frames of 10 coefficients, with 12 scores."""

    def __init__(self, channels: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, channels, (10, 4), 2, (5, 1)), nn.ReLU()]
        for _ in range(4):
            layers += [nn.Conv2d(channels, channels, 3, 1, 1, groups=channels), nn.ReLU()]
            layers += [nn.Conv2d(channels, channels, 1), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.AvgPool2d((25, 5)), nn.Flatten(), nn.Linear(channels, 12))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.body(x)
        return logits, torch.softmax(logits, -1)


class Encoder(nn.Module):
    """Two layers of LSTM and a projection: a small RNN-T encoder without normalisation."""

    def __init__(self, features: int = 40, units: int = 192, width: int = 64) -> None:
        super().__init__()
        self.first, self.second = nn.LSTM(features, units), nn.LSTM(units, units)
        self.join = nn.Linear(units, width)

    def forward(self, x: Tensor, h1: Tensor, c1: Tensor, h2: Tensor, c2: Tensor) -> tuple[Tensor, ...]:
        y, (h1, c1) = self.first(x, (h1, c1))
        y, (h2, c2) = self.second(y, (h2, c2))
        return torch.tanh(self.join(y)), h1, c1, h2, c2


def states_of(names: str) -> dict[str, str]:
    return {name: f"{name}_next" for name in names.split()}


def detector(model: Path, seed: int) -> Network:
    """Silero VAD behind its spectrum, on spoken words; it has no seed."""
    graph = nnaq.load(model, import_options(load_recipe("silero_vad"))).graph
    module = Detector(dict(graph.constants))
    sounds = [{"x": magnitudes(r.path)} for r in find_recordings(SPEECH / "calibrate")[:6]]
    judged = [{"x": magnitudes(r.path)} for r in find_recordings(SPEECH / "evaluate")[:2]]
    states = torch.zeros(1, 1, 128), torch.zeros(1, 1, 128)
    options = ImportOptions(time={"x": 0}, states=states_of("h c"))
    return Network(
        module, (torch.rand(2, 129, 4), *states), sounds, judged, options, ("p", "h_next", "c_next")
    )


def magnitudes(path: Path) -> Tensor:
    """[T,129,4]: the spectrum of windows of 16 ms, every 8 ms, four to a step of 32 ms."""
    audio = torch.tensor(np.asarray(read_audio(path, RATE), np.float32))
    spectrum = torch.stft(audio, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True).abs()
    steps = spectrum.shape[1] // 4
    return spectrum[:, : 4 * steps].reshape(129, steps, 4).transpose(0, 1).contiguous()


def spotter(model: Path, seed: int) -> Network:
    torch.manual_seed(seed)
    module = Spotter()
    drawn = [{"x": torch.randn(1, 1, 49, 10)} for _ in range(72)]
    return Network(module, (drawn[0]["x"],), drawn[:8], drawn[8:], ImportOptions(), ("logits", "scores"))


def encoder(model: Path, seed: int) -> Network:
    torch.manual_seed(seed)
    module = Encoder()
    drawn = [{"x": torch.randn(100, 1, 40)} for _ in range(3)]
    states = tuple(torch.zeros(1, 1, 192) for _ in range(4))
    options = ImportOptions(time={"x": 0}, states=states_of("h1 c1 h2 c2"))
    outputs = ("y", "h1_next", "c1_next", "h2_next", "c2_next")
    return Network(module, (torch.zeros(2, 1, 40), *states), drawn[:2], drawn[2:], options, outputs)


NETWORKS: dict[str, tuple[Callable[[Path, int], Network], Any]] = {
    "silero_encoder": (detector, (0,)),
    "keywords_ds_cnn": (spotter, (0, 1, 2)),
    "rnnt_encoder": (encoder, (0, 1, 2)),
}
