"""How long a step of training takes through the integers, beside torch's own float step of the same model.

    python benchmarks/training_step.py [--rounds 15]

The model of `nnaq.models.spoken_words` (320 -> 96 -> 2 LSTM of 128 -> 99) on a batch of 8 utterances of 50
steps: forward, loss, backward, one step of AdamW. All ways take turns in one run, on one thread: the float
module; the twin that emulates its weights only (4-bit tables by STE); the twin whose forward pass is the
integer kernels, with int8 weights and with those tables.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from measuring import circumstances, on_one_thread, seconds_of, write_results
from torch import nn

import nnaq
from nnaq.models.spoken_words import SpokenWords
from nnaq.quantize.recipe import parse_recipe
from nnaq.train.schemes.base import Progress
from nnaq.train.twin import Twin

STEPS, BATCH, FEATURES, UNITS = 50, 8, 320, 99
TABLES = '[[overrides]]\nregex = ".*"\npalette = { bits = 4 }\n'
WAYS = {
    "weights on 4-bit tables, activations in float": '[training]\nemulate = "weights"\n' + TABLES,
    "through the integer kernels, int8 weights": "",
    "through the integer kernels, weights on 4-bit tables": TABLES,
}


def stepping(model: nn.Module, groups: list[dict]) -> Callable[[], None]:
    """One step of training."""
    optimiser = torch.optim.AdamW(groups)
    x = torch.randn(STEPS, BATCH, FEATURES, generator=torch.Generator().manual_seed(0))
    goal = torch.zeros(STEPS, BATCH, UNITS)
    model.train()

    def step() -> None:
        if isinstance(model, Twin):
            model.on_step_begin(Progress(0, 100))
        loss = nn.functional.mse_loss(model(x), goal)
        if isinstance(model, Twin):
            loss = loss + model.penalty()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if isinstance(model, Twin):
            model.on_step_end(Progress(0, 100))

    return step


def twin_step(text: str) -> Callable[[], None]:
    """One step of a twin."""
    options = nnaq.ImportOptions(time={"x": 0}, shapes={"x": ("T", "N", FEATURES)})
    recipe = parse_recipe(f'name = "step"\n[quantize]\nactivations = "8"\n{text}')
    example = torch.randn(5, 2, FEATURES, generator=torch.Generator().manual_seed(1))
    twin = nnaq.prepare(model(), example, recipe, "edge8-sub8", options=options)
    return stepping(twin, twin.parameter_groups(1e-4))


def model() -> SpokenWords:
    """The same weights every time."""
    torch.manual_seed(0)
    return SpokenWords(FEATURES, UNITS, hidden=128, dropout=0.0)


def main() -> None:
    """Race, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    on_one_thread()
    plain = model()
    steps = {"float": stepping(plain, [{"params": plain.parameters(), "lr": 1e-4}])}
    steps |= {way: twin_step(text) for way, text in WAYS.items()}
    taken: dict[str, list[float]] = {way: [] for way in steps}
    for turn in range(rounds + 2):  # the first two warm up
        for way, step in steps.items():
            seconds = seconds_of(step)
            if turn > 1:
                taken[way].append(seconds)
    peer = statistics.median(taken["float"])
    records = [
        {
            "work": f"training step, {way}",
            "peer": "torch, the float module",
            "ratio": statistics.median(a / b for a, b in zip(taken["float"], taken[way], strict=True)),
            "seconds": statistics.median(taken[way]),
            "peer_seconds": peer,
            "rounds": rounds,
            "threads": 1,
            **circumstances(),
        }
        for way in WAYS
    ]
    write_results("training_step", records)


if __name__ == "__main__":
    main()
