"""What `training_step.py` races: modules of torch, their twins, and torch's own fake quantisation."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from encoder_races import WIDTH, Block
from torch import Tensor, nn

import nnaq
from nnaq.models.spoken_words import SpokenWords
from nnaq.quantize.recipe import parse_recipe
from nnaq.train.twin import Twin

UNITS, WIDE = 640, 2560
STEP_8, STEP_16 = 2.0**-5, 2.0**-12
TABLES = '[[overrides]]\nregex = ".*"\npalette = { bits = 4 }\n'
INTEGERS = "through the integer kernels, int8 weights"


def eight(x: Tensor) -> Tensor:
    """torch's own fake quantisation in the quickest form it has: a fixed scale per tensor."""
    return torch.fake_quantize_per_tensor_affine(x, STEP_8, 0, -128, 127)


def sixteen(x: Tensor) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, STEP_16, 0, -(2**15), 2**15 - 1)


class Dense(nn.Linear):
    """A layer of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class FakeDense(nn.Linear):
    """Input, weight and result rounded to 8 bits."""

    def forward(self, x: Tensor) -> Tensor:
        return eight(nn.functional.linear(eight(x), eight(self.weight), self.bias))


class Recurrent(nn.LSTM):
    """Layers of LSTM that begin with zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


class FakeRecurrent(nn.LSTM):
    """A loop over time, as rounding inside a layer asks for: gates, cell and state in every step."""

    def forward(self, x: Tensor) -> Tensor:
        recurrent, bias = eight(self.weight_hh_l0).T, self.bias_ih_l0 + self.bias_hh_l0
        inputs = eight(x) @ eight(self.weight_ih_l0).T + bias
        h = c = x.new_zeros(x.shape[1], self.hidden_size)
        ys = []
        for frame in inputs:
            i, f, g, o = sixteen(frame + h @ recurrent).chunk(4, -1)
            c = sixteen(torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g))
            h = eight(torch.sigmoid(o) * torch.tanh(c))
            ys.append(h)
        return torch.stack(ys)


@dataclass(frozen=True)
class Model:
    """Something that trains. axes: its axes with the open ones by name, `T` among them.

    ways: recipes of its twins, by what they do. target: the ratio to reach against the float step; fake:
    the same in torch's own fake quantisation, against which `fake_target` is to be reached.
    """

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    axes: tuple[int | str, ...]
    target: float | None = None
    fake: Callable[[], nn.Module] | None = None
    fake_target: float = 1 / 0.7
    ways: dict[str, str] = field(default_factory=lambda: {INTEGERS: ""})

    def x(self) -> Tensor:
        """Inputs with a gradient: the model stands inside another."""
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def module(self) -> nn.Module:
        """The same weights every time."""
        torch.manual_seed(0)
        return self.make()

    def twin(self, recipe: str) -> Twin:
        """The twin under a recipe."""
        options = nnaq.ImportOptions(time={"x": self.axes.index("T")}, shapes={"x": self.axes})
        asked = parse_recipe(f'name = "step"\n[quantize]\nactivations = "8"\n{recipe}')
        return nnaq.prepare(self.module(), self.x().detach(), asked, "edge8-sub8", options=options)


MODELS = (
    Model(
        "Linear 640 -> 2560, 32 x 100 rows",
        lambda: Dense(UNITS, WIDE),
        (3200, UNITS),
        ("T", UNITS),
        target=1 / 0.95,
        fake=lambda: FakeDense(UNITS, WIDE),
    ),
    Model(
        "LSTM of 640 units, 100 frames, batch 32",
        lambda: Recurrent(UNITS, UNITS),
        (100, 32, UNITS),
        ("T", "N", UNITS),
        target=1 / 0.95,
        fake=lambda: FakeRecurrent(UNITS, UNITS),
    ),
    Model(
        "encoder of 3 LSTM layers of 640 units, 100 frames, batch 8",
        lambda: Recurrent(80, UNITS, 3),
        (100, 8, 80),
        ("T", "N", 80),
        target=1 / 1.1,
    ),
    Model(
        f"Conformer block of width {WIDTH}, 250 frames, batch 8",
        Block,
        (8, 250, WIDTH),
        ("N", "T", WIDTH),
        target=1 / 1.1,
    ),
    Model(
        "spoken words: 320 -> 96 -> 2 LSTM of 128 -> 99, 50 frames, batch 8",
        lambda: SpokenWords(320, 99, hidden=128, dropout=0.0),
        (50, 8, 320),
        ("T", "N", 320),
        ways={
            INTEGERS: "",
            "through the integer kernels, weights on 4-bit tables": TABLES,
            "weights on 4-bit tables, activations in float": '[training]\nemulate = "weights"\n' + TABLES,
        },
    ),
)
