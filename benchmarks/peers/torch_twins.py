"""Both models as plain torch modules, in the forms peers take; built from the exchange's weights.

`Silero`         frames [T, 576] -> probabilities [T], with nn.LSTM
`SileroStep`     frame [B, 576], h, c [B, 128] -> probability [B], h, c; the LSTM written out
`Core`, `CoreStep`   the same without their front end: magnitudes [T, 129, 4] instead of frames
`Voice`          mel [B, 160, 40] -> embedding [B, 256], with nn.LSTM
`VoiceStep`      mel [B, 40], h0, c0, h1, c1, h2, c2 [B, 256] -> embedding [B, 256], the six states
"""

import numpy as np
import torch
from exchange import LAYERS, Arrays, weights_of
from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTIONS = {"encoder.0": 1, "encoder.1": 2, "encoder.2": 2, "encoder.3": 1}  # stride by name


class Cell(nn.Module):
    """One LSTM layer as two linear layers and elementwise arithmetic; gates i, f, g, o."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 4 * hidden, bias=False)
        self.hidden = hidden

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = self.gates(self.input(x) + self.recurrent(h))
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def gates(self, joined: Tensor) -> tuple[Tensor, ...]:
        """The four gates, which lie side by side."""
        return torch.split(joined, self.hidden, dim=1)


class Spectrum(nn.Module):
    """Silero's front end: the magnitude of a spectrum by a convolution; [T, 576] -> [T, 129, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = nn.Conv1d(1, 258, 256, stride=128, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        spectrum = self.stft(F.pad(frames.unsqueeze(1), (0, 64), mode="reflect"))
        real, imaginary = spectrum[:, :129], spectrum[:, 129:]
        return torch.sqrt(real * real + imaginary * imaginary)


class Convolutions(nn.Module):
    """Silero's four convolutions; [T, 129, 4] -> [T, 128]."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (129, 128, 64, 64, 128)
        pairs = zip(sizes[:-1], sizes[1:], CONVOLUTIONS.values(), strict=True)
        self.layers = nn.ModuleList([nn.Conv1d(i, o, 3, stride=s, padding=1) for i, o, s in pairs])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x))
        return x.flatten(1)


class Core(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Convolutions()
        self.lstm = nn.LSTM(128, 128)
        self.output = nn.Conv1d(128, 1, 1)

    def forward(self, magnitude: Tensor) -> Tensor:
        y, _ = self.lstm(self.encoder(magnitude))
        return torch.sigmoid(self.output(F.relu(y).unsqueeze(2))).flatten()


class CoreStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Convolutions()
        self.cell = Cell(128, 128)
        self.output = nn.Conv1d(128, 1, 1)

    def forward(self, magnitude: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h, c = self.cell(self.encoder(magnitude), h, c)
        return torch.sigmoid(self.output(F.relu(h).unsqueeze(2))).flatten(), h, c


class Silero(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum = Spectrum()
        self.core = Core()

    def forward(self, frames: Tensor) -> Tensor:
        return self.core(self.spectrum(frames))


class SileroStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum = Spectrum()
        self.core = CoreStep()

    def forward(self, frame: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.core(self.spectrum(frame), h, c)


class Voice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mel: Tensor) -> Tensor:
        y, _ = self.lstm(mel)
        return normalised(F.relu(self.linear(y[:, -1])))


class VoiceStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([Cell(inputs, 256) for inputs in (40, 256, 256)])
        self.linear = nn.Linear(256, 256)

    def forward(
        self, x: Tensor, h0: Tensor, c0: Tensor, h1: Tensor, c1: Tensor, h2: Tensor, c2: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        h0, c0 = self.cells[0](x, h0, c0)
        h1, c1 = self.cells[1](h0, h1, c1)
        h2, c2 = self.cells[2](h1, h2, c2)
        return normalised(F.relu(self.linear(h2))), h0, c0, h1, c1, h2, c2


def normalised(x: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros (a state before any sound) stays zeros."""
    return x / torch.sqrt((x * x).sum(dim=1, keepdim=True) + 1e-12)


TWINS = {
    ("silero", "sequence"): Silero,
    ("silero", "step"): SileroStep,
    ("silero_core", "sequence"): Core,
    ("silero_core", "step"): CoreStep,
    ("voice", "sequence"): Voice,
    ("voice", "step"): VoiceStep,
}


def twin(model: str, form: str, data: Arrays) -> nn.Module:
    """A twin with the trained weights, ready to be called."""
    made = TWINS[model, form]().eval()
    held = {name: torch.tensor(array) for name, array in weights_of(data).items()}
    made.load_state_dict({parameter: held[name] for parameter, name in names(model, form).items()})
    return made


def names(model: str, form: str) -> dict[str, str]:
    """The weight of the exchange that each parameter of a twin holds."""
    core = "core." if model == "silero" else ""
    found = {"spectrum.stft.weight": "stft.weight"} if model == "silero" else {}
    parts = [("linear", "linear")] if model == "voice" else [(f"{core}output", "output")]
    if model != "voice":
        parts += [(f"{core}encoder.layers.{place}", layer) for place, layer in enumerate(CONVOLUTIONS)]
    found |= {f"{ours}.{part}": f"{theirs}.{part}" for ours, theirs in parts for part in ("weight", "bias")}
    for layer in range(LAYERS[model]):
        found |= {f"{core}{ours}": theirs for ours, theirs in lstm_names(model, form, layer).items()}
    return found


def lstm_names(model: str, form: str, layer: int) -> dict[str, str]:
    """The same for one layer of the LSTM."""
    held = f"lstm.{layer}"
    if form == "step":
        cell = f"cells.{layer}" if model == "voice" else "cell"
        pairs = {"input.weight": "input", "input.bias": "bias", "recurrent.weight": "recurrent"}
        return {f"{cell}.{ours}": f"{held}.{theirs}" for ours, theirs in pairs.items()}
    pairs = {"weight_ih": "input", "weight_hh": "recurrent", "bias_ih": "bias", "bias_hh": "no_bias"}
    return {f"lstm.{ours}_l{layer}": f"{held}.{theirs}" for ours, theirs in pairs.items()}


def callable_of(module: nn.Module):
    """A torch module as a function of arrays that gives a tuple of arrays."""

    @torch.no_grad()
    def call(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        results = module(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))
        results = results if isinstance(results, (tuple, list)) else (results,)
        return tuple(r.detach().numpy() for r in results)

    return call
