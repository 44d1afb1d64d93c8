"""Lowered models in the hands of other tools: results/exports.json.

    python benchmarks/exports.py SILERO.onnx TFLM_PYTHON VELA_PYTHON

Every network of exports_networks.py with weights of 8 bits and palettes of 5, 4, 3 and 2, written as .tflite:
what tflite-micro makes of each frame against the simulator, value by value, and the bytes of weights that
Vela reports for an Ethos-U55-128. At 8 bits also the QDQ file: how many steps of the result ONNX Runtime is
away. TFLM_PYTHON is that of `make oracles` (.oracles/tflm/bin/python), VELA_PYTHON has requirements-vela.txt.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from exports_networks import NETWORKS, Network
from latency_model import CONFIGURATIONS, HERE, lines_of, weights_of

from nnaq.codebooks.choice import PaletteChoice
from nnaq.export.qdq import qdq_model
from nnaq.export.tflite import tflite_model
from nnaq.interpret import Interpreter, run
from nnaq.ir.graph import Graph
from nnaq.pipeline import Crossing
from nnaq.quantize.recipe import parse_recipe

RESULT = HERE / "results" / "exports.json"
RUNNER = HERE.parent / "tests" / "oracles" / "tflm_runs.py"
BITS, TARGET, FRAMES = (8, 5, 4, 3, 2), "tflite-micro", 64
VELA = {"ethos-u55-128": CONFIGURATIONS["ethos-u55-128"]}


def recipe(bits: int) -> Any:
    made = parse_recipe('name = "exports"\n[quantize]\nactivations = "8"')
    return made if bits == 8 else made.with_palettes(PaletteChoice(bits, scale="kept"))


def steps_of(graph: Graph, recordings: list[dict[str, Any]]) -> Iterator[tuple[dict[str, np.ndarray], Any]]:
    """Inputs and outputs of single frames: of the first recording; without time of one after the other."""
    interpreter, (port,) = Interpreter(graph), graph.inputs
    if port.time_axis is None:
        frames = [one[port.name].numpy() for one in recordings]
    else:
        frames = list(np.split(recordings[0][port.name].numpy(), recordings[0][port.name].shape[0]))
    for frame in frames[:FRAMES]:
        yield {port.name: frame}, interpreter.step({port.name: frame}).outputs


def against_tflm(python: str, path: Path, graph: Graph, network: Network) -> dict[str, int]:
    """Values of all frames, and how many of them tflite-micro computes otherwise."""
    steps = list(steps_of(graph, network.evaluation))
    fed, made = path.with_suffix(".in.npz"), path.with_suffix(".out.npz")
    np.savez(fed, **{f"{n}:0": next(iter(cut.values())) for n, (cut, _) in enumerate(steps)})
    count = str(len(graph.outputs))
    subprocess.run([python, str(RUNNER), str(path), str(fed), str(made), count], check=True)
    values = mismatches = 0
    with np.load(made) as found:
        for n, (_, outputs) in enumerate(steps):
            for position, array in enumerate(outputs.values()):
                values += array.size
                mismatches += int((found[f"{n}:{position}"].reshape(array.shape) != array).sum())
    return {"frames": len(steps), "values": values, "mismatches": mismatches}


def qdq_steps(crossing: Crossing, network: Network) -> dict[str, float]:
    """The largest and the mean distance of ONNX Runtime's results from the simulator's, in steps of codes."""
    model, graph = qdq_model(crossing.fake), crossing.integer
    feeds = {name: array.numpy() for name, array in network.evaluation[0].items()}
    states = {s.input: crossing.fake.constants[s.initial] for s in crossing.fake.states}
    name = graph.outputs[0].name
    scale = graph.types[graph.producer[name].inputs[0]].scale
    expected, found = run(graph, feeds).outputs[name], {}
    for word in ("disable", "enable"):
        options = onnxruntime.SessionOptions()
        level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{word.upper()}_ALL")
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        (y,) = session.run([name], feeds | states)
        away = np.abs(np.rint((y - expected) / scale))
        found |= {f"qdq_{word}_largest": float(away.max()), f"qdq_{word}_mean": round(float(away.mean()), 4)}
    return found


def measured(folder: Path, model: Path, python: str) -> Iterator[dict[str, Any]]:
    for name, (make, seeds) in NETWORKS.items():
        for seed in seeds:
            network = make(model, seed)
            for bits in BITS:
                crossing = network.lowered(recipe(bits), TARGET).crossing
                graph, path = crossing.integer, folder / f"{name}.{seed}.{bits}.tflite"
                path.write_bytes(tflite_model(graph))
                weights = {w: graph.constants[w] for w in weights_of(graph)}
                np.savez(path.with_suffix(".npz"), **weights)
                row = {"network": name, "seed": seed, "bits": bits}
                row |= {"weights": sum(w.size for w in weights.values())}
                row |= against_tflm(python, path, graph, network)
                print(row, flush=True)
                yield row | (qdq_steps(crossing, network) if bits == 8 else {})


def main(model: str, tflm: str, vela: str) -> None:
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        rows = list(measured(folder, Path(model), tflm))
        for path in folder.glob("*.in.npz"):
            path.unlink()
        command = [vela, str(HERE / "latency_model_vela.py"), held]
        asked = subprocess.run(command, input=json.dumps(VELA), stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(asked.stdout)
    encoded = {(one["network"], one["optimise"]): one["encoded_weight_bytes"] for one in found["rows"]}
    for row in rows:
        name = f"{row['network']}.{row['seed']}.{row['bits']}"
        row |= {"vela_bytes": encoded[name, "Performance"], "codec_bytes": found["codec_bytes"][name]}
    tflm_version = subprocess.run(
        [tflm, "-c", "import importlib.metadata as m; print(m.version('tflite_micro'))"],
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    versions = {"ethos-u-vela": found["version"], "tflite-micro": tflm_version}
    versions["onnxruntime"] = version("onnxruntime")
    command_line = "python benchmarks/exports.py SILERO.onnx TFLM_PYTHON VELA_PYTHON"
    RESULT.write_text(
        lines_of({"command": command_line, "versions": versions, "configuration": VELA, "rows": rows}),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
