"""What a TFLite file keeps from run to run: the states of an LSTM, and variables for all others."""

import numpy as np

from nnaq.export.tflite_file import NO_TENSOR, Operator, Tensor
from nnaq.export.tflite_operators import only
from nnaq.export.tflite_writer import Refused, TfliteWriter
from nnaq.ir.graph import Node, State
from nnaq.kernels.lstm_numbers import by_name, is_coupled, is_normed, is_projected

TANH = 4
GATES = 4


def lstm(writer: TfliteWriter, node: Node) -> None:
    """UNIDIRECTIONAL_SEQUENCE_LSTM over frames [T,B,I], its states variables of the operator."""
    only(writer, node, "i8", values=(node.inputs[0], node.outputs[0]))
    graph, attrs = writer.graph, node.attrs
    if is_projected(attrs) or is_normed(attrs) or is_coupled(attrs):
        raise Refused("a projection, a normalisation or coupled gates, which tflite-micro's LSTM lacks")
    operand = by_name(attrs, node.inputs)
    if "cell_table" not in operand:
        raise Refused('its curves are not TFLite\'s; lower for a target with curves = "tflite"')
    x, (y, h, c) = node.inputs[0], node.outputs
    states = lstm_states(writer, node)
    units = graph.constants[operand["w_recurrent"]].shape[1]
    parts = [_gates(writer, operand[name]) for name in ("w_input", "w_recurrent")]
    biases = np.split(graph.constants[operand["bias"]], GATES)
    scales = [writer.file.tensors[w].scales[0] * np.float64(writer.kind(x).scale) for w in parts[0]]
    pairs = enumerate(zip(biases, scales, strict=True))
    bias = [
        writer.file.tensor(Tensor((units,), "int32", s, data=b, name=f"{y}:bias{g}")) for g, (b, s) in pairs
    ]
    batch, absent = writer.shape(x)[1], [NO_TENSOR]
    kept = [
        writer.tensor(value, (batch, units), state, variable=True)
        for value, state in zip((h, c), states, strict=True)
    ]
    operands = [writer.place(x), *parts[0], *parts[1], *absent * 3, *bias, *absent * 2, *kept, *absent * 4]
    result = writer.places[y] = writer.tensor(y)
    fields = {"fused_activation_function": TANH, "time_major": True}
    between = [writer.file.tensor(Tensor((0,), "int16", 2.0**-12)) for _ in range(GATES)]
    between.append(writer.tensor(h, (0,), f"{y}:hidden"))
    writer.add(
        Operator(
            "UNIDIRECTIONAL_SEQUENCE_LSTM", tuple(operands), (result,), "UnidirectionalSequenceLSTMOptions",
            fields, tuple(between), 3,
        )
    )  # fmt: skip


def lstm_states(writer: TfliteWriter, node: Node) -> list[str]:
    """The names of the two states that an LSTM keeps; reshapes around it are inside of it then."""
    operand, (_, h, c) = by_name(node.attrs, node.inputs), node.outputs
    return [_kept_state(writer, operand["h0"], h), _kept_state(writer, operand["c0"], c)]


def _gates(writer: TfliteWriter, value: str) -> list[int]:
    """The weights of the four gates, each with its one scale."""
    kind = writer.kind(value)
    assert kind.quant is not None
    scales = np.split(np.broadcast_to(np.array(kind.quant.scale), len(writer.graph.constants[value])), GATES)
    if any(len(set(part)) > 1 for part in scales):
        raise Refused(
            f"the rows of a gate of {value!r} have several scales; lower for a target with "
            'curves = "tflite", palettes with scale = "kept"'
        )
    parts = np.split(writer.graph.constants[value], GATES)
    return [
        writer.file.tensor(Tensor(p.shape, "int8", s[0], data=p, name=f"{value}:gate{g}"))
        for g, (p, s) in enumerate(zip(parts, scales, strict=True))
    ]


def _kept_state(writer: TfliteWriter, operand: str, result: str) -> str:
    """The state that an operator reads and makes through reshapes alone."""
    graph, before, after, inside = writer.graph, operand, result, []
    while before in graph.producer and graph.producer[before].op == "reshape":
        inside.append(graph.producer[before].name)
        before = graph.producer[before].inputs[0]
    found = {state.input: state for state in graph.states}.get(before)
    if found is None:
        raise Refused(f"{operand!r} is no state of the model, which tflite-micro's LSTM keeps itself")
    ports = {port.name for port in graph.outputs}
    while after != found.output and after not in ports:
        readers = graph.readers.get(after, ())
        if len(readers) != 1 or readers[0].op != "reshape":
            raise Refused(f"{result!r} is read beside the state {found.name!r}; read the LSTM's first result")
        inside.append(readers[0].name)
        (after,) = readers[0].outputs
    if after in ports or graph.readers.get(after):
        raise Refused(f"{after!r} is read beside the state {found.name!r}; read the LSTM's first result")
    _starts_at_zero(writer, found)
    writer.inside.update(inside)
    return found.name


def _starts_at_zero(writer: TfliteWriter, state: State) -> None:
    zero = writer.kind(state.input).zero_point
    if np.any(writer.graph.constants[state.initial] != zero):
        raise Refused(f"it starts with other codes than its zero_point {zero}, as no variable here does")


class Variables:
    """The states that no LSTM keeps: read before the first node, assigned after the last."""

    def __init__(self, writer: TfliteWriter) -> None:
        self.writer = writer
        self.handles: dict[int, str] = {}

    def read(self, state: State) -> None:
        writer = self.writer
        _starts_at_zero(writer, state)
        handle = writer.file.tensor(Tensor((1,), "resource", name=f"{state.name}:handle"))
        words = {"shared_name": state.name, "container": ""}
        writer.add(Operator("VAR_HANDLE", (), (handle,), "VarHandleOptions", words))
        value = writer.places[state.input] = writer.tensor(state.input)
        writer.file.operator("READ_VARIABLE", [handle], value, "ReadVariableOptions")
        self.handles[handle] = state.output

    def assign(self) -> None:
        for handle, value in self.handles.items():
            operands = (handle, self.writer.place(value))
            self.writer.add(Operator("ASSIGN_VARIABLE", operands, (), "AssignVariableOptions", {}))
