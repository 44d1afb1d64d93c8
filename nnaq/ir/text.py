"""Graphs as text: what prints also parses. Constants are named and typed; arrays stand apart.

    graph tiny {
      input x: f32[T,4] time=0
      state h: h_in -> h_out = h_zero: f32[1,8]
      constant w: f32[8,4]
      y: f32[T,8] = fully_connected(x, w) {activation="none"} from "model.fc"
      output y time=0
    }

A state reads `h_in`, hands on `h_out` and starts from the constant `h_zero`.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from nnaq.errors import GraphError
from nnaq.ir.graph import Graph, Node, Port, State
from nnaq.ir.op import Attr
from nnaq.ir.types import TensorType, parse_type, storage


def print_graph(graph: Graph) -> str:
    """The whole graph as text, every figure exact."""
    kind = graph.types
    lines = [f"input {p.name}: {kind[p.name]}{_axes(p)}" for p in graph.inputs]
    lines += [f"state {s.name}: {s.input} -> {s.output} = {s.initial}: {kind[s.input]}" for s in graph.states]
    lines += [f"constant {name}: {kind[name]}" for name in sorted(graph.constants)]
    lines += [_print_node(graph, node) for node in graph.nodes]
    lines += [f"output {p.name}{_axes(p)}" for p in graph.outputs]
    return "\n".join([f"graph {graph.name} {{", *("  " + line for line in lines), "}"]) + "\n"


def summarise(text: str) -> str:
    """A graph's text for reading: long lists of scales and tables are counted. It does not parse."""
    text = re.sub(r"(palette[\d@+]*)\(([^()]{60,})\)", lambda m: f"{m[1]}({_tables_said(m[2])})", text)
    return re.sub(r"\[([^\[\]]{60,})\]", lambda m: f"[{m[1].count(',') + 1} values]", text)


def _tables_said(tables: str) -> str:
    count = tables.count("|") + 1
    return f"{count} tables" if count > 1 else f"{tables.count(',') + 1} entries"


def _axes(port: Port) -> str:
    time = "" if port.time_axis is None else f" time={port.time_axis}"
    return time + ("" if port.batch_axis is None else f" batch={port.batch_axis}")


def _print_node(graph: Graph, node: Node) -> str:
    results = "; ".join(f"{v}: {graph.types[v]}" for v in node.outputs)
    attrs = ", ".join(f"{key}={json.dumps(value)}" for key, value in node.attrs.items())
    name = "" if node.name == node.outputs[0] else f" as {json.dumps(node.name)}"
    source = f" from {json.dumps(node.source)}" if node.source else ""
    call = f"{node.op}({', '.join(v or '_' for v in node.inputs)})"
    return f"{results} = {call}" + (f" {{{attrs}}}" if attrs else "") + name + source


_QUOTED = r'"(?:[^"\\]|\\.)*"'
_HEAD = re.compile(r"graph (\S+) \{")
_PORT = re.compile(r"(\S+?)(?:: (.*?))?(?: time=(\d+))?(?: batch=(\d+))?")
_STATE = re.compile(r"(\S+): (\S+) -> (\S+) = (\S+): (.*)")
_NODE = re.compile(
    rf"(?P<results>.*) = (?P<op>\w+)\((?P<inputs>[^)]*)\)(?: \{{(?P<attrs>.*)\}})?"
    rf"(?: as (?P<name>{_QUOTED}))?(?: from (?P<source>{_QUOTED}))?"
)
_ATTR = re.compile(rf"(\w+)=({_QUOTED}|\[[^\]]*\]|[^,]+)(?:, )?")


def parse_graph(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Graph:
    """The graph that prints as `text`. Raises GraphError with the line that cannot be read.

    constants: arrays by name; without them every constant is zeros of its type.
    """
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    head = _HEAD.fullmatch(lines[0]) if lines else None
    if head is None or lines[-1] != "}":
        raise GraphError("a graph's text starts with 'graph NAME {' and ends with '}'")
    reader = _Reader()
    for line in lines[1:-1]:
        reader.read(line)
    values = {name: _constant(constants, name, reader.types[name]) for name in reader.constants}
    return Graph(
        head[1],
        tuple(reader.inputs),
        tuple(reader.outputs),
        tuple(reader.nodes),
        reader.types,
        values,
        tuple(reader.states),
    )


def _constant(given: Mapping[str, np.ndarray] | None, name: str, kind: TensorType) -> np.ndarray:
    if given is None:
        return np.zeros(kind.shape, storage(kind.dtype))  # type: ignore[arg-type]
    if name not in given:
        raise GraphError(f"the text names a constant {name!r} that the arrays do not hold")
    return given[name]


class _Reader:
    """Collects the lines of a graph's text."""

    def __init__(self) -> None:
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.states: list[State] = []
        self.nodes: list[Node] = []
        self.constants: list[str] = []
        self.types: dict[str, TensorType] = {}

    def read(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        kinds = {"input": self._port, "output": self._port, "state": self._state, "constant": self._constant}
        if word in kinds:
            kinds[word](word, rest)
        else:
            self._node(line)

    def _port(self, word: str, rest: str) -> None:
        match = _must(_PORT.fullmatch(rest), rest)
        if match[2]:
            self.types[match[1]] = parse_type(match[2])
        axes = tuple(None if g is None else int(g) for g in (match[3], match[4]))
        (self.inputs if word == "input" else self.outputs).append(Port(match[1], *axes))

    def _state(self, word: str, rest: str) -> None:
        match = _must(_STATE.fullmatch(rest), rest)
        self.states.append(State(match[1], match[2], match[3], match[4]))
        self.types[match[2]] = parse_type(match[5])

    def _constant(self, word: str, rest: str) -> None:
        name, _, kind = rest.partition(": ")
        self.types[name] = parse_type(kind)
        self.constants.append(name)

    def _node(self, line: str) -> None:
        match = _must(_NODE.fullmatch(line), line)
        outputs = []
        for result in match["results"].split("; "):
            name, _, kind = result.partition(": ")
            self.types[name] = parse_type(kind)
            outputs.append(name)
        inputs = tuple("" if v == "_" else v for v in match["inputs"].split(", ") if v)
        attrs = {k: _attr(_json(v)) for k, v in _ATTR.findall(match["attrs"] or "")}
        name, source = (_json(match[g]) if match[g] else "" for g in ("name", "source"))
        self.nodes.append(Node(match["op"], inputs, tuple(outputs), attrs, name, source))


def _attr(value: Attr | list[int]) -> Attr:
    return tuple(value) if isinstance(value, list) else value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise GraphError(f"this part of a graph's text cannot be read: {text!r}") from None


def _must(match: re.Match[str] | None, line: str) -> re.Match[str]:
    if match is None:
        raise GraphError(f"this line of a graph's text cannot be read: {line!r}")
    return match
