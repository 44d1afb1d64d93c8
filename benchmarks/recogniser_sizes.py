"""What transducers of named sizes take on a machine: bytes, and cycles for a second of sound.

    python benchmarks/recogniser_sizes.py [--encoder rnnt] [--size tiny small] [--bits 8 4]

Weights are random: nothing is said about accuracy. Every transducer is lowered whole with a few random
recordings (40 bands, 3 frames stacked, 120 units and the blank), made a stream and cut; each part is
simulated by itself. A second of sound has 1000 / 60 frames of the encoder, each with one step of the joint,
and LABELS labels, each with one step of predictor and joint. Bits below 8 are palettes on `edge8-sub8`; 8 is
int8 there. Rows that were not asked for stay in results/recogniser_sizes.json as they are.
"""

import argparse
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnaq.codebooks.choice import PaletteChoice
from nnaq.crossing import lower_graph
from nnaq.frontends import ImportOptions
from nnaq.frontends.torch import load
from nnaq.models.named_sizes import SIZES, named_size
from nnaq.models.sizes import make_transducer
from nnaq.passes import MakeStreaming
from nnaq.quantize.recipe import load_recipe
from nnaq.simulate import simulate
from nnaq.targets import Target, load_target
from nnaq.tasks.transducer_parts import PartGraphs, part_graphs

RESULT = Path(__file__).parent / "results" / "recogniser_sizes.json"
FEATURES, UNITS, FRAMES, LABEL_COUNT = 120, 121, 24, 6
SECONDS_PER_FRAME = 0.06  # of the encoder: 10 ms a hop, 3 stacked, 2 more in the encoder
LABELS = 3  # a second: about the pieces of a fluent speaker's words
TARGET = "edge8-sub8"


def main(encoders: Sequence[str], sizes: Sequence[str], bits: Sequence[int]) -> None:
    """Measure what was asked for and write it into the file."""
    known = json.loads(RESULT.read_text())["rows"] if RESULT.is_file() else []
    rows = {(row["encoder"], row["size"], row["bits"]): row for row in known}
    for encoder in encoders:
        for size in sizes:
            for width in bits:
                rows[encoder, size, width] = measured(encoder, size, width)
                print(json.dumps(rows[encoder, size, width]), flush=True)
    versions = {name: version(name) for name in ("nnaq", "torch", "numpy")}
    order = {key: place for place, key in enumerate((*SIZES, "tiny", "small", "paper"))}
    ordered = [rows[key] for key in sorted(rows, key=lambda key: (order[key[0]], order[key[1]], -key[2]))]
    found = {"target": TARGET, "labels_per_second": LABELS, "versions": versions, "rows": ordered}
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


def measured(encoder: str, size: str, bits: int) -> dict[str, Any]:
    """One transducer on the machine."""
    torch.manual_seed(0)
    module = make_transducer(FEATURES, UNITS, encoder=encoder, **named_size(encoder, size)).eval()
    shapes = {"x": ("T", "N", FEATURES), "y": ("U", "N")}
    example = torch.zeros(8, 2, FEATURES), torch.zeros(3, 2, dtype=torch.int64)
    graph = load(module, example, ImportOptions(time={"x": 0, "y": 0}, shapes=shapes)).graph
    recipe, target = load_recipe("recogniser"), load_target(TARGET)
    if bits < 8:
        recipe = recipe.with_palettes(PaletteChoice(bits))
    recordings = [recording(seed) for seed in range(3)]
    lowering = lower_graph(graph, recordings, recordings[:1], recipe, target)
    return {
        "encoder": encoder, "size": size, "bits": bits,
        "parameters": sum(p.numel() for p in module.parameters()),
        **on_the_machine(part_graphs(MakeStreaming().run(lowering.crossing.integer)), target),
    }  # fmt: skip


def on_the_machine(graphs: PartGraphs, target: Target) -> dict[str, Any]:
    """Bytes and cycles of the parts, and of a second of sound."""
    parts = {g.name: simulate(g, target) for g in (graphs.encoder, graphs.predictor, graphs.joint)}
    cycles = {part: simulation.latency(None)["event_cycles_per_step"] for part, simulation in parts.items()}
    macs = {part: sum(cost.macs for cost in simulation.costs) for part, simulation in parts.items()}
    plans = [simulation.plan for simulation in parts.values()]
    frames = 1 / SECONDS_PER_FRAME

    def per_second(figures: dict[str, Any]) -> float:
        once, label = figures["encoder"], figures["predictor"]
        return float(once * frames + label * LABELS + figures["joint"] * (frames + LABELS))

    return {
        **{f"{part}_cycles": value for part, value in cycles.items()},
        "macs_per_second": round(per_second(macs)),
        "share_of_real_time": round(per_second(cycles) / target.clock_hz, 6),
        "weight_bytes": sum(plan.weight_bytes for plan in plans),
        "table_bytes": sum(plan.table_bytes for plan in plans),
        "state_bytes": sum(plan.state_bytes for plan in plans),
        "sram_peak_bytes": max(plan.sram_peak_bytes for plan in plans),
    }


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
    parser.add_argument("--bits", nargs="+", type=int, default=[8, 4])
    given = parser.parse_args()
    main(given.encoder, given.size, given.bits)
