"""What a TFLite file keeps from run to run: variables, and the states of an LSTM."""

import numpy as np

from nnaq.frontends.ports import Unsupported
from nnaq.frontends.tflite_importer import Call
from nnaq.frontends.tflite_layers import symmetric
from nnaq.ir.types import Quant, TensorType
from nnaq.kernels import tflite_curves

# Operands of UNIDIRECTIONAL_SEQUENCE_LSTM, gates in the order i, f, g (cell), o.
W_INPUT, W_RECURRENT, BIAS = (1, 2, 3, 4), (5, 6, 7, 8), (12, 13, 14, 15)
HIDDEN, CELL = 18, 19
NOT_READ = (9, 10, 11, 16, 17, 20, 21, 22, 23)  # peepholes, projection, layer norm
TANH = 4


def handle_of(call: Call) -> None:
    """VAR_HANDLE: a resource tensor that stands for a variable."""
    call.walk.handles[call.node.outputs[0].index] = (call.options.SharedName() or b"").decode()


def _name(call: Call) -> str:
    if call.tensor(0).index not in call.walk.handles:
        raise Unsupported(f"its operand {call.tensor(0).name!r} is no variable")
    return call.walk.handles[call.tensor(0).index]


def read_variable(call: Call) -> None:
    """READ_VARIABLE: the value so far; the first read makes the state."""
    name, tensor = _name(call), call.node.outputs[0]
    variable = call.walk.state(name, tensor, call.walk.file.initial.get(name))
    call.bind(variable.value)
    call.walk.values[tensor.index] = variable.value


def assign_variable(call: Call) -> None:
    """ASSIGN_VARIABLE: the value that the next read gives."""
    name = _name(call)
    variable = call.walk.state(name, call.tensor(1), call.walk.file.initial.get(name))
    found, wanted = call.walk.builder.types[call.value(1)], call.walk.builder.types[variable.input]
    if (found.dtype, found.shape, found.quant) != (wanted.dtype, wanted.shape, wanted.quant):
        raise Unsupported(f"it puts {found} into variable {name!r}, which is {wanted}")
    variable.value = call.value(1)


def nothing(call: Call) -> None:
    """CALL_ONCE: what it assigns is read together with the file."""


def lstm(call: Call) -> None:
    """UNIDIRECTIONAL_SEQUENCE_LSTM with activations of int8 or int16 and a cell of int16."""
    _check(call)
    x, hidden, cell = call.kind(0), call.kind(HIDDEN), call.kind(CELL)
    fraction = round(-float(np.log2(cell.scale)))
    states = [call.walk.state(call.tensor(i).name, call.tensor(i)) for i in (HIDDEN, CELL)]
    inputs = [call.value(0)]
    if not call.options.TimeMajor():
        inputs[0] = call.step("transpose", inputs, {"perm": (1, 0, 2)}, x)
    inputs += [*(s.value for s in states), _gates(call, W_INPUT), _gates(call, W_RECURRENT)]
    units = int(hidden.shape[-1])
    recurrent = np.repeat(np.array(_scales(call, W_RECURRENT)), units)
    gain = tflite_curves.recurrent_multipliers(hidden, recurrent)
    sigmoid, tanh = tflite_curves.gate_tables()
    own = {
        "recurrent_multiplier": gain[0],
        "recurrent_shift": gain[1],
        "sigmoid_table": sigmoid,
        "tanh_table": tanh,
        "cell_table": tflite_curves.curve_of_cell(fraction),
    }
    scales = np.repeat(np.array(_scales(call, W_INPUT)) * x.scale, units)
    bias = np.concatenate([call.array(i).astype(np.float64) for i in BIAS]) * scales
    kinds = [call.result, hidden, cell]
    y, h, c = call.steps(
        "lstm", inputs, {}, kinds, {5: bias}, own, "double" if x.dtype == "i8" else "double_m16"
    )
    states[0].value, states[1].value = h, c
    call.bind(
        y if call.options.TimeMajor() else call.step("transpose", [y], {"perm": (1, 0, 2)}, call.result)
    )


def _check(call: Call) -> None:
    """Raise Unsupported for an LSTM that tflite-micro would not run with these integers."""
    extras = [position for position in NOT_READ if call.has(position)]
    if extras:
        raise Unsupported(f"operands {extras}", "peepholes, projection and layer norm are not read")
    options = call.options
    if options.FusedActivationFunction() != TANH or options.CellClip() or options.ProjClip():
        raise Unsupported("a clipped cell or another activation than tanh")
    if any(not call.tensor(i).is_variable for i in (HIDDEN, CELL)):
        raise Unsupported("its states are no variables of the file")
    hidden = call.kind(HIDDEN)
    if (hidden.dtype, hidden.quant) != (call.result.dtype, call.result.quant):
        raise Unsupported(f"a result {call.result} and a state {hidden}", "TFLite gives both one code type")
    wide = "INT32" if call.kind(0).dtype == "i8" else "INT64"
    if any(call.tensor(i).dtype != wide for i in BIAS):
        raise Unsupported("a bias of another width than TFLite's", f"give it {wide}")
    for position in (*W_INPUT, *W_RECURRENT):
        symmetric(call, position)


def _scales(call: Call, positions: tuple[int, ...]) -> list[float]:
    return [call.kind(i).scale for i in positions]


def _gates(call: Call, positions: tuple[int, ...]) -> str:
    """The weights of four gates end to end, with a scale per row."""
    parts = [call.array(i) for i in positions]
    scales = np.repeat(_scales(call, positions), [len(part) for part in parts])
    weight = np.concatenate(parts)
    kind = TensorType("i8", weight.shape, Quant(tuple(map(float, scales)), 0, 0))
    return call.weight(positions[0], weight, kind)
