"""What lowering takes of memory, beside the file that is lowered.

    python benchmarks/lowering_memory.py [--millions 25 100]

A model of square layers with random weights is written as an ONNX file, and lowered by `nnaq lower` for edge8
with int8 activations, calibrated and judged on 24 frames, in a process of its own. Told are its peak of
resident bytes (RUSAGE_CHILDREN of a process that has no other child), what the same process takes for a model
of a few kilobytes, which is libraries, and the ratios of the peak and of their difference to the file's size.
Writes results/lowering_memory.json.
"""

import argparse
import resource
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from measuring import circumstances, write_results
from onnx import helper, numpy_helper

LAYERS, FRAMES = 12, 24
RECIPE = 'name = "layers"\n[ports]\ntime = { x = 0 }\n[quantize]\nactivations = "8"\n'


def main(millions: list[float]) -> None:
    """Measure and write."""
    nothing = fresh(0.001)["peak_bytes"]
    rows = [fresh(million) for million in millions]
    for row in rows:
        row["ratio"] = round(row["peak_bytes"] / row["file_bytes"], 2)
        row["ratio_without_libraries"] = round((row["peak_bytes"] - nothing) / row["file_bytes"], 2)
    write_results("lowering_memory", {**circumstances(), "library_bytes": nothing, "rows": rows})


def fresh(millions: float) -> dict[str, int]:
    """One lowering, measured by a process that has no other child."""
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        return alone.submit(lowered, millions).result()


def lowered(millions: float) -> dict[str, int]:
    """The sizes of a model, and the peak of its lowering."""
    width = round((millions * 1e6 / LAYERS) ** 0.5)
    with TemporaryDirectory() as place:
        folder = Path(place)
        write(folder, width)
        command = [sys.executable, "-m", "nnaq", "lower", "model.onnx", "--recipe", "recipe.toml", "--json"]
        options = ["--calibrate", "data", "--evaluate", "held", "-o", "out"]
        subprocess.run([*command, *options], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        size = (folder / "model.onnx").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"parameters": LAYERS * width * width, "file_bytes": size, "peak_bytes": peak}


def write(folder: Path, width: int) -> None:
    """model.onnx, recipe.toml and recordings."""
    random = np.random.default_rng(0)
    (folder / "recipe.toml").write_text(RECIPE)
    for name in ("data/0", "data/1", "held/2"):
        path = folder / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, x=random.standard_normal((FRAMES, width), dtype=np.float32))
    nodes, weights, value = [], [], "x"
    for n in range(LAYERS):
        weight = random.standard_normal((width, width), dtype=np.float32) / np.float32(width**0.5)
        weights.append(numpy_helper.from_array(weight, f"w{n}"))
        nodes += [
            helper.make_node("MatMul", [value, f"w{n}"], [f"a{n}"], f"layer{n}"),
            helper.make_node("Relu", [f"a{n}"], [value := f"y{n}"], f"relu{n}"),
        ]
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["T", width])
    y = helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, ["T", width])
    graph = helper.make_graph(nodes, "layers", [x], [y], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(made, folder / "model.onnx")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--millions", nargs="+", type=float, default=[25, 100])
    main(parser.parse_args().millions)
