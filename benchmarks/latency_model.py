"""How far nnaq's latency and memory model is from Vela's, network by network: results/latency_model.json.

    python benchmarks/latency_model.py                  compare with the committed goldens
    python benchmarks/latency_model.py VELA_PYTHON      ask Vela first; writes results/vela.json as well

Vela is a compiler's own estimate: a deviation from it is no error against hardware. VELA_PYTHON is the
interpreter of an environment with benchmarks/peers/requirements-vela.txt.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from latency_model_networks import NETWORKS, Network

from nnaq.cost import op_cost
from nnaq.cost.footprint import constant_bytes, resting_bytes, tables
from nnaq.frontends import tflite
from nnaq.ir.graph import Graph
from nnaq.ir.op import lookup
from nnaq.schedule.memory import plan_memory
from nnaq.schedule.placement import max_live_bytes
from nnaq.targets import Target, gemms, load_target

HERE = Path(__file__).resolve().parent
GOLDENS, RESULT = HERE / "results" / "vela.json", HERE / "results" / "latency_model.json"
CONFIGURATIONS = {
    "ethos-u55-128": {
        "accelerator": "ethos-u55-128",
        "system_config": "Ethos_U55_High_End_Embedded",
        "memory_mode": "Shared_Sram",
    },
    "ethos-u65-256": {
        "accelerator": "ethos-u65-256",
        "system_config": "Ethos_U65_Client_Server",
        "memory_mode": "Shared_Sram",
    },
}
DEEP, MOST = 256, 0.9
BANDS = {"deep": (0.10, 0.25), "shallow": (0.30, 0.70), "unrolled": (0.65, 0.80)}
"""Deviations of NPU cycles that the tests hold, the median's and the worst, of each class of networks.

deep      products of K >= 256 make 90 % of the MACs
shallow   all others: Vela's costs of starting and ending a block weigh more than the model knows
unrolled  an LSTM over several frames: Vela runs the input's product frame by frame, nnaq over all frames
"""


def graph_of(network: Network) -> Graph:
    """The network as nnaq imports it, its transposes as views.

    A file's images are [N,H,W,C] and nnaq's [N,C,H,W]; a machine keeps one of both, so that the transposes
    of the importer stand for no work of the file's.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        path.write_bytes(network.file())
        graph = tflite.load(path).graph
    nodes = []
    for node in graph.nodes:
        if node.op == "transpose":
            shape = tuple(graph.types[node.outputs[0]].shape)
            node = replace(node, op="reshape", attrs={"shape": shape})
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def weights_of(graph: Graph) -> list[str]:
    """The weights of a graph, each once: constants of i8 with a scale."""
    read = (
        node.inputs[position]
        for node in graph.nodes
        for position in sorted(lookup(node.op).weights)
        if position < len(node.inputs) and node.inputs[position] in graph.constants
    )
    kinds = graph.types
    return [
        name for name in dict.fromkeys(read) if kinds[name].dtype == "i8" and kinds[name].quant is not None
    ]


def kind_of(graph: Graph) -> str:
    """deep, shallow or unrolled (see BANDS)."""
    signatures = [(node.op, graph.signature(node)) for node in graph.nodes]
    if any(op == "lstm" and signature.input(0).shape[0] != 1 for op, signature in signatures):
        return "unrolled"
    products = [gemm for op, signature in signatures for gemm in gemms(op, signature)]
    deep = sum(gemm.macs for gemm in products if gemm.depth >= DEEP)
    return "deep" if deep >= MOST * sum(gemm.macs for gemm in products) else "shallow"


def figures(graph: Graph, target: Target) -> dict[str, int]:
    """nnaq's own figures, with look-up tables beside the lanes and all other constants from DRAM."""
    costs = [op_cost(graph, node, target, tables(graph)) for node in graph.nodes]
    plan = plan_memory(graph, target, "none")
    weights = weights_of(graph)
    return {
        "npu_cycles": sum(max(cost.compute_cycles, cost.decompression_cycles) for cost in costs),
        "total_cycles": sum(cost.cycles for cost in costs),
        "sram_bytes": plan.values_bytes,
        "max_live_bytes": max_live_bytes(plan.values),
        "weight_bytes": sum(constant_bytes(graph, name, target) for name in weights),
        "raw_weight_bytes": sum(resting_bytes(graph.types[name], target) for name in weights),
    }


def compared(goldens: dict[str, Any], names: Iterable[str] = NETWORKS) -> Iterator[dict[str, Any]]:
    """A row per network, target and metric: ours, Vela's, and ours over Vela's less 1."""
    theirs = {(row["network"], row["target"], row["optimise"]): row for row in goldens["rows"]}
    for name in names:
        graph = graph_of(NETWORKS[name]())
        for target in CONFIGURATIONS:
            ours, kind = figures(graph, load_target(target)), kind_of(graph)
            fast, small = theirs[name, target, "Performance"], theirs[name, target, "Size"]
            pairs = {
                "npu_cycles": (ours["npu_cycles"], fast["npu_cycles"]),
                "total_cycles": (ours["total_cycles"], fast["total_cycles"]),
                "sram_bytes": (ours["sram_bytes"], fast["sram_bytes"]),
                "sram_bytes_for_size": (ours["sram_bytes"], small["sram_bytes"]),
                "weight_bytes": (ours["weight_bytes"], goldens["networks"][name]["codec_bytes"]),
            }
            bounds = {key: ours[key] for key in ("max_live_bytes", "raw_weight_bytes")}
            for metric, (mine, other) in pairs.items():
                row = {"network": name, "target": target, "kind": kind, "metric": metric}
                yield row | {"ours": mine, "theirs": other, "deviation": round(mine / other - 1, 4)} | bounds


def ask_vela(python: str) -> dict[str, Any]:
    """The goldens of every network; takes half a second for each compilation."""
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        networks = {}
        for name, make in NETWORKS.items():
            file, graph = make().file(), graph_of(make())
            (folder / f"{name}.tflite").write_bytes(file)
            np.savez(folder / f"{name}.npz", **{w: graph.constants[w] for w in weights_of(graph)})
            networks[name] = {"sha256": hashlib.sha256(file).hexdigest()}
        command = [python, str(HERE / "latency_model_vela.py"), str(folder)]
        asked = json.dumps(CONFIGURATIONS)
        found = json.loads(
            subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, check=True).stdout
        )
    for name, count in found["codec_bytes"].items():
        networks[name]["codec_bytes"] = count
    versions = {"ethos-u-vela": found["version"]}
    return {
        "versions": versions,
        "configurations": CONFIGURATIONS,
        "networks": networks,
        "rows": found["rows"],
    }


def summary(rows: list[dict[str, Any]], metric: str, kind: str) -> tuple[float, float]:
    """Median and worst deviation of a metric over a class of networks, without their signs."""
    found = [abs(row["deviation"]) for row in rows if (row["metric"], row["kind"]) == (metric, kind)]
    return median(found), max(found)


def lines_of(result: dict[str, Any]) -> str:
    """A result as JSON, its rows on a line each."""
    rows = ",\n".join(f"  {json.dumps(row)}" for row in result["rows"])
    rest = json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=1)
    return f'{rest[:-2]},\n "rows": [\n{rows}\n ]\n}}\n'


def main(arguments: list[str]) -> None:
    if arguments:
        GOLDENS.write_text(lines_of(ask_vela(arguments[0])), encoding="utf-8")
    rows = list(compared(json.loads(GOLDENS.read_text(encoding="utf-8"))))
    for kind in BANDS:
        print(kind, *(summary(rows, metric, kind) for metric in ("npu_cycles", "total_cycles")))
    RESULT.write_text(lines_of({"bands": BANDS, "rows": rows}), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
