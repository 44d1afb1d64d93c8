"""What transducers of named sizes take on a machine: bytes, cycles, and what a speaker waits for.

    python benchmarks/recogniser_sizes.py [--encoder rnnt] [--size tiny small paper] [--bits 8 5 4 2]

Weights are random: nothing is said about accuracy. Every transducer is lowered whole with a few random
recordings (40 bands, 3 frames stacked, 120 units and the blank), made a stream and cut; its parts take turns
on the machine and share its SRAM (nnaq.simulate.transducer). They hear SECONDS seconds with LABELS labels a
second, the last of them in the last frame. Bits below 8 are palettes on `edge8-sub8`; 8 is int8 there.
Tables are evenly spaced: which entries they have changes neither bytes nor cycles, and the best take long to
find.
All bits of a size are lowered in one process of their own, whose processor seconds and peak of resident bytes
stand in its rows, beside the peak after its imports and the bytes of the float parameters. Rows that were not
asked for stay in results/recogniser_sizes.json as they are.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import cpu

from nnaq.codebooks.choice import PaletteChoice
from nnaq.crossing import Reporter, crossing_of
from nnaq.frontends import ImportOptions
from nnaq.frontends.torch import load
from nnaq.ir.graph import Graph
from nnaq.models.named_sizes import SIZES, named_size
from nnaq.models.sizes import make_transducer
from nnaq.passes import MakeStreaming
from nnaq.perceived import feature_operations
from nnaq.quantize.recipe import load_recipe
from nnaq.simulate.stream import emissions
from nnaq.simulate.transducer import Framing, Spoken, Turns, take_turns
from nnaq.targets import load_target
from nnaq.tasks.log_mel import LogMel
from nnaq.tasks.transducer_parts import PartGraphs, part_graphs

RESULT = Path(__file__).parent / "results" / "recogniser_sizes.json"
FEATURES, UNITS, FRAMES, LABEL_COUNT = 120, 121, 24, 6
LOG_MEL = LogMel()
FRAMING = Framing(
    hop=960, sample_rate=16_000
)  # of the encoder: 10 ms a hop, 3 stacked, 2 more in the encoder
LABELS = 3  # a second: about the pieces of a fluent speaker's words
SECONDS = 12  # whole frames and whole labels
TARGET = "edge8-sub8"
PARTS = "encoder", "predictor", "joint"


def main(encoders: Sequence[str], sizes: Sequence[str], bits: Sequence[int]) -> None:
    """Measure what was asked for and write it into the file."""
    known = json.loads(RESULT.read_text())["rows"] if RESULT.is_file() else []
    rows = {(row["encoder"], row["size"], row["bits"]): row for row in known}
    for encoder in encoders:
        for size in sizes:
            with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
                for row in fresh.submit(measured, encoder, size, bits).result():
                    rows[encoder, size, row["bits"]] = row
                    print(json.dumps(row), flush=True)
            write(rows)


def write(rows: dict[tuple[str, str, int], dict[str, Any]]) -> None:
    """The file, ordered by encoder, size and bits."""
    versions = {name: version(name) for name in ("nnaq", "torch", "numpy")}
    order = {key: place for place, key in enumerate((*SIZES, "tiny", "small", "paper"))}
    ordered = [rows[key] for key in sorted(rows, key=lambda key: (order[key[0]], order[key[1]], -key[2]))]
    found = {
        "target": TARGET, "labels_per_second": LABELS, "seconds": SECONDS, "cpu": cpu(), "versions": versions,
        "rows": ordered,
    }  # fmt: skip
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


def measured(encoder: str, size: str, bits: Sequence[int]) -> list[dict[str, Any]]:
    """One transducer on the machine, at all bits."""
    before, start = peak_bytes(), time.process_time()
    module, graph = real_graph(encoder, size)
    parameters = sum(p.numel() for p in module.parameters())
    about = {"encoder": encoder, "size": size, "parameters": parameters}
    rows = [{**about, "bits": width, **on_the_machine(turns_of(graph, width))} for width in bits]
    process = {
        "lowering_seconds": round(time.process_time() - start, 1),
        "lowering_peak_bytes": peak_bytes(),
        "peak_bytes_before": before,
        "float_bytes": 4 * parameters,
    }
    return [{**row, **process} for row in rows]


def real_graph(encoder: str, size: str) -> tuple[torch.nn.Module, Graph]:
    """A transducer of random weights, and its graph over whole utterances."""
    torch.manual_seed(0)
    module = make_transducer(FEATURES, UNITS, encoder=encoder, **named_size(encoder, size)).eval()
    shapes = {"x": ("T", "N", FEATURES), "y": ("U", "N")}
    example = torch.zeros(8, 2, FEATURES), torch.zeros(3, 2, dtype=torch.int64)
    return module, load(module, example, ImportOptions(time={"x": 0, "y": 0}, shapes=shapes)).graph


def lowered_parts(graph: Graph, bits: int) -> PartGraphs:
    """The parts of a streaming transducer whose weights have so many bits."""
    recipe = load_recipe("recogniser")
    if bits < 8:
        recipe = recipe.with_palettes(PaletteChoice(bits, method="uniform", scale="kept"))
    recordings = [recording(seed) for seed in range(3)]
    crossing = crossing_of(graph, recordings, recipe, load_target(TARGET), Reporter())
    return part_graphs(MakeStreaming().run(crossing.integer))


def turns_of(graph: Graph, bits: int) -> Turns:
    """The parts on one machine, a frame at a time."""
    graphs, target = lowered_parts(graph, bits), load_target(TARGET)
    operations = feature_operations(LOG_MEL, FRAMING.hop)
    return take_turns(graphs.encoder, graphs.predictor, graphs.joint, target, [1], operations)


def on_the_machine(turns: Turns, framing: Framing = FRAMING) -> dict[str, Any]:
    """Bytes and cycles of the parts, and what they make of the sound."""
    sound, target, parts = spoken(framing), turns.target, dict(zip(PARTS, turns.parts, strict=True))
    work = turns.work(sound, framing.chunk)
    runs = dict(zip(PARTS, (len(sound.labels), sum(sound.labels), sum(sound.steps)), strict=True))
    macs = {part: sum(cost.macs for cost in simulation.costs) for part, simulation in parts.items()}
    plans = [simulation.plan for simulation in parts.values()]
    return {
        **{f"{part}_cycles": simulation.timing.cycles for part, simulation in parts.items()},
        "macs_per_second": round(sum(macs[part] * runs[part] for part in PARTS) / SECONDS),
        "dram_bytes_per_frame": parts["encoder"].dram_bytes,
        "share_of_real_time": round(sum(work.values()) / target.clock_hz / SECONDS, 6),
        "perceived_milliseconds": round(target.microseconds(turns.hear(sound, framing).perceived) / 1e3, 4),
        "weight_bytes": sum(plan.weight_bytes for plan in plans),
        "table_bytes": sum(plan.table_bytes for plan in plans),
        "state_bytes": turns.resting["state_bytes"],
        "pinned_bytes": turns.resting["pinned_bytes"],
        "sram_peak_bytes": turns.resting["peak_bytes"],
        "fits": turns.fits,
    }


def spoken(framing: Framing) -> Spoken:
    """SECONDS of sound, labels spread over its frames, the last of them in the last frame."""
    samples = SECONDS * framing.sample_rate
    frames = samples // framing.hop
    labels = tuple(emissions(LABELS * SECONDS / frames, frames))
    return Spoken(samples, samples, labels, tuple(count + 1 for count in labels))


def peak_bytes() -> int:
    """The most that was resident in this process so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def recording(seed: int) -> dict[str, np.ndarray]:
    """Random features and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(1, UNITS, (LABEL_COUNT, 1)).astype(np.float32)
    labels[0] = 0
    return {"x": random.normal(size=(FRAMES, 1, FEATURES)).astype(np.float32), "y": labels}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--encoder", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--size", nargs="+", default=["tiny", "small", "paper"])
    parser.add_argument("--bits", nargs="+", type=int, default=[8, 5, 4, 2])
    given = parser.parse_args()
    main(given.encoder, given.size, given.bits)
