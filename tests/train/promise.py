"""The promise of training: its integers are those of the simulator and of the exported file.

`compared` counts, over every value of a graph, codes of the training forward pass beside those of the
simulator's fast kernels and of the file in onnx.reference. `SUBJECTS` is what is held to it: every
operator that has a case, at 8 and 16 bits, and every model of the repository.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from frontends.test_torch_zoo import inputs_of
from frontends.torch_modules import OPTIONS, OUTPUTS, Speech
from frontends.torch_zoo import ZOO
from test_meanings import BOUNDARY, CASES
from train.test_operators import conformer, conformer_feeds, crossed, joiner, joiner_feeds, one_operator

from nnaq.export.check import differing, executed
from nnaq.export.onnx import export_model
from nnaq.frontends import ImportOptions
from nnaq.interpret import run
from nnaq.ir.graph import Graph
from nnaq.models.spoken_words import SpokenWords
from nnaq.quantize.recipe import parse_recipe
from nnaq.train.emulate import Emulated
from nnaq.train.prepare import prepare
from nnaq.train.schemes.base import Progress
from nnaq.train.twin import Twin

PLAIN = '[quantize]\nactivations = "8"\n'
RECIPES = {
    "int8": PLAIN,
    "int16": '[quantize]\nactivations = "16"\n',
    "palettes": PLAIN + '[[overrides]]\nregex = ".*"\npalette = { bits = 3, granularity = "per_channel" }\n',
    "learned": PLAIN + '[training]\nranges = "learned"\n',
    "moving": PLAIN + '[training]\nranges = "moving"\npower_of_two = true\n',
}
STEPS = 3


class Agreement(NamedTuple):
    """Values of a training forward pass, and how many differ in the simulator or in the file."""

    values: int
    simulator_mismatches: int
    file_mismatches: int

    def __add__(self, other: "Agreement") -> "Agreement":  # type: ignore[override]
        return Agreement(*(a + b for a, b in zip(self, other, strict=True)))


NOTHING = Agreement(0, 0, 0)


def compared(
    codes: Mapping[str, torch.Tensor], integer: Graph, arrays: Mapping[str, np.ndarray]
) -> Agreement:
    """Every integer that a node makes, in training, in the simulator and in the file; islands are float."""
    made = [v for node in integer.nodes for v in node.outputs if integer.types[v].quant is not None]
    simulated = run(integer, arrays, keep=made).values
    file = executed(export_model(integer), integer, arrays, chunk=10**9)
    found = NOTHING
    for value in made:
        trained = codes[value].numpy()
        off_file = differing(file[value], trained) if value in file else 0
        found += Agreement(trained.size, differing(simulated[value], trained), off_file)
    return found


def of_operator(case, activations: str) -> Agreement:
    real, arrays = one_operator(case)
    feeds = {name: array for name, array in arrays.items() if name not in real.constants}
    return of_graph(real, [feeds], activations, list(real.constants))


def of_graph(real: Graph, recordings, activations: str, learned=None) -> Agreement:
    """A graph whose constants train: before and after a step."""
    emulated = Emulated(crossed(real, recordings, activations), learned)
    found = NOTHING
    for _ in range(2):
        given = {name: torch.tensor(array) for name, array in recordings[0].items()}
        forward = emulated.emulated(given)
        found += compared(forward.codes, emulated.convert(), recordings[0])
        sloped = [y for y in forward.results()[0].values() if y.requires_grad]
        if sloped:
            emulated.zero_grad()
            torch.stack([y.square().mean() for y in sloped]).sum().backward()
            step(emulated)
    return found


def step(module: torch.nn.Module, rate: float = 1e-2) -> None:
    """Plain gradient descent, of unit size whatever the gradient's is."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.grad is not None and parameter.grad.any():
                size = parameter.abs().max() / parameter.grad.abs().max()
                parameter -= rate * size * parameter.grad


def of_twin(twin: Twin, inputs: Mapping[str, torch.Tensor]) -> Agreement:
    """A module that trains some steps: the integers of each, in training and in evaluation mode."""
    found = NOTHING
    for place in range(STEPS):
        progress = Progress(place, STEPS)
        twin.train()
        twin.on_step_begin(progress)
        results = torch.utils._pytree.tree_flatten(twin(**inputs))[0]
        sloped = [y for y in results if y.requires_grad]
        twin.zero_grad()
        (torch.stack([y.float().square().mean() for y in sloped]).sum() + twin.penalty()).backward()
        step(twin)
        twin.on_step_end(progress)
        for mode in (True, False):
            twin.train(mode)
            found += agreement_of(twin, inputs)
    return found


def agreement_of(twin: Twin, inputs: Mapping[str, torch.Tensor]) -> Agreement:
    """One pass of a twin, states from their beginning."""
    integer = twin.convert()
    arrays = {port.name: inputs[port.name].numpy() for port in integer.inputs}
    with torch.no_grad():
        codes = twin.integers(**{name: inputs[name] for name in arrays})
    return compared(codes, integer, {name: array.astype(np.float32) for name, array in arrays.items()})


def of_zoo(name: str, recipe: str) -> Agreement:
    entry = ZOO[name]
    torch.manual_seed(0)
    inputs = inputs_of(name, 2, 5)
    options = ImportOptions(shapes=entry.shapes, states=entry.states)
    chosen = parse_recipe(f'name = "zoo"\n{RECIPES[recipe]}')
    twin = prepare(entry.make(), inputs, chosen, "edge8-sub8", options=options, outputs=entry.outputs)
    return of_twin(twin, inputs)


def of_speech(recipe: str) -> Agreement:
    module, zeros = Speech(0), torch.zeros(1, 1, 6)
    inputs = {"x": torch.randn(1, 4, 12, generator=torch.Generator().manual_seed(1)), "h": zeros, "c": zeros}
    chosen = parse_recipe(f'name = "speech"\n{RECIPES[recipe]}')
    return of_twin(prepare(module, inputs, chosen, "edge8-sub8", options=OPTIONS, outputs=OUTPUTS), inputs)


def of_spoken_words(recipe: str) -> Agreement:
    torch.manual_seed(0)
    module = SpokenWords(features=12, units=7, front=9, hidden=8)
    inputs = {"x": torch.randn(9, 2, 12)}
    options = ImportOptions(time={"x": 0}, shapes={"x": ("T", "N", 12)})
    chosen = parse_recipe(f'name = "words"\n{RECIPES[recipe]}')
    return of_twin(prepare(module, inputs, chosen, "edge8-sub8", options=options), inputs)


def subjects() -> Iterator[tuple[str, Callable[[], Agreement]]]:
    """What is held to the promise, by name."""
    for case in CASES:
        if case.op.name not in BOUNDARY:
            for bits in ("i8", "i16"):
                yield f"operator {case} {bits}", lambda case=case, bits=bits: of_operator(case, bits)
    networks = {"conformer": (conformer, conformer_feeds), "joiner": (joiner, joiner_feeds)}
    for name, (make, feeds) in networks.items():
        yield f"graph {name}", lambda make=make, feeds=feeds: of_graph(make(), [feeds(0)], "i8")
    for name in ZOO:
        if name != "packed sequence":  # refused by the front-end
            yield f"model {name}", lambda name=name: of_zoo(name, "int8")
    for recipe in RECIPES:
        yield f"model lstm, {recipe}", lambda recipe=recipe: of_zoo("lstm", recipe)
        yield f"model speech, {recipe}", lambda recipe=recipe: of_speech(recipe)
        yield f"model spoken words, {recipe}", lambda recipe=recipe: of_spoken_words(recipe)


SUBJECTS = dict(subjects())
