"""A lowered model for hardware teams: known answers per node as hex and as C, with plain C99 references.

    c/*.h              requantize, fully_connected, conv, elementwise, table, lstm: the references
    c/NNN.h            operands and results of node NNN over two frames, as arrays
    c/check.c          computes every node that has a reference: cc -std=c99 check.c && ./a.out
    hex/NNN.x0.hex     the same arrays for $readmemh: a code a line, two's complement, the last axis fastest
    index.json         per node: op, name, types and files of operands and results, whether it has a reference
    image.hex          the packed constants in DRAM, a byte a line
    commands.json      the commands of a step on the target, in order: engine, node, cycles, needs, and what
                       each does to which bytes

Every node reads what the simulator computed, so that one wrong node does not hide the next.
"""

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from nnaq.export.c_calls import call_of
from nnaq.interpret import chunks, initial_states, run
from nnaq.ir.graph import Graph, Node
from nnaq.ir.types import TensorType, bits
from nnaq.schedule.compile import compile_step
from nnaq.targets import Target

FRAMES = 2
HEADERS = ("conv.h", "elementwise.h", "fully_connected.h", "lstm.h", "requantize.h", "table.h")
PER_LINE = 16


def write_c(graph: Graph, inputs: Mapping[str, np.ndarray], target: Target, folder: Path) -> None:
    """Write everything into a new folder. inputs: of a recording, of which the first frames are taken."""
    folder.mkdir()
    write_nodes(graph, inputs, folder)
    write_step(graph, target, folder)


def write_nodes(graph: Graph, inputs: Mapping[str, np.ndarray], folder: Path) -> None:
    """The known answers of every node over codes, and the references that compute them."""
    values = node_values(graph, inputs)
    for part in ("c", "hex"):
        (folder / part).mkdir()
    for name in HEADERS:
        text = files("nnaq.export").joinpath("c", name).read_text(encoding="utf-8")
        (folder / "c" / name).write_text(text, encoding="utf-8")
    nodes = [node for node in graph.nodes if all(graph.types[v].dtype != "f32" for v in _values(node))]
    index = [_write_node(graph, node, values, place, folder) for place, node in enumerate(nodes)]
    called = [place for place, entry in enumerate(index) if entry["reference"]]
    (folder / "c" / "check.c").write_text(_check(called), encoding="utf-8")
    (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def node_values(graph: Graph, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every value over the first frames of a recording, constants and first states among them."""
    piece = next(chunks(graph, inputs, FRAMES))
    result = run(graph, piece, keep=[v for node in graph.nodes for v in node.outputs])
    first = initial_states(graph)
    states = {state.input: first[state.name] for state in graph.states}
    return {**graph.constants, **piece, **states, **result.values}


def _values(node: Node) -> tuple[str, ...]:
    return tuple(v for v in (*node.inputs, *node.outputs) if v)


def _write_node(
    graph: Graph, node: Node, values: Mapping[str, np.ndarray], place: int, folder: Path
) -> dict[str, Any]:
    """The files of one node; returns its entry of the index."""
    operands = [values[v] if v else None for v in node.inputs]
    results = [values[v] for v in node.outputs]
    call = call_of(node, graph.signature(node), _spread(node, operands, results), results[0].shape)
    entry: dict[str, Any] = {"op": node.op, "name": node.name, "source": node.source}
    entry |= {"attributes": dict(node.attrs), "reference": call is not None}
    for letter, names in (("x", node.inputs), ("y", node.outputs)):
        entry[letter] = [
            _written(graph, v, values, f"{place:03d}.{letter}{i}", folder) for i, v in enumerate(names)
        ]
    if call is not None:
        text = _header(place, node, _spread(node, operands, results), results, call)
        (folder / "c" / f"{place:03d}.h").write_text(text, encoding="utf-8")
    return entry


def _spread(
    node: Node, operands: list[np.ndarray | None], results: list[np.ndarray]
) -> list[np.ndarray | None]:
    """Operands of sums and products in the shape of the result, as their references read them."""
    if node.op not in ("add", "sub", "mul"):
        return operands
    return [np.broadcast_to(a, results[0].shape) for a in operands[:2] if a is not None] + operands[2:]


def _written(
    graph: Graph, value: str, values: Mapping[str, np.ndarray], stem: str, folder: Path
) -> dict[str, Any] | None:
    """The hex file of a value, and what the index says of it."""
    if not value:
        return None
    array, kind = values[value], graph.types[value]
    (folder / "hex" / f"{stem}.hex").write_text(hex_lines(array, kind), encoding="utf-8")
    quant = None
    if kind.quant is not None:
        quant = {"scale": list(kind.quant.scale), "zero_point": kind.zero_point, "axis": kind.quant.axis}
    return {
        "value": value,
        "dtype": kind.dtype,
        "shape": list(array.shape),
        "quant": quant,
        "hex": f"{stem}.hex",
    }


def hex_lines(array: np.ndarray, kind: TensorType) -> str:
    """A code a line in two's complement, as many digits as the dtype's bits take."""
    width = bits(kind.dtype)
    codes = array.reshape(-1).astype(np.int64) & ((1 << width) - 1)
    return "".join(f"{code:0{width // 4}x}\n" for code in codes.tolist())


# --- C


def _header(
    place: int, node: Node, operands: list[np.ndarray | None], results: list[np.ndarray], call: str
) -> str:
    """The arrays of a node, and a function that computes it and returns how many codes differ."""
    lines = [f"/* {node.op} {node.name} */".replace("*/ */", "*/"), f"static int node_{place:03d}(void)", "{"]
    biases = {operand for operand in (2,) if node.op in ("fully_connected", "conv1d", "conv2d")}
    biases |= {5} if node.op == "lstm" else set()
    for i, array in enumerate(operands):
        if array is not None:
            lines.append(_array(f"x{i}", array, "int64_t" if i in biases else "int32_t"))
    for i, array in enumerate(results):
        lines.append(_array(f"e{i}", array, "int32_t"))
        lines.append(f"    static int32_t y{i}[{max(array.size, 1)}];")
    differ = " + ".join(f"differ(y{i}, e{i}, {array.size})" for i, array in enumerate(results))
    return "\n".join([*lines, f"    {call}", f"    return {differ};", "}", ""])


def _array(name: str, array: np.ndarray, ctype: str) -> str:
    codes = ["(-2147483647 - 1)" if code == -(2**31) else str(code) for code in array.reshape(-1).tolist()]
    rows = [", ".join(codes[i : i + PER_LINE]) for i in range(0, len(codes), PER_LINE)]
    body = ",\n        ".join(rows) or "0"
    return f"    static const {ctype} {name}[] = {{\n        {body}}};"


def _check(called: list[int]) -> str:
    """The program that computes every node with a reference."""
    includes = [f'#include "{name}"' for name in HEADERS]
    nodes = [f'#include "{place:03d}.h"' for place in called]
    rows = [f'    bad += tell("{place:03d}", node_{place:03d}());' for place in called]
    return "\n".join(
        [
            "/* Computes every node by its C99 reference; exit code 1 where one differs. */",
            "#include <stdio.h>",
            *includes,
            "",
            "static inline int differ(const int32_t *found, const int32_t *expected, int count)",
            "{",
            "    int wrong = 0;",
            "    for (int i = 0; i < count; i++)",
            "        wrong += found[i] != expected[i];",
            "    return wrong;",
            "}",
            "",
            "static inline int tell(const char *node, int wrong)",
            "{",
            '    printf("%s: %d differ\\n", node, wrong);',
            "    return wrong != 0;",
            "}",
            "",
            *nodes,
            "",
            "int main(void)",
            "{",
            "    int bad = 0;",
            *rows,
            f'    printf("{len(called)} nodes, %d differ\\n", bad);',
            "    return bad != 0;",
            "}",
            "",
        ]
    )


# --- the step


def write_step(graph: Graph, target: Target, folder: Path) -> None:
    """image.hex and commands.json of one frame."""
    step = compile_step(graph, target)
    (folder / "image.hex").write_text("".join(f"{b:02x}\n" for b in step.image.pack()), encoding="utf-8")
    lists = {"setup": step.setup.commands, "step": step.commands}
    told = {name: [_plain(command) for command in commands] for name, commands in lists.items()}
    (folder / "commands.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _plain(thing: Any) -> Any:
    """A command as JSON: types as texts, signatures left out, actions under their own names."""
    if isinstance(thing, TensorType):
        return str(thing)
    if is_dataclass(thing) and not isinstance(thing, type):
        fields = {k: _plain(getattr(thing, k)) for k in thing.__dataclass_fields__ if k != "signature"}
        return {"kind": type(thing).__name__, **fields}
    if isinstance(thing, slice):
        return [thing.start, thing.stop, thing.step]
    if isinstance(thing, tuple | list):
        return [_plain(one) for one in thing]
    return thing if isinstance(thing, int | float | str | type(None)) else str(thing)
